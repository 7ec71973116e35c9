"""What becomes of readings over MQTT, whatever happens to their connection."""

from __future__ import annotations

import asyncio
from collections import Counter

from hypothesis import given, settings
from hypothesis import strategies as st

from simulator.batch import ACKED, UNKNOWN
from simulator.transports import Traffic
from simulator.transports.mqttlink import WINDOW, Link, Shared
from simulator.transports.mqttreading import Reading, together
from tests.simulator.fake_mqtt import Stub, at_once, readings_of

STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("send"), st.integers(1, 150)),
        st.tuples(st.just("acknowledge"), st.integers(1, 150)),
        st.tuples(st.just("connect"), st.integers(0, 400)),
        st.tuples(st.just("break"), st.just(0)),
    ),
    max_size=30,
)


@settings(deadline=None)
@given(STEPS)
def test_every_reading_is_told_once_and_published_in_order_whatever_breaks(steps):
    async def walk() -> None:
        done: list[Reading] = []
        shared = Shared(Traffic(), done.append, at_once, attempts=3)
        link = Link("h", 1, "d", lambda: None, shared)
        readings = readings_of(150 * len(steps))
        sent, stubs, acknowledged = 0, [], set()
        for what, number in [*steps, ("connect", 10_000), ("acknowledge", 10_000)]:
            if what == "send":
                for reading in readings[sent : sent + number]:
                    link.send(reading)
                sent += number
            elif what == "acknowledge":
                for _ in range(1 + number // WINDOW):
                    landing = list(link._sending)[:number]
                    acknowledged |= {link._sending[one].place for one in landing}
                    link._landed(landing)
            else:
                link._client = None
                link._requeue()
                if what == "connect":
                    stubs.append(Stub(number))
                    link._client = stubs[-1]
                    link._publish()
            assert link.in_flight == shared.in_flight <= WINDOW
            assert link.in_flight + link.queued + len(done) == sent
        assert sorted(one.place for one in done) == list(range(sent))
        for stub in stubs:
            places = list(map(int, stub.published))
            assert places == sorted(set(places))
        tries = Counter(int(payload) for stub in stubs for payload in stub.published)
        for one in done:
            assert (one.outcome == ACKED) == (one.place in acknowledged) == bool(one.acked_ns)
            assert one.attempts >= tries[one.place]
            assert one.maybe == (one.attempts > 1 or one.outcome == UNKNOWN)
        if link._watch is not None:
            link._watch.cancel()

    asyncio.run(walk())


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 9)), unique=True, min_size=1))
def test_readings_of_several_batches_become_one_with_all_that_is_known_of_them(chosen):
    batches = [readings_of(10) for _ in range(4)]
    readings = [batches[batch][place] for batch, place in chosen]
    for number, reading in enumerate(readings):
        reading.sent_ns, reading.acked_ns, reading.attempts = number + 1, number + 2, number % 3
        reading.outcome, reading.maybe = number % 3, bool(number % 2)
        reading.batch.rows["device"][reading.place] = number
    whole = together(readings)
    assert sorted(whole.rows["device"]) == list(range(len(readings)))
    for place, row in enumerate(whole.rows):
        reading = readings[row["device"]]
        assert (whole.payloads[place], whole.keys[place]) == (
            reading.payload, f"k{reading.place}",
        )  # fmt: skip
        assert row["seq"] == reading.place
        for name in ("sent_ns", "acked_ns", "attempts", "outcome", "maybe"):
            assert row[name] == getattr(reading, name)
