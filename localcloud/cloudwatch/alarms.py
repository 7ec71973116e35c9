"""Alarms: their settings, their evaluation against the store, and what they tell SNS."""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import json
import logging
import time
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from localcloud.cloudwatch.evaluation import OPERATORS, Rule, State, next_state, reason
from localcloud.cloudwatch.metrics import percentile_of
from localcloud.cloudwatch.query import run_queries, statistic_series
from localcloud.http import AwsError

if TYPE_CHECKING:
    from localcloud.cloudwatch.metrics import MetricStore
    from localcloud.seams import CloudContext

log = logging.getLogger(__name__)

HIGH_RESOLUTION_PERIODS = (10, 20, 30)
STATISTICS = ("SampleCount", "Average", "Sum", "Minimum", "Maximum")
# A period is evaluated this long after its end, when what belongs to it has arrived.
SETTLE_S = 2
HISTORY_LENGTH = 1000
REGION_NAMES = {"us-east-1": "US East (N. Virginia)"}


@dataclass(slots=True)
class Alarm:
    """An alarm: what PutMetricAlarm said, and its state."""

    name: str
    arn: str
    settings: dict[str, Any]
    state: State = "INSUFFICIENT_DATA"
    reason: str = "Unchecked: Initial alarm creation"
    reason_data: str = ""
    updated: dt.datetime = field(default_factory=lambda: dt.datetime.now(dt.UTC))
    configured: dt.datetime = field(default_factory=lambda: dt.datetime.now(dt.UTC))
    transitioned: dt.datetime = field(default_factory=lambda: dt.datetime.now(dt.UTC))
    tags: dict[str, str] = field(default_factory=dict)

    @property
    def period_s(self) -> int:
        """Length of a period."""
        if "Period" in self.settings:
            return int(self.settings["Period"])
        periods = [
            int(query.get("Period") or query.get("MetricStat", {}).get("Period") or 60)
            for query in self.settings["Metrics"]
        ]
        return min(periods)

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

    def points(self, store: MetricStore, now_s: float) -> list[tuple[int, float | None]]:
        """(period start, value or None) of the evaluated range, oldest first."""
        period = self.period_s
        end = int(now_s) - int(now_s) % period
        start = end - self.rule.range_periods * period
        settings = self.settings
        if "Metrics" in settings:
            results = run_queries(store, settings["Metrics"], start, end)
            watched = [q["Id"] for q in settings["Metrics"] if q.get("ReturnData", True)]
            series = results[watched[0]]
        else:
            statistic = settings.get("Statistic") or settings["ExtendedStatistic"]
            series = statistic_series(store, settings, statistic, start, end, period)
        return [(begin, series.get(begin)) for begin in range(start, end, period)]

    def describe(self) -> dict[str, Any]:
        """The API's MetricAlarm structure."""
        return {
            "AlarmName": self.name,
            "AlarmArn": self.arn,
            "AlarmConfigurationUpdatedTimestamp": self.configured,
            "ActionsEnabled": True,
            "OKActions": [],
            "AlarmActions": [],
            "InsufficientDataActions": [],
            "Dimensions": [],
            **self.settings,
            "StateValue": self.state,
            "StateReason": self.reason,
            "StateReasonData": self.reason_data,
            "StateUpdatedTimestamp": self.updated,
            "StateTransitionedTimestamp": self.transitioned,
        }


