"""Drives a run: the fleet's readings, released when they are due, into a transport and a ledger.

The loop is open: what is due is released whether or not the target keeps up. Behind a slow target
a backlog grows, in sight; the schedule never waits for it. Lateness is measured from the time at
which a reading was due, so a stall shows in full (no coordinated omission).
"""

from __future__ import annotations

import asyncio
import contextlib
import heapq
import time
from collections import deque
from dataclasses import dataclass, replace
from itertools import count
from typing import TYPE_CHECKING, Any

import numpy as np
from botocore.exceptions import BotoCoreError, ClientError

from fleetcast.errors import TargetError
from simulator.codec import Encoder
from simulator.events import EventLog
from simulator.fleet import Fleet
from simulator.histogram import Histogram
from simulator.ledger import ACKED, FAILED, LedgerWriter, Row, scheduled_ns
from simulator.transports import Outgoing
from simulator.transports.kinesis import KinesisTransport

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterator, Sequence
    from pathlib import Path

    from fleetcast.target import Target
    from simulator.fleet import Block
    from simulator.scenario import RunInfo, Scenario
    from simulator.transports import Done, Transport
    from stack.outputs import StackOutputs

TICK_S = 0.005
AHEAD = 2000
BLOCK = 256
REPORT_S = 0.5
EVENT_S = 1.0
GRACE_S = 3.0
# Released readings that wait for a slow target, with their payloads, are kept in memory.
MAX_BACKLOG = 1_000_000


@dataclass(frozen=True, slots=True)
class Progress:
    """Where a run is."""

    elapsed_s: float
    duration_s: float
    total: int
    released: int
    sent: int
    acked: int
    failed: int
    unknown: int
    in_flight: int
    backlog: int
    rate_per_s: float
    target_rate_per_s: float
    lag_p99_ms: float


@dataclass(frozen=True, slots=True)
class RunSummary:
    """What a run came to. Rates in readings per second, times in milliseconds."""

    run_id: str
    complete: bool
    sent: int
    acked: int
    failed: int
    unknown: int
    duration_s: float
    target_rate: float
    achieved_rate: float
    rate_error_pct: float
    schedule_lag_ms: dict[str, float]


def describe(summary: RunSummary) -> str:
    """A summary in one line for a person."""
    lag = summary.schedule_lag_ms
    return (
        f"sent {summary.sent:,} readings in {summary.duration_s:.1f} s: acked {summary.acked:,}, "
        f"failed {summary.failed:,}, unknown {summary.unknown:,}; "
        f"{summary.achieved_rate:,.1f}/s of {summary.target_rate:,.1f}/s "
        f"({summary.rate_error_pct:+.2f} %), "
        f"schedule lag p50 {lag['p50']:.0f} ms, p99 {lag['p99']:.0f} ms, max {lag['max']:.0f} ms"
    )


class Book:
    """Keeps count of outcomes and writes them to the ledger."""

    def __init__(self, ledger: LedgerWriter) -> None:
        self._ledger = ledger
        self.lag = Histogram()
        self.counts = {ACKED: 0, FAILED: 0, "unknown": 0}
        self.last_sent_ns = 0

    @property
    def sent(self) -> int:
        """Readings with an outcome."""
        return sum(self.counts.values())

    def done(self, readings: Sequence[Outgoing]) -> None:
        """Takes readings whose outcome is decided."""
        lags = []
        for reading in readings:
            row = reading.row
            self.counts[row.outcome] += 1
            if row.sent_ns is not None:
                lags.append((row.sent_ns - row.scheduled_ns) / 1e9)
                self.last_sent_ns = max(self.last_sent_ns, row.sent_ns)
        self.lag.record(np.array(lags, dtype=np.float64))
        self._ledger.record(reading.row for reading in readings)


@dataclass(frozen=True, slots=True)
class Slot:
    """One place in the schedule: when it is due, and what is sent for it.

    Attributes:
        due_ns: When it is due, epoch nanoseconds. What is held back is scheduled later than that.
        readings: The reading, as often as it is sent: not at all, once, or several times.
    """

    due_ns: int
    readings: tuple[Outgoing, ...]


