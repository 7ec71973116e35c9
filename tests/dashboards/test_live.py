"""The page's server over HTTP, on a deployed stack."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest
import pytest_asyncio

from dashboards.live import Page, fleet, serve
from fleetcast import cloudctl
from fleetcast.errors import TargetError
from fleetcast.home import runs_dir
from fleetcast.target import Target
from tests.dashboards.conftest import DEVICES, ENVIRONMENT, READINGS

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.dashboards.conftest import Deployed

pytestmark = pytest.mark.asyncio(loop_scope="module")


class Client:
    def __init__(self, session: aiohttp.ClientSession, page: Page) -> None:
        self._session, self.url = session, page.url
        self._headers = {"Authorization": f"Bearer {page.token}"}

    async def get(self, path: str, status: int = 200, **params: Any) -> Any:
        async with self._session.get(
            f"{self.url}api/{path}", params=params, headers=self._headers
        ) as answer:
            told = await answer.json()
            assert answer.status == status, told
            return told

    async def post(self, path: str, body: Any, status: int = 200) -> Any:
        async with self._session.post(
            f"{self.url}api/{path}", json=body, headers=self._headers
        ) as answer:
            told = await answer.json()
            assert answer.status == status, told
            return told

    async def raw(self, path: str, **options: Any) -> tuple[int, Any, str]:
        async with self._session.request(
            options.pop("method", "GET"), self.url + path, **options
        ) as answer:
            return answer.status, answer.headers, await answer.text()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def page(deployed: Deployed) -> AsyncIterator[Client]:
    async with (
        serve(deployed.target, ENVIRONMENT) as served,
        aiohttp.ClientSession() as session,
    ):
        yield Client(session, served)


def widget(kind: str, **properties: Any) -> dict[str, Any]:
    return {"type": kind, "x": 0, "y": 0, "width": 6, "height": 6, "properties": properties}


@pytest_asyncio.fixture(loop_scope="module")
async def shown(deployed, page, request):
    """Puts a dashboard; gives its widgets as the page's API tells them."""
    name = f"of-{request.node.name[:40].replace('[', '-').replace(']', '')}"

    async def put(*widgets: dict[str, Any], **more: Any) -> list[dict[str, Any]]:
        async with deployed.target.client("cloudwatch") as client:
            body = json.dumps({"widgets": widgets, **more})
            await client.put_dashboard(DashboardName=name, DashboardBody=body)
        return (await page.get("dashboard", name=name))["widgets"]

    yield put
    async with deployed.target.client("cloudwatch") as client:
        await client.delete_dashboards(DashboardNames=[name])


async def test_the_deployed_dashboard_comes_with_the_values_of_the_api(deployed, page):
    board = await page.get("dashboard", range_s=900)

    assert board["name"] == deployed.outputs.dashboard_name
    assert not [w for w in board["widgets"] if w.get("error") or w["kind"] in {"unknown", "broken"}]
    by_label = {
        (w["title"], s["label"]): sum(v for v in s["values"] if v is not None)
        for w in board["widgets"]
        for s in w.get("series", ())
    }
    assert await deployed.incoming() == READINGS
    assert READINGS in by_label.values()


async def test_metrics_in_every_notation_and_math_give_their_values(deployed, shown):
    stream = deployed.outputs.stream_name
    (got,) = await shown(
        widget(
            "metric", period=60, stat="Sum", region=deployed.target.region,
            metrics=[
                ["AWS/Kinesis", "IncomingRecords", "StreamName", stream, {"id": "m1"}],
                [".", "IncomingBytes", ".", ".", {"id": "m2", "visible": False}],
                ["...", {"id": "m3", "stat": "SampleCount", "yAxis": "right", "color": "#123456"}],
                [{"expression": "m2 / m1", "id": "e1", "label": "bytes each"}],
            ],
        )
    )  # fmt: skip
    series = {one["id"]: one for one in got["series"]}
    assert set(series) == {"m1", "m3", "e1"}
    assert sum(series["m1"]["values"]) == 300
    assert min(series["e1"]["values"]) > 50
    assert (series["m3"]["axis"], series["m3"]["colour"]) == ("right", "#123456")
    assert series["e1"]["label"] == "bytes each"


