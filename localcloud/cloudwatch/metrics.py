"""The metric store: one-second statistic sets in memory, and statistics over periods of them.

Every second of a series keeps sum, count, minimum and maximum, and the values themselves up to
`MAX_DISTINCT` distinct ones for percentiles. Data older than `KEEP_S` is forgotten.
"""

from __future__ import annotations

import math
import time
from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

KEEP_S = 3 * 3600
MAX_DISTINCT = 1000
_PRUNE_EVERY_S = 60

Dimensions = tuple[tuple[str, str], ...]
SeriesKey = tuple[str, str, Dimensions]


def dimensions_key(dimensions: Mapping[str, str] | None) -> Dimensions:
    """Dimensions in the order-free form that identifies a series."""
    return tuple(sorted((dimensions or {}).items()))


@dataclass(slots=True)
class Bucket:
    """A statistic set with the values it was made of, as far as they were kept."""

    total: float = 0.0
    count: float = 0.0
    minimum: float = math.inf
    maximum: float = -math.inf
    values: dict[float, float] = field(default_factory=dict)

    def add(self, value: float, times: float = 1.0) -> None:
        """Adds a sample that occurred `times` times."""
        self.total += value * times
        self.count += times
        self.minimum = min(self.minimum, value)
        self.maximum = max(self.maximum, value)
        if value in self.values or len(self.values) < MAX_DISTINCT:
            self.values[value] = self.values.get(value, 0.0) + times

    def add_set(self, total: float, count: float, minimum: float, maximum: float) -> None:
        """Adds a statistic set, of which no single values are known."""
        self.total += total
        self.count += count
        self.minimum = min(self.minimum, minimum)
        self.maximum = max(self.maximum, maximum)
        if minimum == maximum:
            self.values[minimum] = self.values.get(minimum, 0.0) + count

    def merge(self, other: Bucket) -> None:
        """Adds all of another bucket."""
        self.total += other.total
        self.count += other.count
        self.minimum = min(self.minimum, other.minimum)
        self.maximum = max(self.maximum, other.maximum)
        for value, times in other.values.items():
            self.values[value] = self.values.get(value, 0.0) + times

    def statistic(self, name: str) -> float:
        """Sum, Average, SampleCount, Minimum, Maximum or a percentile such as p99.

        Raises:
            ValueError: the statistic is not served.
        """
        match name:
            case "Sum":
                return self.total
            case "Average":
                return self.total / self.count
            case "SampleCount":
                return self.count
            case "Minimum":
                return self.minimum
            case "Maximum":
                return self.maximum
        return self._percentile(percentile_of(name))

    def _percentile(self, percent: float) -> float:
        if not self.values:
            return self.maximum
        rank = percent / 100 * sum(self.values.values())
        seen = 0.0
        for value in sorted(self.values):
            seen += self.values[value]
            if seen >= rank:
                return value
        return self.maximum


def percentile_of(name: str) -> float:
    """The percentage that a statistic such as `p99.9` asks for.

    Raises:
        ValueError: it is no percentile.
    """
    if name[:1] == "p":
        try:
            percent = float(name[1:])
        except ValueError:
            percent = -1.0
        if 0 <= percent <= 100:  # noqa: PLR2004 - per cent
            return percent
    raise ValueError(f"statistic {name!r} is not served: use Sum, Average, SampleCount, Minimum, "
                     "Maximum or a percentile such as p99")  # fmt: skip


@dataclass(slots=True)
class Series:
    """One metric with one set of dimensions."""

    unit: str
    seconds: dict[int, Bucket] = field(default_factory=lambda: defaultdict(Bucket))


class MetricStore:
    """All metrics of the cloud. Used from the event loop only; see `MetricSink`."""

    def __init__(self) -> None:
        self.series: dict[SeriesKey, Series] = {}
        self._pruned_s = time.time()

    def put(
        self,
        namespace: str,
        name: str,
        values: float | Sequence[float],
        *,
        unit: str = "None",
        dimensions: Mapping[str, str] | None = None,
        timestamp_s: float | None = None,
    ) -> None:
        """Records samples at `timestamp_s` (epoch seconds; None is now)."""
        bucket = self.bucket(namespace, name, dimensions, unit, timestamp_s)
        if isinstance(values, int | float):
            bucket.add(float(values))
        else:
            for value in values:
                bucket.add(float(value))

    def bucket(
        self,
        namespace: str,
        name: str,
        dimensions: Mapping[str, str] | None,
        unit: str,
        timestamp_s: float | None,
    ) -> Bucket:
        """The bucket of that second, to add to."""
        now = time.time()
        if now - self._pruned_s > _PRUNE_EVERY_S:
            self._prune(now)
        key = (namespace, name, dimensions_key(dimensions))
        series = self.series.get(key)
        if series is None:
            series = self.series[key] = Series(unit)
        return series.seconds[int(now if timestamp_s is None else timestamp_s)]

    def _prune(self, now: float) -> None:
        self._pruned_s = now
        oldest = int(now - KEEP_S)
        for key in list(self.series):
            seconds = self.series[key].seconds
            for second in [second for second in seconds if second < oldest]:
                del seconds[second]
            if not seconds:
                del self.series[key]

    def periods(
        self,
        namespace: str,
        name: str,
        dimensions: Mapping[str, str] | None,
        start_s: int,
        end_s: int,
        period_s: int,
    ) -> dict[int, Bucket]:
        """Buckets by the start of each period in [start_s, end_s) that has data.

        Periods are aligned to multiples of `period_s`, as CloudWatch aligns them.
        """
        series = self.series.get((namespace, name, dimensions_key(dimensions)))
        found: dict[int, Bucket] = {}
        if series is None:
            return found
        for second in _within(series.seconds, start_s, end_s):
            start = second - second % period_s
            if start not in found:
                found[start] = Bucket()
            found[start].merge(series.seconds[second])
        return found


def _within(seconds: Mapping[int, Bucket], start_s: int, end_s: int) -> Iterable[int]:
    """The seconds in [start_s, end_s) that have data, by whichever way is shorter."""
    if end_s - start_s < len(seconds):
        return (second for second in range(start_s, end_s) if second in seconds)
    return (second for second in list(seconds) if start_s <= second < end_s)
