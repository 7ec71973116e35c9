"""The deployed dashboard with its data: GetDashboard, then GetMetricData for each metric widget."""

from __future__ import annotations

import asyncio
import datetime as dt
import math
from typing import TYPE_CHECKING, Any

from markdown_it import MarkdownIt

from dashboards.live.alarms import alarm_name, told_alarm
from dashboards.live.body import Body, SeriesQuery, Widget, read_body
from dashboards.live.clients import ApiProblem

if TYPE_CHECKING:
    from collections.abc import Iterable

    from dashboards.live.clients import Clients

MAX_POINTS = 720
# GetMetricData takes 500 queries a call; a widget beyond that shows its first ones.
MAX_QUERIES = 500
AT_ONCE = 8
# No HTML of a body gets onto the page, and only links that a browser merely follows.
_MARKDOWN = MarkdownIt("commonmark", {"html": False}).enable("table")


async def read_dashboard(clients: Clients, name: str, range_s: int | None) -> dict[str, Any]:
    """A dashboard for the page.

    Args:
        clients: Whom to ask.
        name: The dashboard's name.
        range_s: How far back, seconds; what the body wants, or 15 minutes, where None.

    Returns:
        `name`, `range_s`, `start_ms`, `end_ms`, and `widgets`, each with its data or its `error`.

    Raises:
        ApiProblem: there is no such dashboard, or its body cannot be read.
    """
    answer = await clients.call("cloudwatch", "get_dashboard", DashboardName=name)
    try:
        body: Body = read_body(answer["DashboardBody"])
    except ValueError as error:
        raise ApiProblem(f"dashboard {name}: {error}", status=422) from error
    range_s = range_s or body.range_s or 900
    end = dt.datetime.now(dt.UTC)
    start = end - dt.timedelta(seconds=range_s)
    gate = asyncio.Semaphore(AT_ONCE)

    async def told(widget: Widget) -> dict[str, Any]:
        async with gate:
            return await _told(clients, widget, start, end)

    widgets = await asyncio.gather(*map(told, body.widgets))
    return {
        "name": name,
        "range_s": range_s,
        "start_ms": int(start.timestamp() * 1000),
        "end_ms": int(end.timestamp() * 1000),
        "widgets": widgets,
    }


async def _told(
    clients: Clients, widget: Widget, start: dt.datetime, end: dt.datetime
) -> dict[str, Any]:
    x, y, width, height = widget.place
    properties = widget.properties
    told: dict[str, Any] = {
        "id": widget.id, "kind": widget.kind, "x": x, "y": y, "width": width, "height": height,
        "title": str(properties.get("title", "")), "properties": properties,
    }  # fmt: skip
    if widget.told:
        told["told"] = widget.told
    if widget.kind == "text":
        told["html"] = _MARKDOWN.render(str(properties.get("markdown", "")))
    try:
        if widget.kind == "metric":
            told |= await _with_data(clients, widget, start, end)
        elif widget.kind == "alarm":
            told["alarms"] = await _states(clients, properties)
    except ApiProblem as problem:
        if problem.away:
            raise
        told["error"] = f"{problem.code}: {problem}" if problem.code else str(problem)
    return told