async def test_what_cannot_be_drawn_is_told_beside_what_can(shown):
    text = (
        "# Hi\n<img src=x onerror=alert(1)>[good](https://example.com) [bad](javascript:alert(1))"
    )
    got = await shown(
        widget("explorer", metrics=[]),
        widget("custom", endpoint="arn:aws:lambda:us-east-1:123456789012:function:f"),
        widget("metric", metrics=[[".", "x"]]),
        widget("metric", view="strange", metrics=[]),
        widget("metric", metrics=[[{"expression": "NOSUCH(1)"}]]),
        widget("alarm", alarms=["arn:aws:cloudwatch:us-east-1:123456789012:alarm:nobody"]),
        widget("text", markdown=text),
    )
    assert [one["kind"] for one in got] == [
        "unknown", "unknown", "broken", "unknown", "metric", "alarm", "text",
    ]  # fmt: skip
    assert "explorer" in got[0]["told"]
    assert "metric 1: nothing before it that . could repeat" in got[2]["told"]
    assert "strange" in got[3]["told"]
    assert "NOSUCH" in got[4]["error"]
    assert got[5]["alarms"] == [{"name": "nobody", "state": "GONE", "reason": "no such alarm"}]
    html = got[6]["html"]
    assert '<a href="https://example.com">good</a>' in html
    assert "<img" not in html
    assert 'href="javascript' not in html


async def test_an_alarm_annotation_draws_the_metric_and_threshold_of_the_alarm(deployed, shown):
    name = deployed.outputs.alarms["iterator-age"]
    arn = f"arn:aws:cloudwatch:us-east-1:123456789012:alarm:{name}"
    (got,) = await shown(widget("metric", annotations={"alarms": [arn]}))
    assert [one["label"] for one in got["series"]] == ["GetRecords.IteratorAgeMilliseconds"]
    assert got["annotations"]["horizontal"] == [
        {"label": name, "value": deployed.config.iterator_age_limit_ms}
    ]


async def test_a_log_widget_reads_the_log_when_it_is_asked(deployed, page):
    name = "with-a-log"
    group = f"/aws/lambda/{deployed.outputs.function_name}"
    log = widget("log", query=f"SOURCE '{group}' | fields @timestamp, @message | limit 5")
    async with deployed.target.client("cloudwatch") as client:
        await client.put_dashboard(DashboardName=name, DashboardBody=json.dumps({"widgets": [log]}))
    asked = {"name": name, "widget": "w0", "range_s": 900}
    got = await page.post("log", asked)
    assert "@message" in got["columns"]
    assert 1 <= len(got["rows"]) <= 5
    told = await page.post("log", {**asked, "widget": "w9"}, 404)
    assert told["error"]["told"] == "dashboard with-a-log has no log widget w9"
    async with deployed.target.client("cloudwatch") as client:
        await client.delete_dashboards(DashboardNames=[name])


async def test_alarms_come_with_their_rule_and_history(deployed, page):
    alarms = {one["name"]: one for one in (await page.get("alarms"))["alarms"]}
    assert set(alarms) == set(deployed.outputs.alarms.values())
    age = alarms[deployed.outputs.alarms["iterator-age"]]
    assert age["rule"] == (
        "Maximum of GetRecords.IteratorAgeMilliseconds > "
        f"{deployed.config.iterator_age_limit_ms:,}, 1 of 1 periods of 10 s"
    )
    name = deployed.outputs.alarms["timeseries-rejections"]
    async with deployed.target.client("cloudwatch") as client:
        await client.set_alarm_state(AlarmName=name, StateValue="ALARM", StateReason="seen")
    items = (await page.get("history", name=name))["items"]
    # An evaluation of the alarm may have come between.
    assert ("ALARM", "seen") in {(item["to"], item["reason"]) for item in items[:2]}


