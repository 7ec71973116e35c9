"""What a run measures: outcomes, lag and latency, and what is told of them while it goes on.

Lag is from when a reading should have left until it was sent, latency from the same time until it
was acknowledged. Both count what a stalled target adds (no coordinated omission).
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from simulator.batch import ACKED, FAILED, UNKNOWN, Batch
from simulator.histogram import Histogram

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from simulator.ledger import LedgerWriter
    from simulator.transports import Traffic


@dataclass(frozen=True, slots=True)
class Progress:
    """Where a run is. `shards` has what part of the acknowledged readings each shard took."""

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
    latency_p99_ms: float = 0.0
    retries: int = 0
    throttled: int = 0
    errors: int = 0
    bytes: int = 0
    window: int = 0
    shards: dict[str, float] = field(default_factory=dict)


NOTHING_YET = Progress(0.0, 0.0, 0, 0, 0, 0, 0, 0, 0, 0, 0.0, 0.0, 0.0)


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
    latency_ms: dict[str, float] = field(default_factory=dict)
    requests: int = 0
    records: int = 0
    retries: int = 0
    throttled: int = 0
    errors: int = 0
    bytes: int = 0
    last_error: str = ""
    withheld: int = 0
    shards: dict[str, float] = field(default_factory=dict)


def describe(summary: RunSummary) -> str:
    """A summary in one line for a person."""
    lag = summary.schedule_lag_ms
    text = (
        f"sent {summary.sent:,} readings in {summary.duration_s:.1f} s: acked {summary.acked:,}, "
        f"failed {summary.failed:,}, unknown {summary.unknown:,}; "
        f"{summary.achieved_rate:,.1f}/s of {summary.target_rate:,.1f}/s "
        f"({summary.rate_error_pct:+.2f} %), "
        f"schedule lag p50 {lag['p50']:.0f} ms, p99 {lag['p99']:.0f} ms, max {lag['max']:.0f} ms"
    )
    if summary.retries:
        text += f"; {summary.retries:,} sent again, {summary.throttled:,} throttled"
    if summary.last_error and summary.acked < summary.sent:
        text += f"; last error: {summary.last_error}"
    return text


class Book:
    """Keeps count of outcomes and writes them to the ledger."""

    def __init__(self, ledger: LedgerWriter) -> None:
        self._ledger = ledger
        self._copies: dict[int, list[Batch]] = {}
        self.lag = Histogram()
        self.latency = Histogram()
        self._shards: Counter[str | None] = Counter()
        self.last_sent_ns = 0
        self.acked = self.failed = self.unknown = 0

    @property
    def sent(self) -> int:
        """Readings with an outcome."""
        return self.acked + self.failed + self.unknown

    def done(self, batch: Batch) -> None:
        """Takes readings whose outcome is decided; copies of one reading become one."""
        if (batch.rows["sends"] > 1).any():
            for one in self._merged(batch):
                self._done(one)
        else:
            self._done(batch)

    def _merged(self, batch: Batch) -> list[Batch]:
        """What can be told of a batch in which some readings are sent more than once."""
        often = batch.rows["sends"] > 1
        told = [batch.take(np.flatnonzero(~often))] if not often.all() else []
        for place in np.flatnonzero(often).tolist():
            one = batch.take(np.array([place]))
            copies = self._copies.setdefault(int(one.rows["k"][0]), [])
            copies.append(one)
            if len(copies) == one.rows["sends"][0]:
                told.append(_as_one(self._copies.pop(int(one.rows["k"][0]))))
        return told

    def settle(self) -> None:
        """Tells readings of which not every copy was sent: nothing more will come of them."""
        waiting, self._copies = self._copies, {}
        for copies in waiting.values():
            self._done(_as_one(copies))

    def _done(self, batch: Batch) -> None:
        rows = batch.rows
        counts = np.bincount(rows["outcome"], minlength=3).tolist()
        self.acked += counts[ACKED]
        self.failed += counts[FAILED]
        self.unknown += counts[UNKNOWN]
        sent_ns, acked_ns, due_ns = rows["sent_ns"], rows["acked_ns"], rows["due_ns"]
        self.last_sent_ns = max(self.last_sent_ns, int(sent_ns.max(initial=0)))
        self.lag.record(_seconds(sent_ns, due_ns))
        self.latency.record(_seconds(acked_ns, due_ns))
        if batch.shards is not None:
            self._shards.update(batch.shards)
        self._ledger.record(batch)

    def shares(self) -> dict[str, float]:
        """Shard to its part of what was acknowledged."""
        counts = {shard: count for shard, count in self._shards.items() if shard is not None}
        total = sum(counts.values())
        return {shard: round(count / total, 4) for shard, count in sorted(counts.items())}


def _seconds(end_ns: NDArray[np.int64], due_ns: NDArray[np.int64]) -> NDArray[np.float64]:
    """How much later than due, where it came to that."""
    there = end_ns > 0
    if there.all():
        return (end_ns - due_ns) / 1e9
    return (end_ns[there] - due_ns[there]) / 1e9


def _as_one(copies: list[Batch]) -> Batch:
    """One reading of its copies: acknowledged if one of them is, unknown if one may be there."""
    ranks = {ACKED: 2, UNKNOWN: 1, FAILED: 0}
    best = max(copies, key=lambda copy: ranks[int(copy.rows["outcome"][0])])
    rows = best.rows.copy()
    rows["attempts"] = sum(int(copy.rows["attempts"][0]) for copy in copies)
    sent = [int(copy.rows["sent_ns"][0]) for copy in copies if copy.rows["sent_ns"][0]]
    rows["sent_ns"] = min(sent, default=0)
    return Batch(rows, best.payloads, best.keys, best.largest, best.shards, best.sequence_numbers)


def milliseconds(times: Histogram) -> dict[str, float]:
    """Percentiles of a histogram for a summary."""
    told = {f"p{p}": round(times.percentile_s(p) * 1000, 3) for p in (50, 90, 99)}
    return {
        **told,
        "p99.9": round(times.percentile_s(99.9) * 1000, 3),
        "max": round(times.max_s * 1000, 3),
    }


def traffic_of(traffic: Traffic) -> dict[str, Any]:
    """The counters of a transport, for a summary."""
    names = ("requests", "records", "retries", "throttled", "errors", "bytes", "last_error")
    return {name: getattr(traffic, name) for name in names}
