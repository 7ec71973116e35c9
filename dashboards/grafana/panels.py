"""Parts of Grafana dashboards as its JSON model has them: panels, targets, variables.

Models: "Dashboard JSON model" of Grafana's documentation; queries as the data sources
grafana-timestream-datasource and cloudwatch save them.
"""

from __future__ import annotations

from typing import Any

TIMESTREAM = {"type": "grafana-timestream-datasource", "uid": "fleetcast-timestream"}
CLOUDWATCH = {"type": "cloudwatch", "uid": "fleetcast-cloudwatch"}
SCHEMA_VERSION = 39
GRID_WIDTH = 24
# Timestream's answers as tables: series of several columns are told apart by `prepareTimeSeries`.
TABLE_FORMAT = 0
CODE_EDITOR = 1


def timestream(query: str, ref: str = "A") -> dict[str, Any]:
    """A query of the Timestream data source, of its default database and table."""
    return {
        "refId": ref, "datasource": TIMESTREAM, "format": TABLE_FORMAT, "rawQuery": query,
        "waitForResult": True,
    }  # fmt: skip


def cloudwatch(query: dict[str, Any], ref: str) -> dict[str, Any]:
    """A MetricDataQuery as the CloudWatch data source saves it.

    Args:
        query: As GetMetricData takes it.
        ref: The letter of the target.
    """
    target: dict[str, Any] = {
        "refId": ref, "datasource": CLOUDWATCH, "queryMode": "Metrics", "metricQueryType": 0,
        "region": "default", "id": query["Id"], "label": query.get("Label", ""),
        "hide": not query.get("ReturnData", True), "expression": "", "matchExact": True,
    }  # fmt: skip
    if "Expression" in query:
        return {
            **target, "metricEditorMode": CODE_EDITOR, "expression": query["Expression"],
            "period": str(query["Period"]), "statistic": "Average", "namespace": "",
            "metricName": "", "dimensions": {},
        }  # fmt: skip
    stat = query["MetricStat"]
    metric = stat["Metric"]
    return {
        **target, "metricEditorMode": 0, "namespace": metric["Namespace"],
        "metricName": metric["MetricName"], "statistic": stat["Stat"],
        "period": str(stat["Period"]),
        "dimensions": {one["Name"]: [one["Value"]] for one in metric["Dimensions"]},
    }  # fmt: skip


def panel(
    kind: str,
    title: str,
    targets: list[dict[str, Any]],
    *,
    width: int = 12,
    height: int = 8,
    by_label: bool = False,
    unit: str = "",
    thresholds: list[float] | None = None,
    **options: Any,
) -> dict[str, Any]:
    """A panel without its place.

    Args:
        kind: Grafana's type of panel, such as `timeseries`.
        title: What stands above it.
        targets: Its queries.
        width: Of 24 columns.
        height: In Grafana's rows.
        by_label: Whether text columns of the answer tell series apart.
        unit: Grafana's unit of the values.
        thresholds: Values to draw a line at.
        **options: The panel's own options.
    """
    defaults: dict[str, Any] = {"unit": unit} if unit else {}
    if thresholds:
        steps = [{"color": "green", "value": None}]
        defaults["thresholds"] = {
            "mode": "absolute",
            "steps": steps + [{"color": "red", "value": value} for value in thresholds],
        }
        defaults["custom"] = {"thresholdsStyle": {"mode": "dashed"}}
    made = {
        "type": kind, "title": title, "datasource": targets[0]["datasource"], "targets": targets,
        "gridPos": {"w": width, "h": height}, "options": options,
        "fieldConfig": {"defaults": defaults, "overrides": []},
    }  # fmt: skip
    if by_label:
        made["transformations"] = [{"id": "prepareTimeSeries", "options": {"format": "multi"}}]
    return made


def variable(
    name: str, label: str, query: str, *, many: bool = False, regex: str = ""
) -> dict[str, Any]:
    """A variable whose values a Timestream query gives; `many` may be chosen, then also all."""
    made: dict[str, Any] = {
        "type": "query", "name": name, "label": label, "datasource": TIMESTREAM, "refresh": 2,
        "query": timestream(query), "definition": query, "sort": 1, "multi": many,
        "includeAll": many, "regex": regex,
    }  # fmt: skip
    if many:
        made["current"] = {"text": ["All"], "value": ["$__all"]}
    return made


def board(
    uid: str,
    title: str,
    panels: list[dict[str, Any]],
    *,
    variables: list[dict[str, Any]] | None = None,
    back: str = "now-1h",
) -> dict[str, Any]:
    """A dashboard whose panels fill the grid row by row."""
    x = y = row_height = 0
    for number, one in enumerate(panels, 1):
        place = one["gridPos"]
        if x + place["w"] > GRID_WIDTH:
            x, y, row_height = 0, y + row_height, 0
        one["id"] = number
        one["gridPos"] = {**place, "x": x, "y": y}
        x += place["w"]
        row_height = max(row_height, place["h"])
    links = {
        "type": "dashboards", "tags": ["fleetcast"], "title": "fleetcast", "asDropdown": True,
        "keepTime": True, "includeVars": False,
    }  # fmt: skip
    return {
        "uid": uid, "title": title, "tags": ["fleetcast"], "schemaVersion": SCHEMA_VERSION,
        "editable": True, "refresh": "30s", "time": {"from": back, "to": "now"}, "timezone": "utc",
        "templating": {"list": variables or []}, "links": [links], "panels": panels,
        "annotations": {"list": []},
    }  # fmt: skip
