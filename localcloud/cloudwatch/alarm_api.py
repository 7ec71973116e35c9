"""The alarm operations of the CloudWatch API."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, TypeVar

from localcloud.arn import arn
from localcloud.cloudwatch.alarms import (
    ACTIONS,
    Alarm,
    CompositeAlarm,
    MetricAlarm,
    alarm_name,
    watches,
)
from localcloud.cloudwatch.messages import configuration_history
from localcloud.cloudwatch.paging import page
from localcloud.cloudwatch.validation import (
    MAX_ALARMS,
    check_composite_alarm,
    check_metric_alarm,
    children_of,
)
from localcloud.http import AwsError

if TYPE_CHECKING:
    from collections.abc import Callable

    from localcloud.cloudwatch.clock import AlarmClock
    from localcloud.seams import CloudContext

    Operation = Callable[[dict[str, Any]], dict[str, Any]]

MAX_TAGS = 50
A = TypeVar("A", MetricAlarm, CompositeAlarm)
MAX_AT_ONCE = 100
_CHILD = ("AlarmName", "AlarmArn", "StateValue", "StateUpdatedTimestamp")
_PARENT = ("AlarmName", "AlarmArn")


class AlarmOperations:
    """Puts, describes, deletes and tags alarms."""

    def __init__(self, context: CloudContext, clock: AlarmClock) -> None:
        self._context = context
        self._clock = clock

    def operations(self) -> dict[str, Operation]:
        """By the names of the API."""
        return {
            "PutMetricAlarm": self._put_metric_alarm,
            "PutCompositeAlarm": self._put_composite_alarm,
            "DescribeAlarms": self._describe,
            "DescribeAlarmsForMetric": self._describe_for_metric,
            "DescribeAlarmHistory": self._describe_history,
            "DeleteAlarms": self._delete,
            "SetAlarmState": self._set_state,
            "EnableAlarmActions": lambda body: self._switch_actions(body, on=True),
            "DisableAlarmActions": lambda body: self._switch_actions(body, on=False),
            "TagResource": self._tag,
            "UntagResource": self._untag,
            "ListTagsForResource": self._list_tags,
        }

    # Put

    def _put_metric_alarm(self, body: dict[str, Any]) -> dict[str, Any]:
        settings, tags = _settings(body)
        check_metric_alarm(settings)
        self._put(settings, tags, MetricAlarm)
        return {}

    def _put_composite_alarm(self, body: dict[str, Any]) -> dict[str, Any]:
        settings, tags = _settings(body)
        check_composite_alarm(settings, self._clock.alarms)
        known = settings["AlarmName"] in self._clock.alarms
        alarm = self._put(settings, tags, CompositeAlarm)
        self._clock.created(alarm, "updated" if known else "created")
        return {}

    def _put(self, settings: dict[str, Any], tags: dict[str, str], kind: type[A]) -> A:
        alarms, name = self._clock.alarms, settings["AlarmName"]
        alarm = alarms.get(name)
        if alarm is None:
            if len(alarms) >= MAX_ALARMS:
                raise AwsError("LimitExceeded", f"there are {MAX_ALARMS} alarms already")
            context = self._context
            made = kind(
                name,
                arn("cloudwatch", context.region, context.account_id, f"alarm:{name}"),
                settings,
                tags=tags,
            )
            alarms[name] = made
            data = configuration_history("Create", made)
            self._clock.record(made, "ConfigurationUpdate", f'Alarm "{name}" created', data)
            return made
        if not isinstance(alarm, kind):
            raise AwsError(
                "ValidationError", f"An alarm of another type has the name {name} already."
            )
        alarm.change(settings)
        data = configuration_history("Update", alarm)
        self._clock.record(alarm, "ConfigurationUpdate", f'Alarm "{name}" updated', data)
        return alarm

    # Describe

    def _describe(self, body: dict[str, Any]) -> dict[str, Any]:
        related = [n for n in ("ChildrenOfAlarmName", "ParentsOfAlarmName") if body.get(n)]
        if related:
            others = {n for n, v in body.items() if v} - {related[0], "MaxRecords", "NextToken"}
            if others:
                raise AwsError(
                    "ValidationError", f"{related[0]} cannot be combined with {min(others)}"
                )
            return self._describe_related(body, related[0])
        names, prefix = body.get("AlarmNames") or [], body.get("AlarmNamePrefix") or ""
        if names and prefix:
            raise AwsError(
                "ValidationError", "AlarmNames and AlarmNamePrefix cannot be specified together"
            )
        kinds = body.get("AlarmTypes") or ["MetricAlarm"]
        found = [
            alarm
            for name, alarm in sorted(self._clock.alarms.items())
            if alarm.kind in kinds
            and (not names or name in names)
            and name.startswith(prefix)
            and body.get("StateValue") in (None, alarm.state)
            and _has_action(alarm, body.get("ActionPrefix") or "")
        ]
        limit = max(int(body.get("MaxRecords") or 50), len(names))
        return self._described(found, body, limit, None)

    def _describe_related(self, body: dict[str, Any], what: str) -> dict[str, Any]:
        alarm = self._find(body[what])
        if what == "ChildrenOfAlarmName":
            children = children_of(alarm)
            shown: tuple[str, ...] = _CHILD
            found = [a for n, a in sorted(self._clock.alarms.items()) if n in children]
        else:
            shown = _PARENT
            found = [
                a for _, a in sorted(self._clock.alarms.items()) if alarm.name in children_of(a)
            ]
        return self._described(found, body, int(body.get("MaxRecords") or 50), shown)

    def _described(
        self, found: list[Alarm], body: dict[str, Any], limit: int, shown: tuple[str, ...] | None
    ) -> dict[str, Any]:
        part, token = page(found, body.get("NextToken"), limit)
        answer: dict[str, Any] = {"MetricAlarms": [], "CompositeAlarms": [], **token}
        for alarm in part:
            described = alarm.describe()
            if shown:
                described = {name: described[name] for name in shown}
            answer[f"{alarm.kind}s"].append(described)
        return answer

    def _describe_for_metric(self, body: dict[str, Any]) -> dict[str, Any]:
        found = [alarm for alarm in self._clock.alarms.values() if watches(alarm, body)]
        return {"MetricAlarms": [alarm.describe() for alarm in found]}

    def _describe_history(self, body: dict[str, Any]) -> dict[str, Any]:
        since, until = body.get("StartDate"), body.get("EndDate")
        kinds = body.get("AlarmTypes") or ["MetricAlarm"]
        if body.get("AlarmName") and not body.get("AlarmTypes"):
            kinds = ["MetricAlarm", "CompositeAlarm"]
        found = [
            item
            for item in self._clock.history
            if body.get("AlarmName") in (None, item["AlarmName"])
            and item["AlarmType"] in kinds
            and body.get("HistoryItemType") in (None, item["HistoryItemType"])
            and (since is None or item["Timestamp"] >= since)
            and (until is None or item["Timestamp"] <= until)
        ]
        if body.get("ScanBy") == "TimestampAscending":
            found.reverse()
        part, token = page(found, body.get("NextToken"), int(body.get("MaxRecords") or 100))
        return {"AlarmHistoryItems": part, **token}

    # Change

    def _delete(self, body: dict[str, Any]) -> dict[str, Any]:
        alarms, names = self._clock.alarms, body["AlarmNames"]
        if len(names) > MAX_AT_ONCE:
            raise AwsError("ValidationError", f"at most {MAX_AT_ONCE} alarms in a call")
        known = [name for name in dict.fromkeys(names) if name in alarms]
        composite = [name for name in known if isinstance(alarms[name], CompositeAlarm)]
        if len(composite) > 1:
            raise AwsError(
                "ValidationError", "at most one composite alarm can be deleted in a call"
            )
        for name in known:
            parents = [n for n, a in alarms.items() if name in children_of(a) and n not in known]
            if parents:
                raise AwsError(
                    "ValidationError",
                    f"Cannot delete {name} as there are composite alarm(s) depending on it.",
                )
        for name in known:
            alarm = alarms.pop(name)
            data = configuration_history("Delete", alarm)
            self._clock.record(alarm, "ConfigurationUpdate", f'Alarm "{name}" deleted', data)
        missing = [name for name in names if name not in known]
        if missing:
            # The others are deleted all the same, as the API reference says.
            raise AwsError("ResourceNotFound", f"Alarm {missing[0]} does not exist", 404)
        return {}

    def _set_state(self, body: dict[str, Any]) -> dict[str, Any]:
        if body["StateValue"] not in ACTIONS:
            raise AwsError(
                "ValidationError",
                f"1 validation error detected: Value '{body['StateValue']}' at 'stateValue' failed "
                "to satisfy constraint: Member must satisfy enum value set: "
                "[INSUFFICIENT_DATA, ALARM, OK]",
            )
        data = body.get("StateReasonData") or ""
        if data:
            try:
                json.loads(data)
            except ValueError as error:
                raise AwsError("InvalidFormat", "StateReasonData is not JSON") from error
        alarm = self._find(body["AlarmName"])
        self._clock.set_state(alarm, body["StateValue"], body["StateReason"], data)
        return {}

    def _switch_actions(self, body: dict[str, Any], *, on: bool) -> dict[str, Any]:
        for name in body["AlarmNames"]:
            if name in self._clock.alarms:
                self._clock.alarms[name].settings["ActionsEnabled"] = on
        return {}

    def _find(self, name: str) -> Alarm:
        alarm = self._clock.alarms.get(alarm_name(name))
        if alarm is None:
            raise AwsError("ResourceNotFound", f"Alarm {name} does not exist", 404)
        return alarm

    # Tags

    def _tag(self, body: dict[str, Any]) -> dict[str, Any]:
        alarm = self._by_arn(body["ResourceARN"])
        tags = {**alarm.tags, **{tag["Key"]: tag["Value"] for tag in body["Tags"]}}
        if len(tags) > MAX_TAGS:
            raise AwsError("InvalidParameterValue", f"an alarm has at most {MAX_TAGS} tags")
        alarm.tags = tags
        return {}

    def _untag(self, body: dict[str, Any]) -> dict[str, Any]:
        alarm = self._by_arn(body["ResourceARN"])
        for key in body["TagKeys"]:
            alarm.tags.pop(key, None)
        return {}

    def _list_tags(self, body: dict[str, Any]) -> dict[str, Any]:
        tags = self._by_arn(body["ResourceARN"]).tags
        return {"Tags": [{"Key": key, "Value": value} for key, value in sorted(tags.items())]}

    def _by_arn(self, resource: str) -> Alarm:
        alarm = self._clock.alarms.get(alarm_name(resource))
        if alarm is None or alarm.arn != resource:
            raise AwsError("ResourceNotFoundException", f"Unknown resource {resource}", 404)
        return alarm


def _settings(body: dict[str, Any]) -> tuple[dict[str, Any], dict[str, str]]:
    """(settings that say something, tags) of a put."""
    tags = {tag["Key"]: tag["Value"] for tag in body.get("Tags") or ()}
    if len(tags) > MAX_TAGS:
        raise AwsError("ValidationError", f"an alarm has at most {MAX_TAGS} tags")
    given = {n: v for n, v in body.items() if n != "Tags" and v is not None and v not in ("", [])}
    return given, tags


def _has_action(alarm: Alarm, prefix: str) -> bool:
    if not prefix:
        return True
    actions = [action for kind in ACTIONS.values() for action in alarm.settings.get(kind) or ()]
    return any(action.startswith(prefix) for action in actions)
