"""Metric filters: samples out of the log events that match a pattern.

Follows PutMetricFilter, and "Configuring metric values for a metric filter": a default value stands
for the events of a minute in which nothing matched.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from localcloud.http import AwsError
from localcloud.logs.conditions import number, text
from localcloud.logs.patterns import compile_pattern

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from localcloud.logs.patterns import Found, Pattern
    from localcloud.seams import MetricSink

MAX_DIMENSIONS = 3
MINUTE_MS = 60_000


@dataclass(slots=True)
class _Minute:
    """What a filter with a default value saw of one minute's events."""

    unmatched: int = 0
    matched: bool = False


@dataclass(slots=True)
class MetricFilter:
    """One filter of one log group."""

    name: str
    pattern: Pattern
    namespace: str
    metric: str
    value: str
    unit: str = "None"
    default: float | None = None
    dimensions: Mapping[str, str] = field(default_factory=dict)
    minutes: dict[int, _Minute] = field(default_factory=dict)

    @classmethod
    def of(cls, described: Mapping[str, Any]) -> MetricFilter:
        """A filter as PutMetricFilter is given it, and DescribeMetricFilters tells it.

        Raises:
            AwsError: InvalidParameterException.
        """
        (transformation,) = described["metricTransformations"]
        dimensions = transformation.get("dimensions") or {}
        default = transformation.get("defaultValue")
        value = str(transformation["metricValue"])
        if dimensions and default is not None:
            raise AwsError(
                "InvalidParameterException",
                "Invalid metric transformation: dimensions and default value are mutually exclusive "
                "properties.",
            )
        if len(dimensions) > MAX_DIMENSIONS:
            raise AwsError(
                "InvalidParameterException", f"there are more than {MAX_DIMENSIONS} dimensions"
            )
        if not value.startswith("$") and number(value) is None:
            raise AwsError(
                "InvalidParameterException",
                f"Invalid metric transformation: metricValue {value} is neither a number nor a field",
            )
        return cls(
            described["filterName"],
            compile_pattern(described.get("filterPattern", "")),
            transformation["metricNamespace"],
            transformation["metricName"],
            value,
            transformation.get("unit") or "None",
            None if default is None else float(default),
            dimensions,
        )

    def take(self, events: Sequence[tuple[int, str]], sink: MetricSink) -> None:
        """Looks at events, (epoch milliseconds, message) each, and publishes what they give."""
        for at_ms, message in events:
            found = self.pattern.find(message)
            if found is not None:
                self._publish(found, at_ms, sink)
            if self.default is not None:
                minute = self.minutes.setdefault(at_ms // MINUTE_MS, _Minute())
                minute.matched |= found is not None
                minute.unmatched += found is None

    def _publish(self, found: Found, at_ms: int, sink: MetricSink) -> None:
        value = number(found.get(self.value) if self.value.startswith("$") else self.value)
        dimensions = {
            name: told
            for name, reference in self.dimensions.items()
            if (told := found.get(reference)) is not None
        }
        # An event without the value or one of the dimensions gives no sample.
        if value is None or len(dimensions) < len(self.dimensions):
            return
        sink.put(
            self.namespace,
            self.metric,
            value,
            unit=self.unit,
            dimensions={name: text(told) for name, told in dimensions.items()},
            timestamp_s=at_ms / 1000,
        )

    def end_minutes(self, sink: MetricSink, now_ms: int) -> None:
        """Publishes the default value for minutes that are over, where nothing matched."""
        for minute in [m for m in self.minutes if m < now_ms // MINUTE_MS]:
            seen = self.minutes.pop(minute)
            if not seen.matched and self.default is not None:
                sink.put(
                    self.namespace,
                    self.metric,
                    [self.default] * seen.unmatched,
                    unit=self.unit,
                    timestamp_s=minute * MINUTE_MS / 1000,
                )


class MetricFilters:
    """The filters of all log groups.

    Args:
        sink: Where samples go.
    """

    def __init__(self, sink: MetricSink) -> None:
        self._sink = sink
        self._groups: dict[str, dict[str, MetricFilter]] = {}

    def put(self, group: str, made: MetricFilter) -> None:
        """Adds or replaces a filter."""
        self._groups.setdefault(group, {})[made.name] = made

    def remove(self, group: str, name: str | None = None) -> None:
        """Removes a filter, or all of a group's."""
        if name is None:
            self._groups.pop(group, None)
        else:
            self._groups.get(group, {}).pop(name, None)

    def take(self, group: str, events: Sequence[tuple[int, str]]) -> None:
        """Looks at a group's events."""
        for one in self._groups.get(group, {}).values():
            one.take(events, self._sink)

    def end_minutes(self) -> None:
        """See `MetricFilter.end_minutes`."""
        now_ms = int(time.time() * 1000)
        for filters in self._groups.values():
            for one in filters.values():
                one.end_minutes(self._sink, now_ms)

    def count(self) -> int:
        """How many there are."""
        return sum(len(filters) for filters in self._groups.values())
