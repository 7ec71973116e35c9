"""What the report draws, from a run's ledger and events: numbers over time, in bins.

Times are seconds from the run's start. Bins are a second wide, wider where a run is long.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow.compute as pc
from numpy.typing import NDArray

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pyarrow as pa

    from simulator.scenario import RunInfo, Scenario

Floats = NDArray[np.float64]
MAX_BINS = 600


@dataclass(frozen=True, slots=True)
class Span:
    """Something that lasted: a fault, or an alarm. `end_s` is None where it did not end."""

    name: str
    kind: str
    start_s: float
    end_s: float | None


@dataclass(frozen=True, slots=True)
class Series:
    """Numbers over the run; arrays of shape (bins,), one for each bin's start in `at_s`.

    Attributes:
        width_s: Width of a bin.
        due: Readings due per second.
        sent: Readings sent per second.
        acked: Readings acknowledged per second.
        lag_ms: p99 of the time from due to sent, by when it was due; NaN where nothing was.
        answer_ms: p99 of the time from sent to acknowledged, by when it was due; NaN as above.
        shards: Shard to acknowledged readings.
        spans: Faults and alarms.
    """

    width_s: float
    at_s: Floats
    due: Floats
    sent: Floats
    acked: Floats
    lag_ms: Floats
    answer_ms: Floats
    shards: dict[str, int]
    spans: list[Span]


def build(
    scenario: Scenario, run: RunInfo, table: pa.Table, events: Sequence[dict[str, Any]]
) -> Series:
    """The series of a run from its ledger and its events."""
    start_ns = run.start_ms * 1_000_000
    due_s, sent_s, acked_s = (
        (table.column(name).to_numpy(zero_copy_only=False).astype(np.float64) - start_ns) / 1e9
        for name in ("scheduled_ns", "sent_ns", "acked_ns")
    )
    last_s = max((float(np.nanmax(column)) for column in (due_s, sent_s, acked_s)
                  if np.isfinite(column).any()), default=0.0)  # fmt: skip
    length_s = max(scenario.profile.duration_s, last_s, 1.0)
    width_s = max(1.0, float(np.ceil(length_s / MAX_BINS)))
    bins = int(np.ceil(length_s / width_s))

    def per_second(times_s: Floats) -> Floats:
        inside = times_s[np.isfinite(times_s)]
        index = np.clip((inside / width_s).astype(np.int64), 0, bins - 1)
        counts: Floats = np.bincount(index, minlength=bins) / width_s
        return counts

    return Series(
        width_s=width_s,
        at_s=np.arange(bins, dtype=np.float64) * width_s,
        due=per_second(due_s),
        sent=per_second(sent_s),
        acked=per_second(acked_s),
        lag_ms=_p99((sent_s - due_s) * 1000, due_s, width_s, bins),
        answer_ms=_p99((acked_s - sent_s) * 1000, due_s, width_s, bins),
        shards=_shards(table),
        spans=[*_faults(scenario), *_alarms(run, events)],
    )


def _p99(values: Floats, at_s: Floats, width_s: float, bins: int) -> Floats:
    """The 99th percentile of the values of each bin."""
    known = np.isfinite(values)
    values, index = values[known], np.clip((at_s[known] / width_s).astype(np.int64), 0, bins - 1)
    order = np.lexsort((values, index))
    values, index = values[order], index[order]
    ends = np.searchsorted(index, np.arange(bins), side="right")
    starts = np.searchsorted(index, np.arange(bins), side="left")
    result = np.full(bins, np.nan)
    some = ends > starts
    rank = starts + np.ceil(0.99 * (ends - starts)).astype(np.int64) - 1
    result[some] = values[rank[some]]
    return result


def _shards(table: pa.Table) -> dict[str, int]:
    counts = pc.value_counts(table.column("shard").drop_null()).to_pylist()
    return dict(sorted((entry["values"], entry["counts"]) for entry in counts))


def _faults(scenario: Scenario) -> list[Span]:
    end_s = scenario.profile.duration_s
    devices = [
        Span(fault.name, f"fault: {fault.kind}", fault.start, min(end_s, fault.end_s))
        for fault in scenario.faults
    ]
    target = [
        Span(fault.name, f"fault: {fault.kind} on {fault.call}", fault.start, fault.end_s)
        for fault in scenario.target_faults
    ]
    return [*devices, *target]


def _alarms(run: RunInfo, events: Sequence[dict[str, Any]]) -> list[Span]:
    """From each ALARM of an alarm to the state that follows it."""
    spans: list[Span] = []
    since: dict[str, float] = {}
    told = [event for event in events if event.get("event") == "alarm"]
    for event in sorted(told, key=lambda event: int(event["t_ms"])):
        name, at_s = str(event["alarm"]), (event["t_ms"] - run.start_ms) / 1000
        if event["state"] == "ALARM":
            since.setdefault(name, at_s)
        elif name in since:
            spans.append(Span(name, "alarm", since.pop(name), at_s))
    spans += [Span(name, "alarm", at_s, None) for name, at_s in since.items()]
    return spans