async def test_devices_are_paged_though_readings_arrive_meanwhile(deployed, page):
    devices = [f"far-{n:04d}" for n in range(230)]
    await deployed.write(devices, at_ms=int(time.time() * 1000))

    first = await page.get("devices", order="newest", search="far-")
    await deployed.write(devices[:150], at_ms=int(time.time() * 1000))
    pages, cursor = [first], first["next"]
    while cursor:
        pages.append(await page.get("devices", order="newest", search="far-", after=cursor))
        cursor = pages[-1]["next"]

    rows = [row for got in pages for row in got["rows"]]
    assert [len(got["rows"]) for got in pages] == [100, 100, 30]
    assert len({row["device"] for row in rows}) == 230
    assert [row["last_ms"] for row in rows] == sorted((r["last_ms"] for r in rows), reverse=True)
    by_name = await page.get("devices", order="device", search="FAR-02")
    assert [row["device"] for row in by_name["rows"]] == [f"far-{n:04d}" for n in range(200, 230)]
    oldest = await page.get("devices", order="oldest")
    assert oldest["rows"][0]["device"].startswith("dev-")
    assert (await page.get("devices", search="it's"))["rows"] == []


async def test_the_map_tells_devices_and_where_there_are_too_many_sites(
    deployed, page, monkeypatch
):
    told = await page.get("map", since_ms=0)
    mine = [one for one in told["devices"] if one[0].startswith("dev-")]
    assert len(mine) == DEVICES
    assert {len(one) for one in mine} == {4}
    monkeypatch.setattr(fleet, "MAPPED_DEVICES", 10)
    told = await page.get("map", since_ms=0)
    counts = {site: count for site, count, _, _ in told["sites"] if site != "far"}
    assert sum(counts.values()) == DEVICES
    assert (await page.get("map", since_ms=int(time.time() * 1000) + 60_000))["devices"] == []


async def test_a_device_has_its_signals(page):
    got = await page.get("device", name="dev-000001")
    assert len(got["times_ms"]) == len(got["signals"]["temperature"])
    assert got["times_ms"] == sorted(got["times_ms"])
    assert set(got["signals"]["temperature"]) <= {4.0, 84.0}
    assert (await page.get("device", name="nobody' OR 'a' = 'a"))["times_ms"] == []


async def test_the_query_box_answers_by_pages_and_tells_errors_in_the_words_of_the_service(
    page, monkeypatch
):
    table = (await page.get("state"))["table"]
    asked = f"SELECT device, time FROM {table} WHERE site <> 'far' ORDER BY time"  # noqa: S608
    monkeypatch.setattr(fleet, "QUERY_ROWS", 100)
    first = await page.post("query", {"query": asked})
    assert first["columns"] == [["device", "VARCHAR"], ["time", "TIMESTAMP"]]
    rows, cursor = first["rows"], first["next"]
    while cursor:
        more = await page.post("query", {"query": asked, "after": cursor})
        rows, cursor = rows + more["rows"], more["next"]
    assert len(rows) > 200
    error = (await page.post("query", {"query": "SELECT * FROM a.b"}, 502))["error"]
    assert error == {
        "told": "Database 'a' does not exist.", "code": "ValidationException", "away": False,
    }  # fmt: skip


@pytest.mark.parametrize(
    "text", ["UNLOAD (SELECT 1) TO 's3://b'", "-- SELECT\nDROP TABLE x", "", "/* a */ INSERT"]
)
async def test_what_does_not_read_is_not_sent(page, text):
    told = await page.post("query", {"query": text}, 400)
    assert told["error"]["told"].startswith("the page only reads")