def validate(settings: dict[str, Any]) -> None:
    """Checks what PutMetricAlarm is given.

    Raises:
        AwsError: ValidationError naming the setting.
    """
    for name in ("AlarmName", "ComparisonOperator", "EvaluationPeriods"):
        if settings.get(name) in (None, ""):
            raise AwsError("ValidationError", f"The parameter {name} must be specified.")
    if settings["ComparisonOperator"] not in OPERATORS or "ThresholdMetricId" in settings:
        raise AwsError(
            "ValidationError",
            f"comparison {settings['ComparisonOperator']} (anomaly detection) is not served locally",
        )
    if "Threshold" not in settings:
        raise AwsError("ValidationError", "The parameter Threshold must be specified.")
    if int(settings.get("DatapointsToAlarm") or 1) > int(settings["EvaluationPeriods"]):
        raise AwsError("ValidationError", "DatapointsToAlarm must not exceed EvaluationPeriods.")
    missing = settings.get("TreatMissingData", "missing")
    if missing not in {"missing", "ignore", "breaching", "notBreaching"}:
        raise AwsError(
            "ValidationError", f"Option {missing} is not supported for TreatMissingData."
        )
    if settings.get("Metrics"):
        watched = [q for q in settings["Metrics"] if q.get("ReturnData", True)]
        if len(watched) != 1:
            raise AwsError("ValidationError", "Exactly one element of Metrics must return data.")
        return
    if not settings.get("MetricName") or not settings.get("Namespace"):
        raise AwsError("ValidationError", "MetricName and Namespace, or Metrics, are required.")
    period = settings.get("Period")
    if period not in HIGH_RESOLUTION_PERIODS and (not period or period % 60):
        raise AwsError("ValidationError", "Period must be 10, 20, 30 or a multiple of 60.")
    if settings.get("Statistic") not in STATISTICS:
        try:
            percentile_of(str(settings.get("ExtendedStatistic")))
        except ValueError as error:
            raise AwsError("ValidationError", str(error)) from error