async def _with_data(
    clients: Clients, widget: Widget, start: dt.datetime, end: dt.datetime
) -> dict[str, Any]:
    properties, series = widget.properties, list(widget.series)
    region = str(properties.get("region", ""))
    annotations = properties.get("annotations")
    horizontal = list(_listed(annotations, "horizontal"))
    for arn in _listed(annotations, "alarms"):
        alarm = await _alarm(clients, str(arn))
        series += _series_of_alarm(alarm)
        if "Threshold" in alarm:
            horizontal.append({"label": alarm["AlarmName"], "value": alarm["Threshold"]})
    told: dict[str, Any] = {
        "view": properties.get("view", "timeSeries"),
        "annotations": {
            "horizontal": horizontal,
            "vertical": list(_listed(annotations, "vertical")),
        },
        "series": [],
    }
    if not series:
        return told
    if len(series) > MAX_QUERIES:
        told["note"] = f"the first {MAX_QUERIES} of {len(series)} metrics"
        series = series[:MAX_QUERIES]
    whole = bool(properties.get("setPeriodToTimeRange")) and told["view"] != "timeSeries"
    queries = [_paced(one.query, start, end, whole=whole) for one in series]
    results: dict[tuple[str, str], dict[str, Any]] = {}
    token: dict[str, str] = {}
    while True:
        answer = await clients.call(
            "cloudwatch", "get_metric_data", region, MetricDataQueries=queries,
            StartTime=start, EndTime=end, ScanBy="TimestampAscending", **token,
        )  # fmt: skip
        for result in answer["MetricDataResults"]:
            line = results.setdefault(
                (result["Id"], result["Label"]), {"times_ms": [], "values": []}
            )
            line["times_ms"] += [int(at.timestamp() * 1000) for at in result["Timestamps"]]
            line["values"] += [
                value if math.isfinite(value) else None for value in result["Values"]
            ]
        messages = [message.get("Value", "") for message in answer.get("Messages", ())]
        if messages:
            told["note"] = "; ".join(messages)
        if not answer.get("NextToken"):
            break
        token = {"NextToken": answer["NextToken"]}
    by_id = {one.id: one for one in series}
    periods = {query["Id"]: _period(query) for query in queries}
    told["series"] = [
        {"id": key, "label": label, "colour": by_id[key].colour, "axis": by_id[key].axis,
         "period_s": periods[key], **line}
        for (key, label), line in results.items()
    ]  # fmt: skip
    return told


def _period(query: dict[str, Any]) -> int | None:
    period = query.get("MetricStat", query).get("Period")
    return None if period is None else int(period)


def _listed(annotations: Any, kind: str) -> Iterable[Any]:
    found = annotations.get(kind) if isinstance(annotations, dict) else None
    return found if isinstance(found, list) else ()


def _paced(
    query: dict[str, Any], start: dt.datetime, end: dt.datetime, *, whole: bool
) -> dict[str, Any]:
    """The query with a period that gives no more points than a chart can show."""
    range_s = int((end - start).total_seconds())

    def period(asked_s: int) -> int:
        if whole:
            return -(-range_s // 60) * 60
        if range_s / asked_s <= MAX_POINTS:
            return asked_s
        return max(asked_s, -(-range_s // MAX_POINTS // 60) * 60)

    if "MetricStat" in query:
        stat = query["MetricStat"]
        return {**query, "MetricStat": {**stat, "Period": period(stat["Period"])}}
    return {**query, "Period": period(query["Period"])}


async def _alarm(clients: Clients, arn: str) -> dict[str, Any]:
    answer = await clients.call("cloudwatch", "describe_alarms", AlarmNames=[alarm_name(arn)])
    for alarm in answer["MetricAlarms"]:
        return dict(alarm)
    raise ApiProblem(f"there is no alarm {alarm_name(arn)}")


def _series_of_alarm(alarm: dict[str, Any]) -> list[SeriesQuery]:
    if alarm.get("Metrics"):
        return [SeriesQuery(one["Id"], one) for one in alarm["Metrics"]]
    metric = {
        "Namespace": alarm["Namespace"],
        "MetricName": alarm["MetricName"],
        "Dimensions": alarm.get("Dimensions", []),
    }
    stat = alarm.get("Statistic") or alarm["ExtendedStatistic"]
    query = {
        "Id": "of_alarm",
        "Label": alarm["MetricName"],
        "MetricStat": {"Metric": metric, "Period": alarm["Period"], "Stat": stat},
    }
    return [SeriesQuery("of_alarm", query)]


async def _states(clients: Clients, properties: dict[str, Any]) -> list[dict[str, Any]]:
    names = [alarm_name(str(arn)) for arn in properties.get("alarms", ())]
    found: dict[str, dict[str, Any]] = {}
    for first in range(0, len(names), 100):
        answer = await clients.call(
            "cloudwatch", "describe_alarms", AlarmNames=names[first : first + 100],
            AlarmTypes=["MetricAlarm", "CompositeAlarm"],
        )  # fmt: skip
        for alarm in (*answer["MetricAlarms"], *answer["CompositeAlarms"]):
            found[alarm["AlarmName"]] = told_alarm(alarm)
    return [found.get(name, {"name": name, "state": "GONE", "reason": "no such alarm"})
            for name in names]  # fmt: skip