@pytest.mark.parametrize(
    ("path", "params", "told"),
    [
        ("devices", {"order": "size"}, "order is one of newest, oldest, device, not size"),
        ("devices", {"after": "eyJ9"}, "the cursor is none of this page's"),
        ("devices", {"within_s": "-1"}, "within_s is a whole number of at most 1,296,000, not -1"),
        ("dashboard", {"range_s": "x"}, "range_s is a whole number of at most 1,296,000, not x"),
    ],
)
async def test_wrong_arguments_are_told(page, path, params, told):
    assert (await page.get(path, 400, **params))["error"]["told"] == told


async def test_a_dashboard_that_is_not_there_is_told(page):
    told = await page.get("dashboard", 502, name="nobody")
    assert told["error"]["told"] == "Dashboard nobody does not exist"


async def test_runs_are_told_with_their_state_and_reports_served_in_a_sandbox(deployed, page):
    (runs_dir() / deployed.run_id / "report.html").unlink(missing_ok=True)
    runs = {run["id"]: run for run in (await page.get("runs"))["runs"]}
    run = runs[deployed.run_id]
    assert (run["id"], run["state"], run["sent"], run["report"]) == (
        deployed.run_id, "ended", 300, "",
    )  # fmt: skip
    (runs_dir() / deployed.run_id / "report.html").write_text("<p>the report</p>")
    (runs_dir() / deployed.run_id / "verdict.json").write_text('{"verdict": "pass", "checks": []}')
    runs = {run["id"]: run for run in (await page.get("runs"))["runs"]}
    path = runs[deployed.run_id]["report"].lstrip("/")
    status, headers, text = await page.raw(path)
    assert (status, text) == (200, "<p>the report</p>")
    assert headers["Content-Security-Policy"].startswith("sandbox allow-scripts")
    assert "pass" in {run["verdict"] for run in runs.values()}
    # A link is for one report, and for nobody who made it up.
    for refused in (path.partition("?")[0], path[:-1], path.replace(deployed.run_id, "r-other"),
                    "runs/..%2F..%2Fhome/report.html"):  # fmt: skip
        status, _, text = await page.raw(refused)
        assert (status, "the report" in text) == (401, False), refused
    (runs_dir() / deployed.run_id / "report.html").unlink()
    status, _, text = await page.raw(path)
    assert (status, "run fleetcast verify" in text) == (404, True)


async def test_a_run_that_ended_without_an_end_is_told_as_broken_off(page):
    folder = runs_dir() / "r-broken"
    folder.mkdir()
    (folder / "scenario.yaml").write_text("name: x\n")
    started = {"t_ms": 1_700_000_000_000, "event": "run_started", "start_ms": 5, "total": 9}
    (folder / "events.jsonl").write_text(json.dumps(started) + '\n{"event": "progr')
    runs = {run["id"]: run for run in (await page.get("runs"))["runs"]}
    # Its files are new: it may still send.
    assert runs["r-broken"]["state"] == "running"
    assert runs["r-broken"]["total"] == 9


async def test_without_a_stack_and_without_a_cloud_the_api_says_what_to_do(deployed):
    nowhere = Target.named("local", port=cloudctl.free_port())
    async with aiohttp.ClientSession() as session:
        async with serve(deployed.target, "nobody") as served:
            error = (await Client(session, served).get("state", 404))["error"]
            assert error["code"] == "NoStack"
            assert "run fleetcast deploy --target local --env nobody" in error["told"]
        async with serve(nowhere, ENVIRONMENT) as served:
            error = (await Client(session, served).get("alarms", 503))["error"]
            assert error["away"] is True
            assert "run fleetcast cloud start" in error["told"]


async def test_a_port_that_is_taken_is_told(deployed, page):
    taken = int(page.url.rstrip("/").rpartition(":")[2])
    with pytest.raises(TargetError, match=f"port {taken} is taken"):
        async with serve(deployed.target, ENVIRONMENT, port=taken):
            pass
