from __future__ import annotations

import asyncio
import time
from collections import Counter

import pytest

from fleetcast.errors import TargetError
from simulator import driver, engine, ledger
from simulator.batch import Batch
from simulator.engine import describe, drive
from simulator.events import read_events
from simulator.ledger import ACKED, FAILED, OUTCOMES, UNKNOWN
from simulator.transports import Traffic
from simulator.transports.null import NullTransport

FAST = [
    {"shape": "ramp", "start": 0, "end": 2000, "duration": "0.5s"},
    {"shape": "constant", "rate": 2000, "duration": "0.5s"},
]
# Longer than any test waits.
LONG = [{"shape": "constant", "rate": 1000, "duration": "10m"}]
FAULTS = [
    {"name": "broken", "kind": "corrupt", "share": 0.5, "start": "0.5s", "duration": "0.2s"},
    {"name": "late", "kind": "corrupt", "share": 0.5, "start": "0.9s", "duration": "1h"},
]


class Held:
    """A transport to a target that has stalled: it takes everything and answers nothing.

    What it holds is decided at the end: a reading counts as sent 5 seconds after it was due.
    """

    late_ns = 5_000_000_000

    def __init__(self, done) -> None:
        self.done = done
        self.held = []
        self.traffic = Traffic()
        self.opened = self.closed = False
        self.abandoned: list[float] = []

    async def __aenter__(self):
        self.opened = True
        return self

    async def __aexit__(self, *_):
        self.closed = True

    def send(self, batch):
        self.held.append(batch)

    async def drain(self):
        await self.finish(ACKED, self.backlog)

    async def abandon(self, grace_s):
        self.abandoned.append(grace_s)
        await self.finish(FAILED, self.backlog)

    async def finish(self, outcome, count):
        """Decides on the first readings that are held."""
        if not count:
            return
        held = Batch.joined(self.held)
        decided, rest = held.part(0, count), held.part(count, len(held))
        self.held = [rest] if len(rest) else []
        decided.rows["outcome"], decided.rows["attempts"] = OUTCOMES.index(outcome), 1
        decided.rows["sent_ns"] = decided.rows["due_ns"] + self.late_ns
        self.done(decided)

    @property
    def in_flight(self):
        return 0

    @property
    def backlog(self):
        return sum(map(len, self.held))


class Driven:
    """A run that is being driven, and what it has told so far."""

    def __init__(self, scenario, run, folder, make) -> None:
        scenario.save(folder / "scenario.yaml", run)
        self.folder = folder
        self.progress = []
        self.transport = None

        def keep(done):
            self.transport = make(done)
            return self.transport

        self.task = asyncio.create_task(
            drive(scenario, run, b"key", folder, keep, progress=self.progress.append)
        )

    def outcomes(self) -> Counter:
        return Counter(ledger.read(self.folder).column("outcome").to_pylist())


@pytest.fixture
def start(tmp_path, scenario_of, run_of):
    def go(make=NullTransport, *, part=None, wait_ms=0, **scenario) -> Driven:
        made = scenario_of(**scenario)
        start_ms = int(time.time() * 1000) + wait_ms
        return Driven(made, run_of(made, part, start_ms=start_ms), tmp_path, make)

    return go


@pytest.mark.asyncio
async def test_a_run_into_nowhere_is_complete_and_exact(start):
    driven = start(rate=FAST, faults=FAULTS)
    summary = await driven.task
    assert summary.run_id == "run-1"
    assert summary.complete
    assert (summary.sent, summary.acked, summary.failed, summary.unknown) == (1500, 1500, 0, 0)
    assert summary.target_rate == 1500
    assert summary.achieved_rate * summary.duration_s == pytest.approx(1500, rel=0.001)
    table = ledger.read(driven.folder)
    assert table.column("k").to_pylist() == list(range(1500))
    assert driven.outcomes() == {ACKED: 1500}
    last = driven.progress[-1]
    assert (last.total, last.released, last.sent, last.acked) == (1500, 1500, 1500, 1500)
    assert (last.failed, last.unknown, last.in_flight, last.backlog) == (0, 0, 0, 0)


