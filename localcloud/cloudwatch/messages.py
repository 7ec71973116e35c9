"""What CloudWatch tells of an alarm in JSON: its notifications and its history."""

from __future__ import annotations

import datetime as dt
import json
from typing import TYPE_CHECKING, Any

from localcloud.cloudwatch.alarms import CompositeAlarm, MetricAlarm

if TYPE_CHECKING:
    from collections.abc import Sequence

    from localcloud.cloudwatch.alarms import Alarm
    from localcloud.cloudwatch.evaluation import State
    from localcloud.seams import CloudContext

REGION_NAMES = {
    "us-east-1": "US East (N. Virginia)", "us-east-2": "US East (Ohio)",
    "us-west-1": "US West (N. California)", "us-west-2": "US West (Oregon)",
    "eu-west-1": "EU (Ireland)", "eu-west-2": "EU (London)", "eu-west-3": "EU (Paris)",
    "eu-central-1": "EU (Frankfurt)", "eu-north-1": "EU (Stockholm)",
    "ap-southeast-1": "Asia Pacific (Singapore)", "ap-southeast-2": "Asia Pacific (Sydney)",
    "ap-northeast-1": "Asia Pacific (Tokyo)", "ap-south-1": "Asia Pacific (Mumbai)",
    "ca-central-1": "Canada (Central)", "sa-east-1": "South America (Sao Paulo)",
}  # fmt: skip
MAX_SUBJECT = 100


def subject(context: CloudContext, alarm: Alarm) -> str:
    """The subject of a notification."""
    return f'{alarm.state}: "{alarm.name}" in {_region_name(context.region)}'[:MAX_SUBJECT]


def notification(
    context: CloudContext, alarm: Alarm, before: State, triggers: Sequence[Alarm] = ()
) -> str:
    """The JSON that is published for a transition; `triggers` are a composite alarm's children."""
    settings = alarm.settings
    message: dict[str, Any] = {
        "AlarmName": alarm.name,
        "AlarmDescription": settings.get("AlarmDescription"),
        "AWSAccountId": context.account_id,
        "AlarmConfigurationUpdatedTimestamp": iso(alarm.configured.timestamp()),
        "NewStateValue": alarm.state,
        "NewStateReason": alarm.reason,
        "StateChangeTime": iso(alarm.updated.timestamp()),
        "Region": _region_name(context.region),
        "AlarmArn": alarm.arn,
        "OldStateValue": before,
        "OKActions": settings.get("OKActions") or [],
        "AlarmActions": settings.get("AlarmActions") or [],
        "InsufficientDataActions": settings.get("InsufficientDataActions") or [],
    }
    if isinstance(alarm, MetricAlarm):
        message["Trigger"] = _trigger(alarm)
    else:
        message["AlarmRule"] = settings["AlarmRule"]
        message["TriggeringChildren"] = [
            {"Arn": child.arn, "State": {"Value": child.state,
                                         "Timestamp": iso(child.updated.timestamp())}}
            for child in triggers
        ]  # fmt: skip
    return json.dumps(message)


def _trigger(alarm: MetricAlarm) -> dict[str, Any]:
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
        return {**trigger, "Metrics": settings["Metrics"]}
    return {
        **trigger,
        "MetricName": settings["MetricName"],
        "Namespace": settings["Namespace"],
        "StatisticType": "Statistic" if settings.get("Statistic") else "ExtendedStatistic",
        # The one is told in capitals, the other as it is written.
        "Statistic": str(settings.get("Statistic") or "").upper()
        or settings.get("ExtendedStatistic"),
        "Unit": settings.get("Unit"),
        "Dimensions": [
            {"value": dimension["Value"], "name": dimension["Name"]}
            for dimension in settings.get("Dimensions") or ()
        ],
    }


def composite_reason_data(triggers: Sequence[Alarm]) -> str:
    """StateReasonData of a composite alarm."""
    return json.dumps(
        {
            "triggeringAlarms": [
                {"arn": child.arn, "state": {"value": child.state,
                                             "timestamp": iso(child.updated.timestamp())}}
                for child in triggers
            ]
        }
    )  # fmt: skip


def configuration_history(kind: str, alarm: Alarm) -> dict[str, Any]:
    """HistoryData of a creation, update or deletion (`kind` is Create, Update or Delete)."""
    member = {"Create": "createdAlarm", "Update": "updatedAlarm", "Delete": "deletedAlarm"}[kind]
    return {"version": "1.0", "type": kind, member: _camel(alarm.describe())}


def state_history(old: tuple[State, str, str], alarm: Alarm) -> dict[str, Any]:
    """HistoryData of a transition; `old` is the state before with its reason and its data."""

    def told(state: str, reason: str, data: str) -> dict[str, Any]:
        entry: dict[str, Any] = {"stateValue": state, "stateReason": reason}
        if data:
            entry["stateReasonData"] = json.loads(data)
        return entry

    new = told(alarm.state, alarm.reason, alarm.reason_data)
    if isinstance(alarm, CompositeAlarm) and alarm.suppression.by:
        new["actionsSuppressedBy"] = alarm.suppression.by
    return {"version": "1.0", "oldState": told(*old), "newState": new}


def action_history(action: str, message: str, moment: dt.datetime, error: str) -> dict[str, Any]:
    """HistoryData of an action."""
    return {
        "actionState": "Failed" if error else "Succeeded",
        "stateUpdateTimestamp": int(moment.timestamp() * 1000),
        "notificationResource": action,
        "publishedMessage": message,
        "error": error or None,
    }


def _camel(described: dict[str, Any]) -> dict[str, Any]:
    def convert(value: Any) -> Any:
        if isinstance(value, dt.datetime):
            return iso(value.timestamp())
        if isinstance(value, dict):
            return {_member(name): convert(part) for name, part in value.items()}
        return [convert(part) for part in value] if isinstance(value, list) else value

    return {_member(name): convert(value) for name, value in described.items()}


def _member(name: str) -> str:
    return "okactions" if name == "OKActions" else name[:1].lower() + name[1:]


def _region_name(region: str) -> str:
    return REGION_NAMES.get(region, region)


def iso(epoch_s: float) -> str:
    """The form in which CloudWatch writes times in JSON."""
    moment = dt.datetime.fromtimestamp(epoch_s, dt.UTC)
    return moment.strftime("%Y-%m-%dT%H:%M:%S.") + f"{moment.microsecond // 1000:03d}+0000"


def long_time(moment: dt.datetime) -> str:
    """The form in which a composite alarm's reason tells a time."""
    return moment.strftime("%A %d %B, %Y %H:%M:%S UTC")


def short_time(epoch_s: float) -> str:
    """The form in which a metric alarm's reason tells a time."""
    return dt.datetime.fromtimestamp(epoch_s, dt.UTC).strftime("%d/%m/%y %H:%M:%S")
