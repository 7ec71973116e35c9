"""Dashboards of any kind in a real browser: every view, and what is not drawn."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
import pytest_asyncio

from dashboards.live import serve
from tests.dashboards.browser import Browser, chromium
from tests.dashboards.conftest import ENVIRONMENT

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

pytestmark = pytest.mark.asyncio(loop_scope="module")
NAME = "aaa-every-view"


def widget(row: int, column: int, kind: str, properties: dict[str, Any]) -> dict[str, Any]:
    return {
        "type": kind, "x": column * 6, "y": row * 6, "width": 6, "height": 6,
        "properties": properties,
    }  # fmt: skip


def body(stream: str) -> str:
    metrics = [
        ["AWS/Kinesis", "IncomingRecords", "StreamName", stream, {"stat": "Sum", "label": "<b>r</b>"}],
        [".", "IncomingBytes", ".", ".", {"stat": "Sum", "label": "bytes", "yAxis": "right"}],
    ]  # fmt: skip
    views: list[tuple[str, dict[str, Any]]] = [
        ("timeSeries", {"stacked": True, "annotations": {
            "horizontal": [{"label": "limit", "value": 100, "fill": "above"}],
            "vertical": [{"label": "then", "value": "2026-01-01T00:00:00Z"}]}}),
        ("bar", {}), ("pie", {}), ("table", {}),
        ("singleValue", {"setPeriodToTimeRange": True}),
        ("gauge", {"yAxis": {"left": {"min": 0, "max": 1000}}}),
    ]  # fmt: skip
    shared = {"metrics": metrics, "period": 60, "region": "us-east-1"}
    widgets = [
        widget(at // 4, at % 4, "metric", {**shared, "view": view, "title": view, **more})
        for at, (view, more) in enumerate(views)
    ]
    widgets += [
        widget(2, 0, "explorer", {"metrics": [{"metricName": "CPUUtilization"}]}),
        widget(2, 1, "custom", {"endpoint": "arn:aws:lambda:us-east-1:1:function:f"}),
        widget(2, 2, "metric", {"metrics": [[{"expression": "m1 /"}]], "title": "wrong"}),
        widget(2, 3, "text", {"markdown": "# Hi\n\n<script>document.title = 'owned'</script>"}),
        widget(3, 0, "metric", {
            "metrics": [["AWS/Kinesis", "IncomingRecords", "StreamName", "nobody"]],
            "title": "empty", "region": "us-east-1"}),
    ]  # fmt: skip
    return json.dumps({"widgets": widgets})


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shown(deployed, tmp_path_factory) -> AsyncIterator[Browser]:
    async with deployed.target.client("cloudwatch") as client:
        await client.put_dashboard(
            DashboardName=NAME, DashboardBody=body(deployed.outputs.stream_name)
        )
        async with (
            serve(deployed.target, ENVIRONMENT) as served,
            chromium(tmp_path_factory.mktemp("profile")) as browser,
        ):
            await browser.size(1280, 1400)
            await browser.open(served.address)
            select = "document.getElementById('boards')"
            await browser.until(f"{select}.options.length > 1")
            await browser.run(
                f"{select}.value = '{NAME}'; {select}.dispatchEvent(new Event('change'))"
            )
            await browser.until("document.querySelectorAll('#grid .widget').length === 11")
            yield browser
        await client.delete_dashboards(DashboardNames=[NAME])


def of(number: int, more: str = "") -> str:
    return f"document.querySelector('[data-widget=w{number}]{more}')"


async def test_every_view_draws_the_same_values(shown):
    newest = await shown.until(f"{of(1, ' .chart')}.data?.[0].y")
    assert newest[0] > 0
    assert await shown.run(f"{of(2, ' .chart')}.data[0].values") == newest
    numbers = await shown.run(
        f"[...{of(4)}.querySelectorAll('b')].map((b) => Number(b.textContent.replace(/,/g, '')))"
    )
    assert numbers[0] == 300
    assert await shown.run(f"{of(5, ' .chart')}.data.map((one) => one.value)") == newest
    assert await shown.run(f"{of(5, ' .chart')}.data[0].gauge.axis.range") == [0, 1000]
    cells = await shown.run(f"[...{of(3)}.querySelectorAll('td')].map((c) => c.textContent)")
    assert cells[0] == "<b>r</b>"
    assert int(cells[1].replace(",", "")) == newest[0]


async def test_annotations_axes_and_stacks_are_drawn(shown):
    chart = of(0, " .chart")
    assert await shown.run(f"{chart}.data.map((line) => line.yaxis)") == ["y", "y2"]
    assert await shown.run(f"{chart}.data.map((line) => line.stackgroup)") == ["left", "right"]
    shapes = await shown.run(f"{chart}.layout.shapes.map((shape) => [shape.type, shape.y0])")
    assert shapes == [["line", 100], ["rect", 100], ["line", 0]]
    labels = await shown.run(f"{chart}.layout.annotations.map((one) => one.text)")
    assert labels == ["limit", "then"]


async def test_what_is_not_drawn_is_told_and_nothing_is_blank(shown):
    texts = await shown.run("[...document.querySelectorAll('.widget')].map((w) => w.innerText)")
    assert "explorer are not drawn here" in texts[6]
    assert "CPUUtilization" in texts[6]
    assert "custom are not drawn here" in texts[7]
    assert "ValidationError" in texts[8]
    assert "Hi" in texts[9]
    assert await shown.run("document.title") == f"fleetcast {ENVIRONMENT}"
    told = await shown.run(f"{of(10, ' .chart')}.layout.annotations.map((one) => one.text)")
    assert told == ["no data in this time"]
    assert all(text.strip() for text in texts)
    assert shown.errors == []
