"""Dashboards: kept as they are put, after a look at their bodies.

Structure of bodies: "Dashboard body structure and syntax" of the CloudWatch API reference.
"""

from __future__ import annotations

import datetime as dt
import json
import re
from typing import TYPE_CHECKING, Any

from localcloud.http import AwsError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from localcloud.seams import CloudContext

    Operation = Callable[[dict[str, Any]], dict[str, Any]]
    Problem = tuple[str, str]

WIDGET_TYPES = ("alarm", "custom", "explorer", "log", "metric", "text")
GRID_WIDTH = 24
MAX_HEIGHT = 1000
MAX_WIDGETS = 500
MAX_ALARMS = 100
LIST_PAGE = 1000
_NAME = re.compile(r"[A-Za-z0-9_-]{1,255}")
_REQUIRED = {"text": "markdown", "log": "query", "custom": "endpoint", "alarm": "alarms"}


class Dashboards:
    """The dashboard operations of the API."""

    def __init__(self, context: CloudContext) -> None:
        self._context = context
        self._kept: dict[str, tuple[str, dt.datetime]] = {}

    def __len__(self) -> int:
        return len(self._kept)

    def operations(self) -> dict[str, Operation]:
        """By the names of the API."""
        return {
            "PutDashboard": self._put,
            "GetDashboard": self._get,
            "ListDashboards": self._list,
            "DeleteDashboards": self._delete,
        }

    def _put(self, body: dict[str, Any]) -> dict[str, Any]:
        name = body["DashboardName"]
        if not _NAME.fullmatch(name):
            raise AwsError(
                "InvalidParameterInput",
                f"The value {name} for field DashboardName contains invalid characters. It can only "
                "contain alphanumerics, dash (-) and underscore (_).",
            )
        try:
            parsed = json.loads(body["DashboardBody"])
        except ValueError as error:
            raise AwsError(
                "InvalidParameterInput", "The field DashboardBody must be a valid JSON object"
            ) from error
        problems = [{"DataPath": path, "Message": message} for path, message in _problems(parsed)]
        if problems:
            told = [{"dataPath": p["DataPath"], "message": p["Message"]} for p in problems]
            raise AwsError(
                "InvalidParameterInput",
                f"The dashboard body is invalid, there are {len(problems)} validation errors: "
                f"{json.dumps(told)}",
                dashboardValidationMessages=problems,
            )
        self._kept[name] = (body["DashboardBody"], dt.datetime.now(dt.UTC))
        return {"DashboardValidationMessages": []}

    def _get(self, body: dict[str, Any]) -> dict[str, Any]:
        name = body["DashboardName"]
        self._check_known([name])
        return {
            "DashboardArn": self._arn(name),
            "DashboardBody": self._kept[name][0],
            "DashboardName": name,
        }

    def _list(self, body: dict[str, Any]) -> dict[str, Any]:
        prefix, after = body.get("DashboardNamePrefix") or "", body.get("NextToken") or ""
        found = [n for n in sorted(self._kept) if n.startswith(prefix) and n > after]
        answer: dict[str, Any] = {
            "DashboardEntries": [
                {
                    "DashboardName": name,
                    "DashboardArn": self._arn(name),
                    "LastModified": self._kept[name][1],
                    "Size": len(self._kept[name][0].encode()),
                }
                for name in found[:LIST_PAGE]
            ]
        }
        if len(found) > LIST_PAGE:
            answer["NextToken"] = found[LIST_PAGE - 1]
        return answer

    def _delete(self, body: dict[str, Any]) -> dict[str, Any]:
        self._check_known(body["DashboardNames"])
        for name in body["DashboardNames"]:
            self._kept.pop(name, None)
        return {}

    def _check_known(self, names: list[str]) -> None:
        for name in names:
            if name not in self._kept:
                raise AwsError("ResourceNotFound", f"Dashboard {name} does not exist", 404)

    def _arn(self, name: str) -> str:
        return f"arn:aws:cloudwatch::{self._context.account_id}:dashboard/{name}"


def _problems(body: Any) -> Iterator[Problem]:
    """(path, message) of what is wrong with a body."""
    if not isinstance(body, dict):
        yield "", "Should be object"
        return
    widgets = body.get("widgets")
    if not isinstance(widgets, list):
        yield "/widgets", "Should have required property 'widgets', an array"
        return
    if len(widgets) > MAX_WIDGETS:
        yield "/widgets", f"Should NOT have more than {MAX_WIDGETS} items"
    for index, widget in enumerate(widgets):
        where = f"/widgets/{index}"
        if isinstance(widget, dict):
            yield from _widget_problems(widget, where)
        else:
            yield where, "Should be object"


def _widget_problems(widget: dict[str, Any], where: str) -> Iterator[Problem]:
    kind = widget.get("type")
    if kind not in WIDGET_TYPES:
        yield f"{where}/type", "Should be one of the types " + ", ".join(WIDGET_TYPES)
        return
    for name, least, most in (
        ("x", 0, GRID_WIDTH - 1),
        ("y", 0, None),
        ("width", 1, GRID_WIDTH),
        ("height", 1, MAX_HEIGHT),
    ):
        value = widget.get(name)
        if value is None:
            continue
        if not isinstance(value, int) or isinstance(value, bool):
            yield f"{where}/{name}", "Should be integer"
        elif value < least:
            yield f"{where}/{name}", f"Should be >= {least}"
        elif most is not None and value > most:
            yield f"{where}/{name}", f"Should be <= {most}"
    properties = widget.get("properties")
    if not isinstance(properties, dict):
        yield f"{where}/properties", "Should have required property 'properties', an object"
        return
    required = _REQUIRED.get(kind)
    if required and required not in properties:
        yield f"{where}/properties", f"Should have required property '{required}'"
    if kind == "metric":
        yield from _metric_problems(properties, f"{where}/properties")
    if kind == "alarm" and "alarms" in properties:
        alarms = properties["alarms"]
        if not isinstance(alarms, list) or not 1 <= len(alarms) <= MAX_ALARMS:
            yield (
                f"{where}/properties/alarms",
                f"Should be an array of 1 to {MAX_ALARMS} alarm ARNs",
            )


def _metric_problems(properties: dict[str, Any], where: str) -> Iterator[Problem]:
    if "metrics" not in properties and "annotations" not in properties:
        yield where, "Should have required property 'metrics'"
        return
    metrics = properties.get("metrics", [])
    if not isinstance(metrics, list):
        yield f"{where}/metrics", "Should be array"
        return
    for index, metric in enumerate(metrics):
        here = f"{where}/metrics/{index}"
        if not isinstance(metric, list) or not metric:
            yield here, "Should be array with at least 1 item"
            continue
        *names, last = metric
        if isinstance(last, dict):
            # An expression stands alone; a metric is followed by its rendering properties.
            if not names and "expression" not in last:
                yield here, "Should have a namespace and a metric name, or an expression"
                continue
        else:
            names = metric
        if any(not isinstance(name, str) for name in names):
            yield here, 'Invalid metric field type, only "String" type is allowed'
        elif "..." in names and index:
            # It stands for as many names as the metric before has more.
            continue
        elif names and (len(names) < 2 or len(names) % 2):  # noqa: PLR2004 - namespace and name
            yield here, "Should have a namespace, a metric name, and pairs of dimensions"
