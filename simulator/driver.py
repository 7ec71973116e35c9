"""The schedule's clockwork: encodes a little ahead of need, and releases what is due.

Nothing here waits for the target: what is due is handed to the transport, whose backlog grows when
the target is slow.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

from simulator.batch import FAILED
from simulator.fleet import MAX_BLOCK
from simulator.measure import Progress, RunSummary, milliseconds, traffic_of
from simulator.schedule import Schedule
from simulator.transports import Prepares

if TYPE_CHECKING:
    from simulator.codec import Encoder
    from simulator.fleet import Fleet
    from simulator.ledger import LedgerWriter
    from simulator.measure import Book
    from simulator.telling import Teller
    from simulator.transports import Transport

TICK_S = 0.005
# Encoded ahead of need: enough for a stutter of the machine, in blocks that take little time each.
AHEAD_S, AHEAD = 0.2, 2000
BLOCK_S, BLOCK = 0.05, 256
BLOCKS_AT_ONCE = 2
# Released readings that wait for a slow target, with their payloads, are kept in memory.
MAX_BACKLOG = 1_000_000


class Driver:
    """Drives the readings of a fleet into a transport.

    Args:
        fleet: Whose readings.
        encoder: Makes payloads of them.
        transport: Where they go.
        ledger: Is told what is released.
        book: Keeps count.
        teller: Tells how it goes.
    """

    def __init__(
        self,
        fleet: Fleet,
        encoder: Encoder,
        transport: Transport,
        ledger: LedgerWriter,
        book: Book,
        teller: Teller,
    ) -> None:
        self._fleet = fleet
        self._encoder = encoder
        self._transport = transport
        self._ledger = ledger
        self._book = book
        self._teller = teller
        self._start_s = fleet.run.start_ms / 1000
        self._share = fleet.total / max(1, fleet.profile.total)
        peak = fleet.profile.peak * self._share
        self._ahead = int(max(AHEAD, peak * AHEAD_S))
        size = int(min(MAX_BLOCK, max(BLOCK, peak * BLOCK_S)))
        self._block = size
        prepared = (transport.ahead,) if isinstance(transport, Prepares) else ()
        self._schedule = Schedule(fleet, encoder, size, *prepared)

    def _elapsed_s(self) -> float:
        return time.time() - self._start_s

    async def run(self) -> None:
        """Releases every reading when it is due."""
        schedule = self._schedule
        schedule.refill(self._ahead, self._ahead)
        await asyncio.sleep(max(0.0, -self._elapsed_s()))
        while not schedule.ended:
            now_s = self._elapsed_s()
            self._release(now_s)
            self._teller.tell(now_s, self._current)
            behind = not schedule.ready
            schedule.refill(self._ahead, self._block * BLOCKS_AT_ONCE)
            # Behind the schedule nothing is waited for, but the transport has its turn.
            await asyncio.sleep(0 if behind and schedule.ready else TICK_S)
        while (now_s := self._elapsed_s()) < self._fleet.profile.duration_s:
            self._teller.tell(now_s, self._current)
            await asyncio.sleep(min(0.1, self._fleet.profile.duration_s - now_s))
        self._teller.tell(self._elapsed_s(), self._current)

    def _release(self, now_s: float) -> None:
        """Hands over what is due, however much that is."""
        now_ns = round((self._start_s + now_s) * 1e9)
        before = self._schedule.released
        leaving = self._schedule.take(now_ns)
        if leaving or self._schedule.released > before:
            self._ledger.release(self._schedule.released, now_ns)
        for batch in leaving:
            if self._transport.backlog + len(batch) > MAX_BACKLOG:
                batch.rows["outcome"] = FAILED
                self._book.done(batch)
            else:
                self._transport.send(batch)

    def report(self) -> None:
        """Tells the progress."""
        self._teller.last(self._current(self._elapsed_s()))

    def _current(self, now_s: float) -> Progress:
        profile, book, traffic = self._fleet.profile, self._book, self._transport.traffic
        return Progress(
            elapsed_s=min(max(0.0, now_s), profile.duration_s),
            duration_s=profile.duration_s,
            total=self._fleet.total,
            released=self._schedule.released,
            sent=book.sent,
            acked=book.acked,
            failed=book.failed,
            unknown=book.unknown,
            in_flight=self._transport.in_flight,
            backlog=self._transport.backlog,
            rate_per_s=0.0,
            target_rate_per_s=profile.rate_at(now_s) * self._share,
            lag_p99_ms=book.lag.percentile_s(99) * 1000,
            latency_p99_ms=book.latency.percentile_s(99) * 1000,
            retries=traffic.retries,
            throttled=traffic.throttled,
            errors=traffic.errors,
            bytes=traffic.bytes,
            window=traffic.window,
            shards=book.shares(),
        )

    def summary(self, *, complete: bool) -> RunSummary:
        """What the run came to."""
        profile, book = self._fleet.profile, self._book
        last_s = book.last_sent_ns / 1e9 - self._start_s
        planned_s = profile.duration_s if complete else max(0.001, min(last_s, profile.duration_s))
        elapsed_s = max(planned_s, last_s)
        # What devices never send, and what they send again, is in the rate that was asked for.
        sends = self._schedule.sends / max(1, self._schedule.released)
        target = profile.count_by(planned_s) * self._share * sends / planned_s
        achieved = book.sent / elapsed_s
        return RunSummary(
            run_id=self._fleet.run.id,
            complete=complete,
            sent=book.sent,
            acked=book.acked,
            failed=book.failed,
            unknown=book.unknown,
            duration_s=round(elapsed_s, 3),
            target_rate=round(target, 3),
            achieved_rate=round(achieved, 3),
            rate_error_pct=round((achieved / target - 1) * 100, 4) if target else 0.0,
            schedule_lag_ms=milliseconds(book.lag),
            latency_ms=milliseconds(book.latency),
            withheld=self._schedule.withheld,
            shards=book.shares(),
            **traffic_of(self._transport.traffic),
        )