@pytest.mark.asyncio
async def test_no_reading_leaves_before_it_is_due(start):
    driven = start(rate=FAST, wait_ms=200)
    await driven.task
    for row in ledger.read(driven.folder).to_pylist():
        assert row["sent_ns"] >= row["scheduled_ns"] - 1000


@pytest.mark.asyncio
async def test_a_run_that_should_have_begun_already_catches_up_at_once(start):
    driven = start(rate=FAST, wait_ms=-3_600_000)
    summary = await driven.task
    assert (summary.sent, summary.complete) == (1500, True)
    assert summary.schedule_lag_ms["p50"] > 3_000_000


@pytest.mark.asyncio
async def test_a_slice_sends_its_share_of_the_readings(start):
    driven = start(rate=FAST, part=(0, 10))
    summary = await driven.task
    assert (summary.sent, summary.target_rate) == (300, 300)
    devices = set(ledger.read(driven.folder).column("device").to_pylist())
    assert devices == {f"dev-{number:06d}" for number in range(10)}


@pytest.mark.asyncio
async def test_a_stalled_target_does_not_hold_back_the_schedule(start, eventually):
    class Gated(Held):
        def __init__(self, done):
            super().__init__(done)
            self.gate = asyncio.Event()

        async def drain(self):
            await self.gate.wait()
            await super().drain()

    driven = start(Gated, rate=FAST)
    await eventually(lambda: driven.transport is not None and driven.transport.backlog == 1500)
    assert all(progress.sent == 0 for progress in driven.progress)
    assert any(progress.backlog == progress.released > 0 for progress in driven.progress)
    assert driven.outcomes() == {UNKNOWN: 1500}
    driven.transport.gate.set()
    summary = await driven.task
    assert driven.transport.abandoned == []
    assert (summary.sent, summary.acked, summary.complete) == (1500, 1500, True)
    assert driven.outcomes() == {ACKED: 1500}


@pytest.mark.asyncio
async def test_lag_is_counted_from_the_time_at_which_a_reading_was_due(start):
    driven = start(Held, rate=FAST)
    summary = await driven.task
    lag = summary.schedule_lag_ms
    assert lag["max"] == pytest.approx(5000)
    assert lag["p50"] == pytest.approx(5000, rel=0.01)
    assert lag["p99"] == pytest.approx(5000, rel=0.01)
    table = ledger.read(driven.folder)
    late = [
        s - d
        for s, d in zip(
            *(table.column(n).to_pylist() for n in ("sent_ns", "scheduled_ns")), strict=True
        )
    ]
    assert set(late) == {Held.late_ns}


@pytest.mark.asyncio
async def test_the_rate_of_a_late_run_is_that_of_the_time_it_took(start):
    driven = start(Held, rate=FAST)
    summary = await driven.task
    # The last reading is due just before 1 s and sent 5 s later.
    assert summary.duration_s == pytest.approx(6, abs=0.002)
    assert summary.achieved_rate == pytest.approx(1500 / 6, rel=0.001)
    assert summary.rate_error_pct == pytest.approx(-100 * 5 / 6, abs=0.05)
    assert summary.target_rate == 1500


@pytest.mark.asyncio
async def test_a_cancelled_run_leaves_every_released_reading_with_an_outcome(start, eventually):
    driven = start(Held, rate=LONG)
    await eventually(lambda: driven.transport is not None and driven.transport.backlog >= 100)
    await driven.transport.finish(ACKED, 40)
    driven.task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await driven.task
    assert driven.transport.abandoned == [engine.GRACE_S]
    assert driven.transport.closed
    last = driven.progress[-1]
    assert last.released == last.sent == last.acked + last.failed
    assert driven.outcomes() == {ACKED: 40, FAILED: last.released - 40}
    assert ledger.read(driven.folder).column("k").to_pylist() == list(range(last.released))
    ended = read_events(driven.folder)[-1]
    assert ended["event"] == "run_ended"
    assert (ended["complete"], ended["sent"]) == (False, last.released)
    assert (ended["acked"], ended["failed"]) == (40, last.released - 40)


