"""States and history of alarms, as the page shows them."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

    from dashboards.live.clients import Clients

HISTORY_PAGE = 50
# The wording of AWS's console.
COMPARISONS = {
    "GreaterThanThreshold": ">",
    "GreaterThanOrEqualToThreshold": "≥",
    "LessThanThreshold": "<",
    "LessThanOrEqualToThreshold": "≤",
}


def alarm_name(arn: str) -> str:
    """The name in an alarm's ARN; a plain name is taken as it is."""
    return arn.split(":alarm:", 1)[-1]


def told_alarm(alarm: dict[str, Any]) -> dict[str, Any]:
    """An alarm of DescribeAlarms for the page; times are epoch milliseconds."""
    return {
        "name": alarm["AlarmName"],
        "state": alarm["StateValue"],
        "since_ms": int(alarm["StateUpdatedTimestamp"].timestamp() * 1000),
        "reason": alarm.get("StateReason", ""),
        "description": alarm.get("AlarmDescription", ""),
        "rule": _rule(alarm),
    }


def _rule(alarm: dict[str, Any]) -> str:
    if "AlarmRule" in alarm:
        return str(alarm["AlarmRule"])
    if "Threshold" not in alarm:
        return ""
    stat = alarm.get("Statistic") or alarm.get("ExtendedStatistic") or "expression"
    what = f"{stat} of {alarm['MetricName']}" if alarm.get("MetricName") else "expression"
    compared = COMPARISONS.get(alarm["ComparisonOperator"], alarm["ComparisonOperator"])
    periods = alarm["EvaluationPeriods"]
    of = f"{alarm.get('DatapointsToAlarm', periods)} of {periods} periods"
    each = f" of {alarm['Period']} s" if "Period" in alarm else ""
    return f"{what} {compared} {alarm['Threshold']:,g}, {of}{each}"


async def read_alarms(clients: Clients, names: Sequence[str]) -> list[dict[str, Any]]:
    """The alarms with these names, those in ALARM first.

    Raises:
        ApiProblem: they could not be read.
    """
    found = []
    for first in range(0, len(names), 100):
        answer = await clients.call(
            "cloudwatch", "describe_alarms", AlarmNames=list(names[first : first + 100]),
            AlarmTypes=["MetricAlarm", "CompositeAlarm"], MaxRecords=100,
        )  # fmt: skip
        found += [told_alarm(one) for one in (*answer["MetricAlarms"], *answer["CompositeAlarms"])]
    order = {"ALARM": 0, "INSUFFICIENT_DATA": 1, "OK": 2}
    return sorted(found, key=lambda alarm: (order.get(alarm["state"], 3), alarm["name"]))


async def read_history(
    clients: Clients, names: Sequence[str], *, name: str = "", token: str = ""
) -> dict[str, Any]:
    """Transitions of alarms, the newest first.

    Args:
        clients: Whom to ask.
        names: The stack's alarms: of others nothing is told.
        name: One alarm; all of the stack where empty.
        token: Where the page before ended.

    Returns:
        `items` (name, at_ms, summary, from, to) and `next`, empty at the end.

    Raises:
        ApiProblem: they could not be read.
    """
    more: dict[str, Any] = {"NextToken": token} if token else {}
    if name:
        more["AlarmName"] = name
    answer = await clients.call(
        "cloudwatch", "describe_alarm_history", HistoryItemType="StateUpdate",
        AlarmTypes=["MetricAlarm", "CompositeAlarm"], MaxRecords=HISTORY_PAGE,
        ScanBy="TimestampDescending", **more,
    )  # fmt: skip
    known = set(names)
    items = [_item(one) for one in answer["AlarmHistoryItems"] if one["AlarmName"] in known]
    return {"items": items, "next": answer.get("NextToken", "")}


def _item(one: dict[str, Any]) -> dict[str, Any]:
    try:
        data = json.loads(one.get("HistoryData") or "{}")
    except ValueError:
        data = {}
    old, new = data.get("oldState") or {}, data.get("newState") or {}
    return {
        "name": one["AlarmName"],
        "at_ms": int(one["Timestamp"].timestamp() * 1000),
        "summary": one.get("HistorySummary", ""),
        "from": old.get("stateValue", ""),
        "to": new.get("stateValue", ""),
        "reason": new.get("stateReason", ""),
    }