def slots(fleet: Fleet, block: Block, payloads: Sequence[bytes]) -> Iterator[Slot]:
    """The places of a block in the schedule, in order."""
    sends = None if block.sends is None else block.sends.tolist()
    for index, reading in enumerate(outgoing(fleet, block, payloads)):
        due_ns = scheduled_ns(fleet.run.start_ms, float(block.scheduled_s[index]))
        times = 1 if sends is None else sends[index]
        copies = (replace(reading, row=replace(reading.row)) for _ in range(times - 1))
        yield Slot(due_ns, (reading, *copies) if times else ())


def outgoing(fleet: Fleet, block: Block, payloads: Sequence[bytes]) -> Iterator[Outgoing]:
    """The readings of a block, each once, with the ledger rows that they become."""
    delay_s = None if block.delay_s is None else block.delay_s.tolist()
    keys = block.partition_key
    faults = ["", *(fault.name for fault in fleet.scenario.faults)]
    start_ms = fleet.run.start_ms
    for index, payload in enumerate(payloads):
        device = fleet.device_ids[int(block.device_index[index])]
        row = Row(
            int(block.k[index]),
            device,
            int(block.seq[index]),
            int(block.ts_ms[index]) * 1_000_000,
            scheduled_ns(
                start_ms,
                float(block.scheduled_s[index]) + (0.0 if delay_s is None else delay_s[index]),
            ),
            faults[int(block.fault[index])],
        )
        yield Outgoing(payload, device if keys is None else keys[index], row)


async def signing_key(target: Target, outputs: StackOutputs) -> bytes:
    """The key that readings are signed with, from the stack's secret.

    Raises:
        TargetError: it cannot be read.
    """
    try:
        async with target.client(
            "secretsmanager", connect_timeout=5, retries={"total_max_attempts": 2}
        ) as client:
            answer = await client.get_secret_value(SecretId=outputs.signing_secret_arn)
    except (ClientError, BotoCoreError, OSError) as error:
        raise TargetError(key_unreadable(target, error)) from error
    return str(answer["SecretString"]).encode()


def key_unreadable(target: Target, error: Exception) -> str:
    """What is wrong where the signing key cannot be read, and what to do."""
    where = target.endpoint_url or f"AWS in {target.region}"
    return f"cannot read the signing key on {where}: {error}; is the stack deployed there?"


async def simulate(
    scenario: Scenario,
    run: RunInfo,
    outputs: StackOutputs,
    target: Target,
    run_dir: Path,
    *,
    progress: Callable[[Progress], None],
) -> RunSummary:
    """Drives a scenario at a deployed stack.

    A cancelled run releases nothing more, waits a moment for what is on its way, and closes its
    ledger; what has no answer by then is `unknown` in it.

    Args:
        scenario: What is driven.
        run: Its identity; the schedule starts at `run.start_ms`, or at once if that is past.
        outputs: The stack.
        target: Where it is.
        run_dir: The run's folder.
        progress: Is told about twice a second.

    Raises:
        TargetError: the stack cannot be sent to; nothing was sent.
    """
    key = await signing_key(target, outputs)
    scenario.save(run_dir / "scenario.yaml", run)

    def kinesis(done: Done) -> Transport:
        return KinesisTransport(target, outputs.stream_name, done)

    return await drive(scenario, run, key, run_dir, kinesis, progress=progress)


async def drive(
    scenario: Scenario,
    run: RunInfo,
    key: bytes,
    run_dir: Path,
    make_transport: Callable[[Done], Transport],
    *,
    progress: Callable[[Progress], None],
) -> RunSummary:
    """Drives a scenario into any transport; see `simulate`."""
    fleet = Fleet(scenario, run)
    events = EventLog(run_dir)
    with LedgerWriter(run_dir, run.id, run.devices_slice) as ledger:
        book = Book(ledger)
        async with make_transport(book.done) as transport:
            driver = _Driver(fleet, Encoder(fleet, key), transport, ledger, book, events, progress)
            events.add("run_started", run=run.id, start_ms=run.start_ms, total=fleet.total)
            complete = False
            try:
                await driver.run()
                await transport.drain()
                complete = True
            finally:
                if not complete:
                    await _to_its_end(transport.abandon(GRACE_S))
                ledger.flush()
                summary = driver.summary(complete=complete)
                events.add("run_ended", **_summary_event(summary))
                driver.report()
    return summary


