from __future__ import annotations

import json
from typing import Any

import pytest

from dashboards.cloudwatch import (
    Dashboard,
    DashboardError,
    Link,
    Math,
    Metric,
    problems,
    telemetry_dashboard,
)
from stack.alarms import ALARM_NAMES, alarm_specs
from stack.config import StackConfig

CONFIG = StackConfig.for_target("aws", "dev", region="eu-west-1")
STREAM = {"StreamName": "fleetcast-ingest-dev"}
FUNCTION = {"FunctionName": "fleetcast-processor-dev"}
AGE = Metric("AWS/Kinesis", "GetRecords.IteratorAgeMilliseconds", STREAM, "Maximum", "age")
ERRORS = Metric("AWS/Lambda", "Errors", FUNCTION, "Sum", "errors", id="m1")


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
        short: line["value"]
        for widget in widgets(telemetry_dashboard(CONFIG, "123456789012"))
        for line in widget["properties"].get("annotations", {}).get("horizontal", [])
        for short in line["label"].removeprefix("alarm ").split(", ")
    }
    assert set(lines) == set(ALARM_NAMES)
    assert {short: specs[short] for short in lines} == lines


def test_no_two_widgets_overlap_and_none_leaves_the_grid() -> None:
    taken = set()
    for widget in widgets(telemetry_dashboard(CONFIG, "123456789012")):
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
    board.chart("Age", [AGE], alarm="iterator-age")
    (chart,) = widgets(board)
    assert chart["properties"]["region"] == "eu-west-1"
    assert chart["properties"]["period"] == 60
    assert chart["properties"]["metrics"] == [
        [
            "AWS/Kinesis",
            "GetRecords.IteratorAgeMilliseconds",
            "StreamName",
            "fleetcast-ingest-dev",
            {"stat": "Maximum", "label": "age"},
        ]
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


def test_the_dashboard_is_what_cloudwatch_takes_and_has_every_part_of_the_pipeline() -> None:
    body = json.loads(telemetry_dashboard(CONFIG, "123456789012").to_json())
    assert problems(body) == []
    assert {widget["type"] for widget in body["widgets"]} == {"alarm", "log", "metric", "text"}
    shown = {
        metric[0]
        for widget in body["widgets"]
        for metric in widget["properties"].get("metrics", ())
        if isinstance(metric[0], str)
    }
    assert shown == {
        "AWS/Kinesis", "AWS/Lambda", "AWS/Timestream", "AWS/Firehose", "AWS/SQS", "AWS/IoT",
        "Fleetcast",
    }  # fmt: skip


@pytest.mark.parametrize("environment", ["dev", "a-very-long-name-x"])
def test_no_part_of_the_body_is_an_expression_of_terraform(environment: str) -> None:
    config = StackConfig.for_target("aws", environment, region="eu-west-1")
    assert "${" not in telemetry_dashboard(config, "123456789012").to_json()


def test_metric_math_is_on_lines_of_its_chart() -> None:
    board = Dashboard(CONFIG, "1")
    board.chart("Share", [ERRORS, Math("100 * m1 / SUM([m1])", "share", id="e1", axis="right")])
    (chart,) = widgets(board)
    assert chart["properties"]["metrics"][1] == [
        {"expression": "100 * m1 / SUM([m1])", "label": "share", "id": "e1", "yAxis": "right"}
    ]
    with pytest.raises(DashboardError, match="m1 / m2 uses m2, which no line of the chart"):
        board.chart("Share", [ERRORS, Math("m1 / m2", "share")])
    with pytest.raises(DashboardError, match="the id m1 is used twice"):
        board.chart("Share", [ERRORS, ERRORS])
    board.chart("Found", [Math("SEARCH('{AWS/Lambda,FunctionName} name', 'Sum')", "all")])


def test_resources_dimensions_and_statistics_that_are_not_there_are_refused() -> None:
    board = Dashboard(CONFIG, "1")
    other = Metric("AWS/Lambda", "Errors", {"FunctionName": "other"}, "Sum", "errors")
    with pytest.raises(DashboardError, match="the stack dev has no FunctionName other"):
        board.chart("Errors", [other])
    with pytest.raises(DashboardError, match="its dimensions are FunctionName, not StreamName"):
        Metric("AWS/Lambda", "Errors", STREAM, "Sum", "errors")
    with pytest.raises(DashboardError, match="Summe is no statistic"):
        Metric("AWS/Lambda", "Errors", FUNCTION, "Summe", "errors")
    with pytest.raises(DashboardError, match="an id begins with a small letter, not 'M1'"):
        Metric("AWS/Lambda", "Errors", FUNCTION, "Sum", "errors", id="M1")
    with pytest.raises(DashboardError, match="a label cannot hold"):
        Metric("AWS/Lambda", "Errors", FUNCTION, "Sum", "${LAST}")
    with pytest.raises(DashboardError, match="alarm iterator-age watches"):
        board.chart("Errors", [ERRORS], alarm="iterator-age")
    with pytest.raises(DashboardError, match="the stack has no log group /aws/lambda/other"):
        board.log("Log", "/aws/lambda/other", "limit 1")
    with pytest.raises(DashboardError, match="is no https URL"):
        Link("bad", "javascript:alert(1)")


METRIC = {"type": "metric", "x": 0, "y": 0, "width": 6, "height": 6}
GOOD = {"metrics": [["A", "B"]], "region": "eu-west-1"}


@pytest.mark.parametrize(
    ("widget", "told"),
    [
        ({**METRIC, "properties": {**GOOD, "period": 45}}, "/widgets/0/properties/period"),
        ({**METRIC, "properties": {**GOOD, "view": "area"}}, "/widgets/0/properties/view"),
        ({**METRIC, "properties": {**GOOD, "view": "gauge"}}, "/widgets/0/properties/yAxis/left"),
        ({**METRIC, "properties": {"metrics": [["A", "B"]]}}, "/widgets/0/properties/region"),
        ({**METRIC, "properties": {"region": "r"}}, "/widgets/0/properties/metrics: there are none"),
        ({**METRIC, "properties": {**GOOD, "metrics": [["A", "B"]] * 501}}, "501 metrics"),
        ({**METRIC, "properties": {**GOOD, "annotations": {"horizontal": [{"value": "1"}]}}},
         "/widgets/0/properties/annotations/horizontal/0"),
        ({**METRIC, "x": 20, "properties": GOOD}, "/widgets/0: ends beyond column 24"),
        ({**METRIC, "height": 1001, "properties": GOOD}, "/widgets/0/height"),
        ({**METRIC, "type": "chart", "properties": {}}, "/widgets/0/type"),
        ({**METRIC, "type": "text", "properties": {}}, "/widgets/0/properties/markdown"),
        ({**METRIC, "type": "alarm", "properties": {"alarms": ["x"]}}, "is no ARN of an alarm"),
        ({**METRIC, "type": "alarm", "properties": {"alarms": ["x"] * 101}}, "not 101"),
        ({**METRIC, "type": "log", "properties": {"query": "limit 1", "region": "r"}}, "/query"),
    ],
)  # fmt: skip
def test_what_cloudwatch_would_refuse_is_told_with_its_path(
    widget: dict[str, Any], told: str
) -> None:
    found = problems({"widgets": [widget]})
    assert any(told in one for one in found), found


def test_the_size_of_the_whole_and_overlaps_are_told() -> None:
    many = {**METRIC, "properties": {**GOOD, "metrics": [["A", "B"]] * 500}}
    found = problems({"widgets": [{**many, "y": 6 * n} for n in range(6)]})
    assert found == ["/widgets: 3000 metrics, at most 2500 are taken"]
    both = [{**METRIC, "properties": GOOD}, {**METRIC, "x": 5, "properties": GOOD}]
    assert problems({"widgets": both}) == ["/widgets/1: lies on widget 0"]
    assert problems({"widgets": [], "start": "3H", "periodOverride": "no"}) == [
        "/periodOverride: is one of auto, inherit", "/start: 3H is no relative time such as -PT3H",
    ]  # fmt: skip


def test_a_body_that_cloudwatch_would_refuse_is_not_made() -> None:
    board = Dashboard(CONFIG, "1", start="yesterday")
    with pytest.raises(DashboardError, match="dashboard: /start: yesterday is no relative time"):
        board.to_json()
