"""Alarms: what was put, their state, and how the API describes them."""

from __future__ import annotations

import datetime as dt
import functools
from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from localcloud.cloudwatch.evaluation import Rule, State
from localcloud.cloudwatch.math import Line
from localcloud.cloudwatch.query import Queries, dimensions_of, statistic_series
from localcloud.cloudwatch.rule import AlarmRule, parse_rule
from localcloud.cloudwatch.statistics import parse_extended
from localcloud.cloudwatch.suppression import Suppression
from localcloud.http import AwsError

if TYPE_CHECKING:
    from localcloud.cloudwatch.metrics import MetricStore

ACTIONS = {"OK": "OKActions", "ALARM": "AlarmActions",
           "INSUFFICIENT_DATA": "InsufficientDataActions"}  # fmt: skip


def _now() -> dt.datetime:
    return dt.datetime.now(dt.UTC)


@dataclass(slots=True)
class Alarm(ABC):
    """What metric and composite alarms have in common: settings as put, and a state."""

    name: str
    arn: str
    settings: dict[str, Any]
    state: State = "INSUFFICIENT_DATA"
    reason: str = "Unchecked: Initial alarm creation"
    reason_data: str = ""
    updated: dt.datetime = field(default_factory=_now)
    configured: dt.datetime = field(default_factory=_now)
    transitioned: dt.datetime = field(default_factory=_now)
    tags: dict[str, str] = field(default_factory=dict)

    @property
    @abstractmethod
    def kind(self) -> Literal["MetricAlarm", "CompositeAlarm"]:
        """The API's AlarmType."""

    def actions(self) -> list[str]:
        """What to do upon entering the state that the alarm is in."""
        return list(self.settings.get(ACTIONS[self.state]) or ())

    def change(self, settings: dict[str, Any]) -> None:
        """Takes new settings; the state stays."""
        self.settings = settings
        self.configured = _now()

    def describe(self) -> dict[str, Any]:
        """What the API's MetricAlarm and CompositeAlarm structures share."""
        return {
            "AlarmName": self.name,
            "AlarmArn": self.arn,
            "AlarmConfigurationUpdatedTimestamp": self.configured,
            "ActionsEnabled": True,
            "OKActions": [],
            "AlarmActions": [],
            "InsufficientDataActions": [],
            **self.settings,
            "StateValue": self.state,
            "StateReason": self.reason,
            "StateReasonData": self.reason_data,
            "StateUpdatedTimestamp": self.updated,
            "StateTransitionedTimestamp": self.transitioned,
        }


