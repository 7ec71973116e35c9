"""The metric store: statistic sets in memory, by second and later by minute.

A second keeps sum, count, minimum and maximum, which are exact for ever, and the values themselves
for percentiles and their kin: exact up to `MAX_DISTINCT` distinct ones, beyond that and after
`EXACT_S` put together with their neighbours. After three hours seconds become minutes, and after
fifteen days they are forgotten, as in CloudWatch.
"""

from __future__ import annotations

import math
import time
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

MINUTE_S = 60
EXACT_S = 300
SECONDS_KEPT_S = 3 * 3600
KEPT_S = 15 * 86400
# Distinct values that are kept of a recent second, an older second, a minute.
MAX_DISTINCT = 500
OLD_DISTINCT = 12
MINUTE_DISTINCT = 20
_AGE_EVERY_S = 60

Dimensions = tuple[tuple[str, str], ...]
SeriesKey = tuple[str, str, Dimensions]


def dimensions_key(dimensions: Mapping[str, str] | None) -> Dimensions:
    """Dimensions in the order-free form that identifies a series."""
    if not dimensions:
        return ()
    return tuple(dimensions.items() if len(dimensions) == 1 else sorted(dimensions.items()))


@dataclass(slots=True)
class Bucket:
    """A statistic set with the values it was made of.

    Attributes:
        total: Sum of all samples.
        count: Their number.
        minimum: Their least.
        maximum: Their greatest.
        values: How often each value occurred; neighbours put together where there were too many.
        knows_values: Whether `values` has all samples: false where a statistic set came in.
    """

    total: float = 0.0
    count: float = 0.0
    minimum: float = math.inf
    maximum: float = -math.inf
    values: dict[float, float] = field(default_factory=dict)
    knows_values: bool = True

    def add(self, value: float, times: float = 1.0) -> None:
        """Adds a sample that occurred `times` times."""
        self.total += value * times
        self.count += times
        # Compared here: calls of min() and max() take as long as all else.
        if value < self.minimum:  # noqa: PLR1730
            self.minimum = value
        if value > self.maximum:  # noqa: PLR1730
            self.maximum = value
        known = self.values
        known[value] = known.get(value, 0.0) + times
        if len(known) > MAX_DISTINCT:
            self.condense(MAX_DISTINCT // 2)

    def add_all(self, samples: Sequence[float]) -> None:
        """Adds samples that occurred once each; as `add` of each, at less cost."""
        values = list(map(float, samples))
        if not values:
            return
        self.total = sum(values, self.total)
        self.count += len(values)
        self.minimum = min(self.minimum, *values)
        self.maximum = max(self.maximum, *values)
        known = self.values
        for value in values:
            known[value] = known.get(value, 0.0) + 1.0
        if len(known) > MAX_DISTINCT:
            self.condense(MAX_DISTINCT // 2)

    def add_set(self, total: float, count: float, minimum: float, maximum: float) -> None:
        """Adds a statistic set, of which no single values are known unless they are all one."""
        if minimum == maximum:
            self.add(minimum, count)
            return
        self.total += total
        self.count += count
        self.minimum = min(self.minimum, minimum)
        self.maximum = max(self.maximum, maximum)
        self.knows_values = False

    def merge(self, other: Bucket) -> None:
        """Adds all of another bucket."""
        self.total += other.total
        self.count += other.count
        self.minimum = min(self.minimum, other.minimum)
        self.maximum = max(self.maximum, other.maximum)
        self.knows_values = self.knows_values and other.knows_values
        for value, times in other.values.items():
            self.values[value] = self.values.get(value, 0.0) + times

    def condense(self, most: int) -> None:
        """Puts neighbouring values together, equally many samples each, until `most` are left.

        The least and the greatest stay as they are.
        """
        if len(self.values) <= most:
            return
        first, *ordered, last = sorted(self.values.items())
        share = sum([times for _, times in ordered]) / (most - 2)
        condensed = dict((first, last))
        weight = total = 0.0
        for value, times in ordered:
            weight += times
            total += value * times
            if weight >= share:
                mean = total / weight
                condensed[mean] = condensed.get(mean, 0.0) + weight
                weight = total = 0.0
        if weight:
            condensed[total / weight] = condensed.get(total / weight, 0.0) + weight
        self.values = condensed


@dataclass(slots=True)
class Series:
    """One metric with one set of dimensions."""

    unit: str
    seconds: dict[int, Bucket] = field(default_factory=dict)
    minutes: dict[int, Bucket] = field(default_factory=dict)
    _exact: deque[int] = field(default_factory=deque)
    _old: deque[int] = field(default_factory=deque)

    def bucket(self, second: int) -> Bucket:
        """The bucket of a second, to add to."""
        bucket = self.seconds.get(second)
        if bucket is None:
            bucket = self.seconds[second] = Bucket()
            self._exact.append(second)
        return bucket

    def age(self, now_s: float) -> None:
        """Condenses, puts together and forgets what has become old."""
        while self._exact and self._exact[0] < now_s - EXACT_S:
            second = self._exact.popleft()
            self.seconds[second].condense(OLD_DISTINCT)
            self._old.append(second)
        while self._old and self._old[0] < now_s - SECONDS_KEPT_S:
            second = self._old.popleft()
            minute = self.minutes.setdefault(second - second % MINUTE_S, Bucket())
            minute.merge(self.seconds.pop(second))
            minute.condense(MINUTE_DISTINCT)
        while self.minutes and (first := next(iter(self.minutes))) < now_s - KEPT_S:
            del self.minutes[first]

    def newest_s(self) -> int:
        """The newest second or minute that has data."""
        return max((max(part) for part in (self.seconds, self.minutes) if part), default=0)


class MetricStore:
    """All metrics of the cloud. Used from the event loop only; see `MetricSink`."""

    def __init__(self) -> None:
        self.series: dict[SeriesKey, Series] = {}
        self._aged_s = time.time()

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
            bucket.add_all(values)

    def put_each(
        self,
        namespace: str,
        values: Mapping[str, float],
        *,
        unit: Callable[[str], str],
        dimensions: Mapping[str, str] | None = None,
    ) -> None:
        """Records one sample of each metric by its name, as of now."""
        now = time.time()
        if now - self._aged_s > _AGE_EVERY_S:
            self._age(now)
        second, where = int(now), dimensions_key(dimensions)
        for name, value in values.items():
            key = (namespace, name, where)
            series = self.series.get(key)
            if series is None:
                series = self.series[key] = Series(unit(name))
            bucket = series.seconds.get(second)
            (series.bucket(second) if bucket is None else bucket).add(float(value))

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
        if now - self._aged_s > _AGE_EVERY_S:
            self._age(now)
        key = (namespace, name, dimensions_key(dimensions))
        series = self.series.get(key)
        if series is None:
            series = self.series[key] = Series(unit)
        return series.bucket(int(now if timestamp_s is None else timestamp_s))

    def unit(self, namespace: str, name: str, dimensions: Mapping[str, str] | None) -> str | None:
        """The unit of a metric: that of its first sample; None where there is no such metric."""
        series = self.series.get((namespace, name, dimensions_key(dimensions)))
        return None if series is None else series.unit

    def _age(self, now: float) -> None:
        self._aged_s = now
        for key in list(self.series):
            series = self.series[key]
            series.age(now)
            if not series.seconds and not series.minutes:
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
        for buckets in (series.minutes, series.seconds):
            for at in _within(buckets, start_s, end_s):
                start = at - at % period_s
                if start not in found:
                    found[start] = Bucket()
                found[start].merge(buckets[at])
        return found


def _within(buckets: Mapping[int, Bucket], start_s: int, end_s: int) -> Iterable[int]:
    """The times in [start_s, end_s) that have data, by whichever way is shorter."""
    if end_s - start_s < len(buckets):
        return (at for at in range(start_s, end_s) if at in buckets)
    return (at for at in list(buckets) if start_s <= at < end_s)