@pytest.mark.asyncio
async def test_a_run_that_is_cancelled_while_it_drains_has_its_outcomes_too(start, eventually):
    class Stuck(Held):
        async def drain(self):
            self.draining = True
            await asyncio.Event().wait()

    driven = start(Stuck, rate=FAST)
    await eventually(lambda: getattr(driven.transport, "draining", False))
    driven.task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await driven.task
    assert driven.outcomes() == {FAILED: 1500}


@pytest.mark.asyncio
async def test_a_second_interrupt_does_not_cost_the_last_rows(start, eventually):
    class Slow(Held):
        def __init__(self, done):
            super().__init__(done)
            self.go_on = asyncio.Event()

        async def abandon(self, grace_s):
            self.abandoned.append(grace_s)
            await self.go_on.wait()
            await self.finish(FAILED, self.backlog)

    driven = start(Slow, rate=LONG)
    await eventually(lambda: driven.transport is not None and driven.transport.backlog >= 100)
    driven.task.cancel()
    await eventually(lambda: driven.transport.abandoned)
    driven.task.cancel()
    await asyncio.sleep(0)
    driven.task.cancel()
    await asyncio.sleep(0)
    assert not driven.transport.closed
    driven.transport.go_on.set()
    with pytest.raises(asyncio.CancelledError):
        await driven.task
    assert driven.transport.abandoned == [engine.GRACE_S]
    assert driven.outcomes() == {FAILED: driven.progress[-1].released}


@pytest.mark.asyncio
async def test_a_transport_that_does_not_connect_ends_the_run_before_it_starts(start):
    class Closed(Held):
        async def __aenter__(self):
            raise TargetError("no local cloud answers")

    driven = start(Closed, rate=FAST)
    with pytest.raises(TargetError, match="no local cloud answers"):
        await driven.task
    assert driven.transport.held == []
    assert driven.outcomes() == {}
    assert read_events(driven.folder) == []


@pytest.mark.asyncio
async def test_readings_that_find_the_backlog_full_have_failed(start, monkeypatch):
    monkeypatch.setattr(driver, "MAX_BACKLOG", 1000)
    driven = start(Held, rate=FAST)
    summary = await driven.task
    table = ledger.read(driven.folder).to_pylist()
    taken = [row for row in table if row["outcome"] == ACKED]
    turned_away = [row for row in table if row["outcome"] == FAILED]
    assert len(taken) <= 1000
    assert len(taken) + len(turned_away) == 1500
    assert (summary.acked, summary.failed) == (len(taken), len(turned_away))
    assert all(row["sent_ns"] is None and row["attempts"] == 0 for row in turned_away)


@pytest.mark.asyncio
async def test_the_events_tell_the_run_in_order(start):
    driven = start(rate=FAST, faults=FAULTS)
    summary = await driven.task
    events = read_events(driven.folder)
    plain = [event for event in events if event["event"] != "progress"]
    started = plain[0]
    assert (started["event"], started["run"], started["total"]) == ("run_started", "run-1", 1500)
    begin = started["start_ms"]
    # The fault that would outlast the run ends with it.
    assert [
        (e["event"], e["t_ms"] - begin, e.get("index", e.get("name"))) for e in plain[1:-1]
    ] == [
        ("phase", 0, 0),
        ("fault_started", 500, "broken"),
        ("phase", 500, 1),
        ("fault_ended", 700, "broken"),
        ("fault_started", 900, "late"),
        ("fault_ended", 1000, "late"),
    ]
    assert plain[-1]["event"] == "run_ended"
    assert (plain[-1]["complete"], plain[-1]["acked"]) == (True, 1500)
    assert plain[-1]["schedule_lag_ms"] == summary.schedule_lag_ms
    assert any(event["event"] == "progress" for event in events)


@pytest.mark.asyncio
async def test_a_summary_fits_in_one_line(start):
    summary = await start(rate=FAST).task
    text = describe(summary)
    assert "sent 1,500 readings" in text
    assert "acked 1,500, failed 0, unknown 0" in text
    assert "\n" not in text