@dataclass(slots=True)
class MetricAlarm(Alarm):
    """An alarm on a metric or on metric math."""

    @property
    def kind(self) -> Literal["MetricAlarm", "CompositeAlarm"]:
        """See `Alarm`."""
        return "MetricAlarm"

    def describe(self) -> dict[str, Any]:
        """The API's MetricAlarm structure."""
        described = Alarm.describe(self)
        if "Metrics" not in self.settings:
            described.setdefault("Dimensions", [])
        return described

    @property
    def period_s(self) -> int:
        """Length of a period."""
        return int(self.settings.get("Period") or math_period_s(self.settings["Metrics"]))

    @property
    def interval_s(self) -> int:
        """How often it is evaluated: every 10 s below a period of a minute, else every minute."""
        return 10 if self.period_s < 60 else 60  # noqa: PLR2004 - a minute

    @property
    def rule(self) -> Rule:
        """What it compares."""
        settings = self.settings
        periods = int(settings["EvaluationPeriods"])
        return Rule(
            settings["ComparisonOperator"],
            float(settings["Threshold"]),
            periods,
            int(settings.get("DatapointsToAlarm") or periods),
            settings.get("TreatMissingData") or "missing",
        )

    def range_s(self, now_s: float) -> tuple[int, int]:
        """Begin and end of the periods that an evaluation at `now_s` looks at."""
        end = int(now_s) - int(now_s) % self.period_s
        return end - self.rule.range_periods * self.period_s, end

    def points(self, store: MetricStore, now_s: float) -> list[tuple[int, float | None]]:
        """(period start, value or None) of the evaluated range, oldest first."""
        start, end = self.range_s(now_s)
        settings = self.settings
        if "Metrics" in settings:
            watched = next(q["Id"] for q in settings["Metrics"] if q.get("ReturnData", True))
            line = Queries(store, settings["Metrics"], start, end).value(watched)
            if not isinstance(line, Line):
                raise AwsError(
                    "ValidationError", f"alarm {self.name}: its expression gives several series"
                )
            series = line.points
        else:
            statistic = settings.get("Statistic") or settings["ExtendedStatistic"]
            series = statistic_series(store, settings, statistic, start, end, self.period_s)
        return [(begin, series.get(begin)) for begin in range(start, end, self.period_s)]

    def sample_counts(self, store: MetricStore, now_s: float) -> dict[int, float]:
        """How many samples each period of the evaluated range has; empty for metric math."""
        if "Metrics" in self.settings:
            return {}
        start, end = self.range_s(now_s)
        return statistic_series(store, self.settings, "SampleCount", start, end, self.period_s)

    def too_few_samples(self, counts: dict[int, float], now_s: float) -> bool:
        """Whether EvaluateLowSampleCountPercentile says not to judge by so few samples."""
        extended = self.settings.get("ExtendedStatistic")
        if not extended or self.settings.get("EvaluateLowSampleCountPercentile") != "ignore":
            return False
        _, end = self.range_s(now_s)
        first = end - self.rule.evaluation_periods * self.period_s
        total = sum(count for begin, count in counts.items() if begin >= first)
        return total < parse_extended(extended).least_samples


def math_period_s(queries: list[dict[str, Any]]) -> int:
    """The period of an alarm on metric math: that of its metrics, which are all alike."""
    for query in queries:
        period = query.get("Period") or (query.get("MetricStat") or {}).get("Period")
        if period:
            return int(period)
    return 60


def watches(alarm: Alarm, body: dict[str, Any]) -> bool:
    """Whether an alarm is on the metric of DescribeAlarmsForMetric's request."""
    settings = alarm.settings
    return (
        settings.get("MetricName") == body["MetricName"]
        and settings.get("Namespace") == body["Namespace"]
        and dimensions_of(settings.get("Dimensions")) == dimensions_of(body.get("Dimensions"))
        and all(
            body.get(name) in (None, settings.get(name))
            for name in ("Statistic", "ExtendedStatistic", "Period", "Unit")
        )
    )


@dataclass(slots=True)
class CompositeAlarm(Alarm):
    """An alarm on the states of other alarms."""

    suppression: Suppression = field(default_factory=Suppression)

    @property
    def kind(self) -> Literal["MetricAlarm", "CompositeAlarm"]:
        """See `Alarm`."""
        return "CompositeAlarm"

    @property
    def rule(self) -> AlarmRule:
        """Its AlarmRule."""
        return _parsed(self.settings["AlarmRule"])

    @property
    def suppressor(self) -> str | None:
        """Name of the alarm that suppresses its actions."""
        given = self.settings.get("ActionsSuppressor")
        return alarm_name(given) if given else None

    def describe(self) -> dict[str, Any]:
        """The API's CompositeAlarm structure."""
        described = Alarm.describe(self)
        if self.suppression.by:
            described["ActionsSuppressedBy"] = self.suppression.by
            described["ActionsSuppressedReason"] = f"Actions suppressed by {self.suppression.by}"
        return described


_parsed = functools.lru_cache(maxsize=1000)(parse_rule)


def alarm_name(name_or_arn: str) -> str:
    """The name of an alarm that is given by name or ARN."""
    if name_or_arn.startswith("arn:") and ":alarm:" in name_or_arn:
        return name_or_arn.partition(":alarm:")[2]
    return name_or_arn
