from __future__ import annotations

import json
from typing import Any

import pytest

from dashboards.cloudwatch import Dashboard, DashboardError, Metric, telemetry_dashboard
from stack.alarms import ALARM_NAMES, alarm_specs
from stack.config import StackConfig

CONFIG = StackConfig.for_target("aws", "dev", region="eu-west-1")
LAG = Metric("AWS/Lambda", "IteratorAge", {"FunctionName": "f"}, "Maximum", "age")


def widgets(board: Dashboard) -> list[dict[str, Any]]:
    return json.loads(board.to_json())["widgets"]


def test_every_alarm_of_the_stack_has_its_state_on_the_dashboard() -> None:
    shown = widgets(telemetry_dashboard(CONFIG, "123456789012"))
    (states,) = (w for w in shown if w["type"] == "alarm")
    assert states["properties"]["alarms"] == [
        f"arn:aws:cloudwatch:eu-west-1:123456789012:alarm:fleetcast-{short}-dev"
        for short in ALARM_NAMES
    ]


def test_thresholds_stand_where_the_alarms_have_them() -> None:
    specs = {spec.short: spec.threshold for spec in alarm_specs(CONFIG)}
    lines = {
        line["label"].removeprefix("alarm "): line["value"]
        for widget in widgets(telemetry_dashboard(CONFIG, "1"))
        for line in widget["properties"].get("annotations", {}).get("horizontal", [])
    }
    assert len(lines) >= 3
    assert {short: specs[short] for short in lines} == lines


def test_no_two_widgets_overlap_and_none_leaves_the_grid() -> None:
    taken = set()
    for widget in widgets(telemetry_dashboard(CONFIG, "1")):
        assert widget["x"] + widget["width"] <= 24
        cells = {
            (widget["x"] + x, widget["y"] + y)
            for x in range(widget["width"])
            for y in range(widget["height"])
        }
        assert not cells & taken
        taken |= cells


def test_charts_name_region_period_and_metrics_in_the_documented_form() -> None:
    board = Dashboard(CONFIG, "1")
    board.chart("Age", [LAG], alarm="iterator-age")
    (chart,) = widgets(board)
    assert chart["properties"]["region"] == "eu-west-1"
    assert chart["properties"]["period"] == 60
    assert chart["properties"]["metrics"] == [
        ["AWS/Lambda", "IteratorAge", "FunctionName", "f", {"stat": "Maximum", "label": "age"}]
    ]


def test_what_the_stack_does_not_have_is_refused() -> None:
    board = Dashboard(CONFIG, "1")
    with pytest.raises(DashboardError, match="AWS/Lambda Eros: the stack publishes no such metric"):
        Metric("AWS/Lambda", "Eros", {}, "Sum", "errors")
    with pytest.raises(DashboardError, match="alarm none: the stack has no such alarm"):
        board.alarms("Alarms", ["none"])
    with pytest.raises(DashboardError, match="a widget is 1 to 24 wide, not 25"):
        board.text("wide", width=25)
    assert widgets(board) == []


def test_a_dashboard_takes_500_widgets_and_no_more() -> None:
    board = Dashboard(CONFIG, "1")
    for _ in range(500):
        board.text("x", height=1)
    with pytest.raises(DashboardError, match="at most 500 widgets"):
        board.text("x")
