from __future__ import annotations

import asyncio
from types import SimpleNamespace

import numpy as np
import pytest

from fleetcast.errors import TargetError
from fleetcast.target import Target
from simulator.ledger import ACKED, FAILED, OUTCOMES, UNKNOWN
from simulator.transports import kinesis
from simulator.transports.kinesis import KinesisTransport
from tests.simulator.fake_kinesis import FakeKinesis, ack_all, refuse_all

pytestmark = pytest.mark.asyncio
THROTTLED = "ProvisionedThroughputExceededException"


def error(status: int, code: str):
    return lambda _: (status, {"__type": code, "message": "no"})


@pytest.fixture
def readings(readings_of):
    def make(count: int, size: int = 10):
        return readings_of([f"{n:0{size}d}".encode() for n in range(count)], ["key"] * count)

    return make


@pytest.fixture(autouse=True)
def _quick(monkeypatch):
    monkeypatch.setattr(kinesis, "BACKOFF_S", (0.001, 0.01))


class Finished:
    """Takes what is decided, and gives it back in the order of the readings."""

    def __init__(self) -> None:
        self.batches = []

    def __call__(self, batch) -> None:
        self.batches.append(batch)

    def __len__(self) -> int:
        return sum(map(len, self.batches))

    @property
    def rows(self):
        rows = np.concatenate([batch.rows for batch in self.batches])
        return rows[np.argsort(rows["k"])]

    @property
    def fates(self) -> list[tuple[str, int]]:
        return [(OUTCOMES[row["outcome"]], int(row["attempts"])) for row in self.rows]


@pytest.fixture
def sent(readings):
    async def go(answers, count: int = 3, *, attempts: int = 3, size: int = 10):
        """Sends readings at a fake that answers so; (fates, requests that it saw, throttled)."""
        done = Finished()
        async with FakeKinesis() as fake:
            fake.answers = list(answers)
            target = Target.named("local", port=fake.port)
            async with KinesisTransport(target, "s", done, attempts=attempts) as transport:
                transport.send(readings(count, size))
                await asyncio.wait_for(transport.drain(), 60)
                assert (transport.in_flight, transport.backlog) == (0, 0)
                throttled = transport.traffic.throttled
        assert done.rows["k"].tolist() == list(range(count))
        return done.fates, fake.requests, throttled

    return go


@pytest.mark.parametrize("cut", ["close", "reset", "half"])
async def test_a_request_without_an_answer_is_unknown(sent, cut):
    out, requests, _ = await sent([cut], attempts=2)
    assert set(out) == {(UNKNOWN, 2)}
    assert len(requests) == 2


@pytest.mark.parametrize("cut", ["close", "reset", "half"])
async def test_what_has_no_answer_is_sent_again_and_may_be_acked_then(sent, cut):
    out, requests, _ = await sent([cut, ack_all])
    assert set(out) == {(ACKED, 2)}
    assert sorted(requests[0]) == sorted(requests[1])


@pytest.mark.parametrize(
    "after",
    [
        refuse_all(THROTTLED),
        refuse_all("NotARetriedError"),
        error(400, "AccessDeniedException"),
        error(500, "InternalFailure"),
    ],
)
async def test_what_may_have_landed_stays_unknown_when_it_is_refused_later(sent, after):
    out, _, _ = await sent(["close", after], attempts=2)
    assert set(out) == {(UNKNOWN, 2)}


@pytest.mark.parametrize("code", [THROTTLED, "InternalFailure", "KMSThrottlingException"])
async def test_single_readings_that_are_refused_for_now_are_sent_again_alone(sent, code):
    def first_only(records):
        acked, refused = ack_all(records)[1]["Records"], refuse_all(code)(records)[1]["Records"]
        return 200, {"FailedRecordCount": len(records) - 1, "Records": [*acked[:1], *refused[1:]]}

    out, requests, throttled = await sent([first_only, ack_all])
    assert out == [(ACKED, 1), (ACKED, 2), (ACKED, 2)]
    assert requests[1] == requests[0][1:]
    assert throttled == (2 if code == THROTTLED else 0)


async def test_single_readings_that_are_refused_for_good_have_failed(sent):
    out, requests, _ = await sent([refuse_all("SomethingElse")])
    assert set(out) == {(FAILED, 1)}
    assert len(requests) == 1


@pytest.mark.parametrize(
    ("status", "code"),
    [
        (500, "InternalFailure"),
        (503, "ServiceUnavailable"),
        (400, "ThrottlingException"),
        (400, THROTTLED),
        (400, "LimitExceededException"),
    ],
)
async def test_a_request_that_is_refused_for_now_is_sent_again(sent, status, code):
    out, requests, _ = await sent([error(status, code), error(status, code), ack_all])
    assert set(out) == {(ACKED, 3)}
    assert len(requests) == 3
    out, requests, _ = await sent([error(status, code)])
    assert set(out) == {(FAILED, 3)}
    assert len(requests) == 3


