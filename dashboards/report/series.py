"""What the report draws, from a run's ledger and events: numbers over time, in bins.

Times are seconds from the run's start. Bins are a second wide, wider where a run is long.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from fleetcast.verify.quantiles import by_group

if TYPE_CHECKING:
    from collections.abc import Sequence

    from simulator.scenario import RunInfo, Scenario

Floats = NDArray[np.float64]
MAX_BINS = 600
# Upper ends of the classes of times, milliseconds; the last holds all beyond as well.
HEAT_MS = np.array([1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10_000, 30_000])


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
        heat: Acknowledged readings by their time from due to acknowledged, of shape
            (len(HEAT_MS), bins): at most that many milliseconds, and more than the row before.
        shard_load: Acknowledged readings per second of each shard, of shape (shards, bins).
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
    heat: Floats
    shard_load: Floats


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
    width_s, bins = bins_of(max(scenario.profile.duration_s, last_s))

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
        lag_ms=over_time((sent_s - due_s) * 1000, due_s, width_s, bins, 0.99),
        answer_ms=over_time((acked_s - sent_s) * 1000, due_s, width_s, bins, 0.99),
        shards=_shards(table),
        spans=[*_faults(scenario), *_alarms(run, events)],
        heat=_heat((acked_s - due_s) * 1000, due_s, width_s, bins),
        shard_load=_shard_load(table, acked_s, width_s, bins),
    )


def bins_of(length_s: float) -> tuple[float, int]:
    """How wide the bins of so long a run are, seconds, and how many there are."""
    length_s = max(length_s, 1.0)
    width_s = max(1.0, float(np.ceil(length_s / MAX_BINS)))
    return width_s, int(np.ceil(length_s / width_s))


def over_time(values: Floats, at_s: Floats, width_s: float, bins: int, share: float) -> Floats:
    """A percentile of the values of each bin; NaN where there is none."""
    known = np.isfinite(values)
    index = np.clip((at_s[known] / width_s).astype(np.int64), 0, bins - 1)
    return by_group(values[known], index, bins, share)


def _heat(values_ms: Floats, at_s: Floats, width_s: float, bins: int) -> Floats:
    """How many values of each bin are in each class of `HEAT_MS`."""
    known = np.isfinite(values_ms)
    row = np.minimum(np.searchsorted(HEAT_MS, values_ms[known]), len(HEAT_MS) - 1)
    column = np.clip((at_s[known] / width_s).astype(np.int64), 0, bins - 1)
    counts = np.bincount(row * bins + column, minlength=len(HEAT_MS) * bins)
    heat: Floats = counts.reshape(len(HEAT_MS), bins).astype(np.float64)
    return heat


def _shard_load(table: pa.Table, acked_s: Floats, width_s: float, bins: int) -> Floats:
    """Readings per second of each shard, in the order of `_shards`."""
    names = pa.array(list(_shards(table)), pa.string())
    row = pc.fill_null(pc.index_in(table.column("shard"), names), -1).to_numpy()
    there = (row >= 0) & np.isfinite(acked_s)
    if not len(names) or table.column("shard").null_count == len(row):
        return np.zeros((0, bins))
    column = np.clip((acked_s[there] / width_s).astype(np.int64), 0, bins - 1)
    counts = np.bincount(row[there] * bins + column, minlength=len(names) * bins)
    load: Floats = counts.reshape(len(names), bins) / width_s
    return load


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
