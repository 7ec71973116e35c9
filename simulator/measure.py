"""What a run measures: outcomes, lag and latency, and what is told of them while it goes on.

Lag is from when a reading should have left until it was sent, latency from the same time until it
was acknowledged. Both count what a stalled target adds (no coordinated omission).
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from simulator.batch import ACKED, FAILED, UNKNOWN
from simulator.histogram import Histogram

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from simulator.batch import Batch
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
    """Keeps count of outcomes and writes them to the ledger.

    A reading that is sent more than once has an outcome for each of its copies.
    """

    def __init__(self, ledger: LedgerWriter) -> None:
        self._ledger = ledger
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
        """Takes readings whose outcome is decided."""
        rows = batch.rows
        counts = np.bincount(rows["outcome"], minlength=3).tolist()
        self.acked += counts[ACKED]
        self.failed += counts[FAILED]
        self.unknown += counts[UNKNOWN]
        sent_ns, acked_ns, due_ns = rows["sent_ns"], rows["acked_ns"], rows["scheduled_ns"]
        self.last_sent_ns = max(self.last_sent_ns, int(sent_ns.max(initial=0)))
        self.lag.record(_seconds(sent_ns, due_ns))
        self.latency.record(_seconds(acked_ns, due_ns))
        if batch.shards is not None:
            self._shards.update(batch.shards.counts())
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