@pytest.mark.parametrize("status", [502, 503, 504])
async def test_an_error_page_of_a_proxy_is_tried_again(sent, status):
    out, _, _ = await sent([lambda _: (status, b"<html>no gateway</html>"), ack_all])
    assert set(out) == {(ACKED, 2)}


async def test_a_request_that_is_refused_for_good_has_failed(sent):
    out, requests, _ = await sent([error(400, "AccessDeniedException")])
    assert set(out) == {(FAILED, 1)}
    assert len(requests) == 1


@pytest.mark.parametrize(
    "answer",
    [
        lambda _: (200, b"<html>not Kinesis</html>"),
        lambda _: (200, {}),
        lambda _: (200, {"Records": []}),
        lambda _: (200, {"Records": None}),
        lambda _: (200, {"Records": [1, 2, 3]}),
        lambda _: (200, {"Records": [{}]}),
        lambda _: (200, [1]),
        lambda _: (200, b""),
    ],
)
async def test_an_answer_that_makes_no_sense_leaves_readings_unknown(sent, answer):
    out, _, _ = await sent([answer])
    assert {outcome for outcome, _ in out} == {UNKNOWN}


async def test_requests_hold_at_most_500_readings(sent):
    out, requests, _ = await sent([ack_all], 1201)
    assert set(out) == {(ACKED, 1)}
    assert sorted(len(request) for request in requests) == [201, 500, 500]
    assert sorted(payload for request in requests for payload in request) == [
        f"{n:010d}".encode() for n in range(1201)
    ]


async def test_requests_hold_at_most_five_megabytes(sent):
    out, requests, _ = await sent([ack_all], 12, size=1_000_000)
    assert set(out) == {(ACKED, 1)}
    assert sorted(len(request) for request in requests) == [2, 5, 5]


async def test_no_more_requests_than_allowed_are_on_their_way(eventually, readings):
    done = Finished()
    async with FakeKinesis() as fake:
        fake.answers = ["never"]
        target = Target.named("local", port=fake.port)
        async with KinesisTransport(target, "s", done, requests=2) as transport:
            transport.send(readings(1700))
            await eventually(lambda: len(fake.requests) == 2)
            assert (transport.in_flight, transport.backlog) == (1000, 700)
            await transport.abandon(0.01)
            assert (transport.in_flight, transport.backlog) == (0, 0)
        assert len(fake.requests) == 2
    assert done.rows["k"].tolist() == list(range(1700))
    assert done.fates == [(UNKNOWN, 1)] * 1000 + [(FAILED, 0)] * 700
    assert set(done.rows["sent_ns"][1000:].tolist()) == {0}


async def test_what_was_refused_so_far_has_failed_when_the_run_is_abandoned(
    eventually, monkeypatch, readings
):
    monkeypatch.setattr(kinesis, "random", SimpleNamespace(uniform=lambda _, high: 1e6))
    done = Finished()
    async with FakeKinesis() as fake:
        fake.answers = [refuse_all(THROTTLED)]
        target = Target.named("local", port=fake.port)
        async with KinesisTransport(target, "s", done) as transport:
            transport.send(readings(5))
            await eventually(lambda: transport.traffic.throttled == 5)
            await transport.abandon(0.01)
    assert done.fates == [(FAILED, 1)] * 5


async def test_what_was_refused_does_not_hold_the_place_of_a_request(monkeypatch, readings):
    monkeypatch.setattr(kinesis, "random", SimpleNamespace(uniform=lambda _, high: 1e6))
    done = Finished()
    arrived = asyncio.Event()

    def take(finished):
        done(finished)
        if len(done) == 300:
            arrived.set()

    async with FakeKinesis() as fake:
        fake.answers = [refuse_all(THROTTLED), ack_all]
        target = Target.named("local", port=fake.port)
        async with KinesisTransport(target, "s", take, requests=1) as transport:
            transport.send(readings(800))
            await asyncio.wait_for(arrived.wait(), 60)
            assert transport.in_flight == 500
            await transport.abandon(0.01)
    assert done.fates == [(FAILED, 1)] * 500 + [(ACKED, 1)] * 300


@pytest.mark.parametrize("code", ["AccessDeniedException", "UnrecognizedClientException"])
async def test_missing_permissions_are_told_before_anything_is_sent(code):
    async with FakeKinesis() as fake:
        fake.described = (400, {"__type": code, "message": "no"})
        with pytest.raises(TargetError) as caught:
            async with KinesisTransport(Target.named("local", port=fake.port), "s", list):
                pytest.fail("it connected")
    assert str(caught.value) == (
        f"stream s on http://127.0.0.1:{fake.port}: {code}: "
        "check the permissions of your credentials"
    )


async def test_books_that_break_end_the_run_instead_of_leaving_it_waiting(readings):
    def broken(_):
        raise RuntimeError("the books are broken")

    async with FakeKinesis() as fake:
        target = Target.named("local", port=fake.port)
        async with KinesisTransport(target, "s", broken) as transport:
            transport.send(readings(3))
            with pytest.raises(RuntimeError, match="the books are broken"):
                await asyncio.wait_for(transport.drain(), 60)