async def _to_its_end(work: Coroutine[Any, Any, None]) -> None:
    """Awaits work; another cancellation must not cost the ledger its last rows."""
    task = asyncio.create_task(work)
    while not task.done():
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.shield(task)
    task.result()


def _summary_event(summary: RunSummary) -> dict[str, Any]:
    return {name: getattr(summary, name) for name in RunSummary.__slots__}


class _Driver:
    def __init__(  # noqa: PLR0917 - the parts that it connects
        self,
        fleet: Fleet,
        encoder: Encoder,
        transport: Transport,
        ledger: LedgerWriter,
        book: Book,
        events: EventLog,
        progress: Callable[[Progress], None],
    ) -> None:
        self._fleet = fleet
        self._encoder = encoder
        self._transport = transport
        self._ledger = ledger
        self._book = book
        self._events = events
        self._progress = progress
        self._start_s = fleet.run.start_ms / 1000
        self._ready: deque[Slot] = deque()
        self._order = count()
        self._held: list[tuple[int, int, Outgoing]] = []
        self._due_sends = 0
        self._blocks = fleet.blocks(size=BLOCK)
        self._released = 0
        self._next_report_s = 0.0
        self._next_event_s = 0.0
        self._recent: deque[tuple[float, int]] = deque(maxlen=8)
        self._marks = sorted(self._timeline(), key=lambda mark: mark[:2])

    def _timeline(self) -> Iterator[tuple[float, str, dict[str, Any]]]:
        """(seconds, event, details) of what the schedule holds."""
        at_s = 0.0
        for index, phase in enumerate(self._fleet.scenario.rate):
            details = {"index": index, **phase.model_dump(mode="json")}
            yield at_s, "phase", details
            at_s += phase.duration
        for fault in self._fleet.scenario.faults:
            details = {"name": fault.name, "kind": fault.kind}
            yield fault.start, "fault_started", details
            end_s = min(fault.end_s, self._fleet.profile.duration_s)
            yield end_s, "fault_ended", details

    def _elapsed_s(self) -> float:
        return time.time() - self._start_s

    async def run(self) -> None:
        """Releases every reading when it is due."""
        self._refill()
        await asyncio.sleep(max(0.0, -self._elapsed_s()))
        while self._released < self._fleet.total or self._held:
            now_s = self._elapsed_s()
            self._release(now_s)
            self._tell(now_s)
            self._refill()
            await asyncio.sleep(TICK_S)
        while (now_s := self._elapsed_s()) < self._fleet.profile.duration_s:
            self._tell(now_s)
            await asyncio.sleep(min(0.1, self._fleet.profile.duration_s - now_s))
        self._tell(self._elapsed_s())

    def _refill(self) -> None:
        """Encodes a block where few readings are ready: little at a time, ahead of need."""
        while len(self._ready) < AHEAD:
            block = next(self._blocks, None)
            if block is None:
                return
            self._ready.extend(slots(self._fleet, block, self._encoder.encode(block)))

    def _release(self, now_s: float) -> None:
        """Hands over what is due, however much that is."""
        now_ns = round((self._start_s + now_s) * 1e9)
        while True:
            due = 0
            for slot in self._ready:
                if slot.due_ns > now_ns:
                    break
                due += 1
            batch = self._taken(due, now_ns)
            if due:
                self._released += due
                self._ledger.release(self._released)
            self._hand_over(batch)
            if not due or self._ready:
                return
            self._refill()
            if not self._ready:
                return

    def _taken(self, due: int, now_ns: int) -> list[Outgoing]:
        """Takes slots that are due; returns what is to be sent now, of them and of what was held."""
        batch: list[Outgoing] = []
        for _ in range(due):
            slot = self._ready.popleft()
            self._due_sends += len(slot.readings)
            for reading in slot.readings:
                if reading.row.scheduled_ns > now_ns:
                    entry = (reading.row.scheduled_ns, next(self._order), reading)
                    heapq.heappush(self._held, entry)
                else:
                    batch.append(reading)
        while self._held and self._held[0][0] <= now_ns:
            batch.append(heapq.heappop(self._held)[2])
        return batch

    def _hand_over(self, batch: list[Outgoing]) -> None:
        if not batch:
            return
        if self._transport.backlog + len(batch) > MAX_BACKLOG:
            for reading in batch:
                reading.row.outcome = FAILED
            self._book.done(batch)
        else:
            self._transport.send(batch)

    def _tell(self, now_s: float) -> None:
        while self._marks and self._marks[0][0] <= now_s:
            at_s, event, details = self._marks.pop(0)
            self._events.add(event, t_ms=int((self._start_s + at_s) * 1000), **details)
        if now_s >= self._next_report_s:
            self._next_report_s = now_s + REPORT_S
            self._recent.append((now_s, self._book.sent))
            self.report()
        if now_s >= self._next_event_s:
            self._next_event_s = now_s + EVENT_S
            current = self._current(now_s)
            self._events.add(
                "progress",
                t=round(now_s, 3),
                due=self._released,
                sent=current.sent,
                acked=current.acked,
                failed=current.failed,
                in_flight=current.in_flight,
                backlog=current.backlog,
                rate=round(current.rate_per_s, 1),
                target_rate=round(current.target_rate_per_s, 1),
                lag_p99_ms=round(current.lag_p99_ms, 2),
            )

    def report(self) -> None:
        """Tells the progress."""
        self._progress(self._current(self._elapsed_s()))

    def _current(self, now_s: float) -> Progress:
        counts = self._book.counts
        rate = 0.0
        if len(self._recent) > 1:
            (then_s, then), (last_s, last) = self._recent[0], self._recent[-1]
            rate = (last - then) / (last_s - then_s)
        profile = self._fleet.profile
        share = self._fleet.total / max(1, profile.total)
        return Progress(
            elapsed_s=min(max(0.0, now_s), profile.duration_s),
            duration_s=profile.duration_s,
            total=self._fleet.total,
            released=self._released,
            sent=self._book.sent,
            acked=counts[ACKED],
            failed=counts[FAILED],
            unknown=counts["unknown"],
            in_flight=self._transport.in_flight,
            backlog=self._transport.backlog,
            rate_per_s=rate,
            target_rate_per_s=profile.rate_at(now_s) * share,
            lag_p99_ms=self._book.lag.percentile_s(99) * 1000,
        )

    def summary(self, *, complete: bool) -> RunSummary:
        """What the run came to."""
        profile, lag = self._fleet.profile, self._book.lag
        last_s = self._book.last_sent_ns / 1e9 - self._start_s
        planned_s = profile.duration_s if complete else max(0.001, min(last_s, profile.duration_s))
        elapsed_s = max(planned_s, last_s)
        share = self._fleet.total / max(1, profile.total)
        # What faults leave out or send again is in the schedule, too.
        sends = self._due_sends / max(1, self._released)
        target = profile.count_by(planned_s) * share * sends / planned_s
        achieved = self._book.sent / elapsed_s
        counts = self._book.counts
        return RunSummary(
            run_id=self._fleet.run.id,
            complete=complete,
            sent=self._book.sent,
            acked=counts[ACKED],
            failed=counts[FAILED],
            unknown=counts["unknown"],
            duration_s=round(elapsed_s, 3),
            target_rate=round(target, 3),
            achieved_rate=round(achieved, 3),
            rate_error_pct=round((achieved / target - 1) * 100, 4) if target else 0.0,
            schedule_lag_ms={
                "p50": round(lag.percentile_s(50) * 1000, 3),
                "p99": round(lag.percentile_s(99) * 1000, 3),
                "max": round(lag.max_s * 1000, 3),
            },
        )
