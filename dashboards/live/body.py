"""Reads the body of a CloudWatch dashboard into widgets that the page can draw.

Any body is read: what the page cannot draw becomes a widget of kind `unknown` that says so, and a
widget with a mistake becomes one of kind `broken` with the mistake. Structure: "Dashboard body
structure and syntax" of the CloudWatch API reference.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from typing import Any

GRID_WIDTH = 24
DEFAULT_PERIOD_S = 300
# What CloudWatch lays out where a body gives no size.
DEFAULT_SIZE = (6, 6)
VIEWS = ("timeSeries", "bar", "pie", "singleValue", "gauge", "table")
DRAWN = ("metric", "alarm", "text", "log")
REPEATED = "..."
_DURATION = re.compile(r"-P(?:(\d+)D)?(?:T(?:(\d+)H)?(?:(\d+)M)?(?:(\d+)S)?)?")


@dataclass(frozen=True, slots=True)
class SeriesQuery:
    """One line of a metric widget, as GetMetricData is asked for it.

    Attributes:
        id: Its id within the widget.
        query: The MetricDataQuery.
        colour: What the body asks for; empty where it does not.
        axis: `left` or `right`.
    """

    id: str
    query: dict[str, Any]
    colour: str = ""
    axis: str = "left"


@dataclass(frozen=True, slots=True)
class Widget:
    """A widget of the page.

    Attributes:
        id: `w0`, `w1` ... in the order of the body.
        kind: `metric`, `alarm`, `text`, `log`, `unknown` or `broken`.
        place: x, y, width and height in cells of a grid of 24 columns.
        properties: What the body says of it.
        series: Of a metric widget: its lines.
        told: Of a broken or unknown widget: what is the matter.
    """

    id: str
    kind: str
    place: tuple[int, int, int, int]
    properties: dict[str, Any]
    series: tuple[SeriesQuery, ...] = ()
    told: str = ""


@dataclass(frozen=True, slots=True)
class Body:
    """A dashboard as the page draws it.

    Attributes:
        widgets: In the order of the body.
        range_s: How far back the body wants to be shown, seconds; None where it does not say.
    """

    widgets: list[Widget] = field(default_factory=list)
    range_s: int | None = None


def read_body(text: str) -> Body:
    """Reads the body of a dashboard.

    Raises:
        ValueError: it is no JSON object with a list of widgets.
    """
    parsed = json.loads(text)
    widgets = parsed.get("widgets") if isinstance(parsed, dict) else None
    if not isinstance(widgets, list):
        raise ValueError("the dashboard's body has no list of widgets")  # noqa: TRY004 - the text
    found: list[Widget] = []
    bottom = 0
    for index, one in enumerate(widgets):
        widget = _widget(f"w{index}", one, bottom)
        bottom = max(bottom, widget.place[1] + widget.place[3])
        found.append(widget)
    return Body(found, _back_s(parsed.get("start")))


def _widget(name: str, one: Any, bottom: int) -> Widget:
    if not isinstance(one, dict):
        return Widget(name, "broken", (0, bottom, *DEFAULT_SIZE), {}, told="a widget is an object")
    place = (
        _cell(one.get("x"), 0, GRID_WIDTH - 1, 0),
        _cell(one.get("y"), 0, 100_000, bottom),
        _cell(one.get("width"), 1, GRID_WIDTH, DEFAULT_SIZE[0]),
        _cell(one.get("height"), 1, 1000, DEFAULT_SIZE[1]),
    )
    kind, properties = one.get("type"), one.get("properties")
    if not isinstance(properties, dict):
        properties = {}
    if kind not in DRAWN:
        told = f"widgets of type {kind} are not drawn here; the CloudWatch console draws them"
        return Widget(name, "unknown", place, properties, told=told)
    if kind != "metric":
        return Widget(name, str(kind), place, properties)
    view = properties.get("view", "timeSeries")
    if view not in VIEWS:
        return Widget(
            name, "unknown", place, properties, told=f"the view {view} is not drawn here"
        )  # fmt: skip
    try:
        return Widget(name, "metric", place, properties, tuple(series_of(properties)))
    except (ValueError, TypeError) as error:
        return Widget(name, "broken", place, properties, told=str(error))


def series_of(properties: dict[str, Any]) -> list[SeriesQuery]:
    """The lines of a metric widget.

    Raises:
        ValueError: a metric array cannot be read.
    """
    arrays = properties.get("metrics", [])
    if not isinstance(arrays, list):
        raise ValueError("metrics is no array")  # noqa: TRY004 - a mistake in a file
    found: list[SeriesQuery] = []
    before: list[str] = []
    for index, array in enumerate(arrays):
        where = f"metric {index + 1}"
        if not isinstance(array, list) or not array:
            raise ValueError(f"{where} is no array of names")
        options = array[-1] if isinstance(array[-1], dict) else {}
        names = array[:-1] if options or isinstance(array[-1], dict) else array
        if names:
            names = before = _filled([str(name) for name in names], before, where)
        elif "expression" not in options:
            raise ValueError(f"{where} has neither a metric nor an expression")
        identity = str(options.get("id") or f"m{index}_shown")
        query = _query(identity, names, options, properties)
        axis = "right" if options.get("yAxis") == "right" else "left"
        found.append(SeriesQuery(identity, query, str(options.get("color", "")), axis))
    return found


def _query(
    identity: str, names: list[str], options: dict[str, Any], properties: dict[str, Any]
) -> dict[str, Any]:
    period = int(options.get("period") or properties.get("period") or DEFAULT_PERIOD_S)
    query: dict[str, Any] = {
        "Id": identity,
        "ReturnData": options.get("visible", True) is not False,
    }
    if options.get("label"):
        query["Label"] = str(options["label"])
    if options.get("accountId"):
        query["AccountId"] = str(options["accountId"])
    if not names:
        return {**query, "Expression": str(options["expression"]), "Period": period}
    pairs = zip(names[2::2], names[3::2], strict=True)
    metric = {
        "Namespace": names[0],
        "MetricName": names[1],
        "Dimensions": [{"Name": name, "Value": value} for name, value in pairs],
    }
    stat = str(options.get("stat") or properties.get("stat") or "Average")
    return {**query, "MetricStat": {"Metric": metric, "Period": period, "Stat": stat}}


def _filled(names: list[str], before: list[str], where: str) -> list[str]:
    """The names with `.` and `...` replaced by what they stand for in the metric before."""
    if REPEATED in names:
        at = names.index(REPEATED)
        left = len(before) - (len(names) - 1)
        if left < 0:
            raise ValueError(f"{where}: nothing before it that ... could repeat")
        names = [*names[:at], *before[at : at + left], *names[at + 1 :]]
    if any(name == "." and index >= len(before) for index, name in enumerate(names)):
        raise ValueError(f"{where}: nothing before it that . could repeat")
    names = [before[index] if name == "." else name for index, name in enumerate(names)]
    if len(names) < 2 or len(names) % 2:  # noqa: PLR2004 - namespace and name
        raise ValueError(f"{where} needs a namespace, a name and pairs of dimensions")
    return names


def _cell(value: Any, least: int, most: int, default: int) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        return default
    return min(most, max(least, value))


def _back_s(start: Any) -> int | None:
    """Seconds of a relative start such as `-PT3H`; absolute ones are left to the page."""
    found = _DURATION.fullmatch(start) if isinstance(start, str) else None
    if found is None:
        return None
    parts = zip(found.groups(), (86_400, 3600, 60, 1), strict=True)
    return sum(int(number or 0) * unit for number, unit in parts) or None