class AlarmClock:
    """Evaluates alarms on schedule, keeps their history, and carries out their actions."""

    def __init__(self, context: CloudContext, store: MetricStore) -> None:
        self._context = context
        self._store = store
        self.alarms: dict[str, Alarm] = {}
        self.history: deque[dict[str, Any]] = deque(maxlen=HISTORY_LENGTH)
        self._task: asyncio.Task[None] | None = None
        self._deliveries: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Starts the schedule."""
        self._task = asyncio.create_task(self._run())

    async def stop(self) -> None:
        """Stops it."""
        if self._task:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
        for delivery in list(self._deliveries):
            delivery.cancel()

    async def _run(self) -> None:
        last_s = int(time.time())
        while True:
            await asyncio.sleep(1 - time.time() % 1)
            now_s = int(time.time())
            for second in range(last_s + 1, now_s + 1):
                self.evaluate_due(second)
            last_s = now_s

    def evaluate_due(self, now_s: int) -> None:
        """Evaluates every alarm whose turn comes at the whole second `now_s`."""
        for alarm in list(self.alarms.values()):
            if (now_s - SETTLE_S) % alarm.interval_s == 0:
                try:
                    self.evaluate(alarm, now_s - SETTLE_S)
                except AwsError as error:
                    log.warning("alarm %s cannot be evaluated: %s", alarm.name, error)

    def evaluate(self, alarm: Alarm, now_s: float) -> None:
        """Evaluates one alarm on the periods that ended by `now_s`."""
        rule = alarm.rule
        points = alarm.points(self._store, now_s)
        state = next_state(rule, [value for _, value in points], alarm.state)
        if state == alarm.state:
            return
        known = [(begin, value) for begin, value in reversed(points) if value is not None]
        shown = [(_short_time(begin), value) for begin, value in known[: rule.evaluation_periods]]
        data = {
            "version": "1.0",
            "queryDate": _iso(time.time()),
            "period": alarm.period_s,
            "recentDatapoints": [value for _, value in reversed(shown)],
            "threshold": rule.threshold,
            "evaluatedDatapoints": [
                {"timestamp": _iso(begin), "value": value} for begin, value in known
            ],
        }
        if "Statistic" in alarm.settings:
            data["statistic"] = alarm.settings["Statistic"]
        self.set_state(alarm, state, reason(rule, shown, state), json.dumps(data))

    def set_state(self, alarm: Alarm, state: State, why: str, data: str = "") -> None:
        """Moves an alarm to a state, records it, and carries out the actions of a transition."""
        before = alarm.state
        now = dt.datetime.now(dt.UTC)
        old = {"stateValue": before, "stateReason": alarm.reason}
        alarm.state, alarm.reason, alarm.reason_data, alarm.updated = state, why, data, now
        if before == state:
            return
        alarm.transitioned = now
        self.record(
            alarm,
            "StateUpdate",
            f"Alarm updated from {before} to {state}",
            {
                "version": "1.0",
                "oldState": old,
                "newState": {"stateValue": state, "stateReason": why},
            },
        )
        if not alarm.settings.get("ActionsEnabled", True):
            return
        kind = {"OK": "OKActions", "ALARM": "AlarmActions"}.get(state, "InsufficientDataActions")
        message = json.dumps(_message(self._context, alarm, before))
        subject = f'{state}: "{alarm.name}" in {_region_name(self._context.region)}'[:100]
        for action in alarm.settings.get(kind) or ():
            task = asyncio.create_task(self._deliver(alarm, action, subject, message))
            self._deliveries.add(task)
            task.add_done_callback(self._deliveries.discard)

    async def _deliver(self, alarm: Alarm, action: str, subject: str, message: str) -> None:
        result = "Successfully executed action"
        if action.split(":")[2:3] != ["sns"]:
            result = "Failed to execute action: only SNS topics are served locally"
            log.warning("alarm %s: %s (%s)", alarm.name, result, action)
        else:
            try:
                sns = await self._context.client("sns")
                await sns.publish(TopicArn=action, Subject=subject, Message=message)
            except Exception as error:  # noqa: BLE001 - recorded, as AWS records it
                result = f"Failed to execute action: {error}"
                log.warning("alarm %s: %s (%s)", alarm.name, result, action)
            else:
                topic = {"TopicName": action.rpartition(":")[2]}
                self._context.metrics.put(
                    "AWS/SNS", "NumberOfMessagesPublished", 1, unit="Count", dimensions=topic
                )
        self.record(
            alarm, "Action", f"{result} {action}", {"actionState": result, "resource": action}
        )

    def record(self, alarm: Alarm, kind: str, summary: str, data: dict[str, Any]) -> None:
        """Adds an item to the history."""
        self.history.appendleft(
            {
                "AlarmName": alarm.name,
                "AlarmType": "MetricAlarm",
                "Timestamp": dt.datetime.now(dt.UTC),
                "HistoryItemType": kind,
                "HistorySummary": summary,
                "HistoryData": json.dumps(data),
            }
        )


def _message(context: CloudContext, alarm: Alarm, before: State) -> dict[str, Any]:
    """The JSON that CloudWatch publishes for a transition."""
    settings = alarm.settings
    trigger: dict[str, Any] = {
        "Period": alarm.period_s,
        "EvaluationPeriods": int(settings["EvaluationPeriods"]),
        "ComparisonOperator": settings["ComparisonOperator"],
        "Threshold": float(settings["Threshold"]),
        "TreatMissingData": settings.get("TreatMissingData", "missing"),
        "EvaluateLowSampleCountPercentile": settings.get("EvaluateLowSampleCountPercentile", ""),
    }
    if settings.get("DatapointsToAlarm"):
        trigger["DatapointsToAlarm"] = int(settings["DatapointsToAlarm"])
    if "Metrics" in settings:
        trigger["Metrics"] = settings["Metrics"]
    else:
        trigger |= {
            "MetricName": settings["MetricName"],
            "Namespace": settings["Namespace"],
            "StatisticType": "Statistic" if "Statistic" in settings else "ExtendedStatistic",
            "Statistic": str(
                settings.get("Statistic") or settings.get("ExtendedStatistic")
            ).upper(),
            "Unit": settings.get("Unit"),
            "Dimensions": [
                {"value": dimension["Value"], "name": dimension["Name"]}
                for dimension in settings.get("Dimensions") or ()
            ],
        }
    return {
        "AlarmName": alarm.name,
        "AlarmDescription": settings.get("AlarmDescription"),
        "AWSAccountId": context.account_id,
        "AlarmConfigurationUpdatedTimestamp": _iso(alarm.configured.timestamp()),
        "NewStateValue": alarm.state,
        "NewStateReason": alarm.reason,
        "StateChangeTime": _iso(alarm.updated.timestamp()),
        "Region": _region_name(context.region),
        "AlarmArn": alarm.arn,
        "OldStateValue": before,
        "OKActions": settings.get("OKActions") or [],
        "AlarmActions": settings.get("AlarmActions") or [],
        "InsufficientDataActions": settings.get("InsufficientDataActions") or [],
        "Trigger": trigger,
    }


def _region_name(region: str) -> str:
    return REGION_NAMES.get(region, region)


def _iso(epoch_s: float) -> str:
    moment = dt.datetime.fromtimestamp(epoch_s, dt.UTC)
    return moment.strftime("%Y-%m-%dT%H:%M:%S.") + f"{moment.microsecond // 1000:03d}+0000"


def _short_time(epoch_s: float) -> str:
    return dt.datetime.fromtimestamp(epoch_s, dt.UTC).strftime("%d/%m/%y %H:%M:%S")
