"""What CloudWatch takes as a dashboard: structure and sizes.

"Dashboard body structure and syntax" of the CloudWatch API reference, and "CloudWatch service
quotas" of its user guide. The stack's own body is held against this when it is made, so that a
deployment does not fail at its last resource.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

GRID_WIDTH = 24
MAX_HEIGHT = 1000
MAX_WIDGETS = 500
MAX_WIDGET_METRICS = 500
MAX_METRICS = 2500
MAX_ALARMS = 100
SHORT_PERIODS_S = (1, 5, 10, 20, 30)
VIEWS = ("bar", "gauge", "pie", "singleValue", "table", "timeSeries")
_ALARM = re.compile(r"arn:aws[a-z-]*:cloudwatch:[^:]+:[^:]+:alarm:.+")
_PERIOD_OVERRIDES = ("auto", "inherit")
_START = re.compile(r"-P(?=.)(?:\d+[MWD])*(?:T(?=.)(?:\d+H)?(?:\d+M)?(?:\d+S)?)?")


def problems(body: dict[str, Any]) -> list[str]:
    """What is wrong with a dashboard's body, each with the path to it; empty where nothing is."""
    widgets = body.get("widgets")
    if not isinstance(widgets, list):
        return ["/widgets: there is no array of widgets"]
    found = []
    if len(widgets) > MAX_WIDGETS:
        found.append(f"/widgets: {len(widgets)} widgets, at most {MAX_WIDGETS} are taken")
    if body.get("periodOverride", "auto") not in _PERIOD_OVERRIDES:
        found.append(f"/periodOverride: is one of {', '.join(_PERIOD_OVERRIDES)}")
    if "start" in body and not _START.fullmatch(str(body["start"])):
        found.append(f"/start: {body['start']} is no relative time such as -PT3H")
    metrics = 0
    for index, widget in enumerate(widgets):
        where = f"/widgets/{index}"
        found += [f"{where}{told}" for told in _widget(widget)]
        if widget.get("type") == "metric":
            metrics += len(widget.get("properties", {}).get("metrics", ()))
    if metrics > MAX_METRICS:
        found.append(f"/widgets: {metrics} metrics, at most {MAX_METRICS} are taken")
    return found + _overlaps(widgets)


def _widget(widget: dict[str, Any]) -> Iterator[str]:
    for name, least, most in (
        ("x", 0, GRID_WIDTH - 1), ("y", 0, 10**6), ("width", 1, GRID_WIDTH), ("height", 1, MAX_HEIGHT),
    ):  # fmt: skip
        value = widget.get(name)
        if not isinstance(value, int) or not least <= value <= most:
            yield f"/{name}: is a whole number from {least} to {most}, not {value}"
    check = _KINDS.get(str(widget.get("type")))
    if check is None:
        yield f"/type: is one of {', '.join(sorted(_KINDS))}, not {widget.get('type')}"
    else:
        yield from (f"/properties{told}" for told in check(widget.get("properties", {})))


def _text(properties: dict[str, Any]) -> Iterator[str]:
    if not properties.get("markdown"):
        yield "/markdown: a text has some"


def _alarm(properties: dict[str, Any]) -> Iterator[str]:
    alarms = properties.get("alarms", [])
    if not 1 <= len(alarms) <= MAX_ALARMS:
        yield f"/alarms: 1 to {MAX_ALARMS} alarms, not {len(alarms)}"
    for index, arn in enumerate(alarms):
        if not _ALARM.fullmatch(arn):
            yield f"/alarms/{index}: {arn} is no ARN of an alarm"


def _log(properties: dict[str, Any]) -> Iterator[str]:
    if not str(properties.get("query", "")).startswith("SOURCE "):
        yield "/query: begins with SOURCE and a log group"
    if not properties.get("region"):
        yield "/region: a log has one"


def _metric(properties: dict[str, Any]) -> Iterator[str]:
    if not properties.get("region"):
        yield "/region: metrics have one"
    view = properties.get("view", "timeSeries")
    if view not in VIEWS:
        yield f"/view: is one of {', '.join(VIEWS)}, not {view}"
    metrics = properties.get("metrics", [])
    if not metrics:
        yield "/metrics: there are none"
    if len(metrics) > MAX_WIDGET_METRICS:
        yield f"/metrics: {len(metrics)} metrics, at most {MAX_WIDGET_METRICS} are taken"
    period = properties.get("period", 300)
    if period not in SHORT_PERIODS_S and (period <= 0 or period % 60):
        yield f"/period: 1, 5, 10, 20, 30 or a multiple of 60, not {period}"
    left = properties.get("yAxis", {}).get("left", {})
    if view == "gauge" and not {"min", "max"} <= set(left):
        yield "/yAxis/left: a gauge has min and max"
    for index, line in enumerate(properties.get("annotations", {}).get("horizontal", ())):
        if not isinstance(line.get("value"), int | float):
            yield f"/annotations/horizontal/{index}: has a number as its value"


_KINDS: dict[str, Callable[[dict[str, Any]], Iterator[str]]] = {
    "text": _text, "alarm": _alarm, "log": _log, "metric": _metric,
}  # fmt: skip


def _overlaps(widgets: list[dict[str, Any]]) -> list[str]:
    taken: dict[tuple[int, int], int] = {}
    found = []
    for index, widget in enumerate(widgets):
        x, y = widget.get("x", 0), widget.get("y", 0)
        if x + widget.get("width", 0) > GRID_WIDTH:
            found.append(f"/widgets/{index}: ends beyond column {GRID_WIDTH}")
        cells = {
            (x + right, y + down)
            for right in range(min(GRID_WIDTH, widget.get("width", 0)))
            for down in range(min(MAX_HEIGHT, widget.get("height", 0)))
        }
        covered = {taken[cell] for cell in cells if cell in taken}
        found += [f"/widgets/{index}: lies on widget {other}" for other in sorted(covered)]
        taken.update(dict.fromkeys(cells, index))
    return found
