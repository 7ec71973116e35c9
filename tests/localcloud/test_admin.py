"""The admin API: what it tells, what it takes, and whom it refuses."""

from __future__ import annotations

import asyncio
import http.client
import json
from typing import Any

import pytest

pytestmark = pytest.mark.asyncio(loop_scope="module")


def _call(
    port: int, method: str, page: str, body: Any = None, **headers: str
) -> tuple[int, dict[str, Any]]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    sent = {"Host": f"127.0.0.1:{port}", "Content-Type": "application/json"}
    sent |= {name.replace("_", "-"): value for name, value in headers.items()}
    try:
        text = body if isinstance(body, str) or body is None else json.dumps(body)
        connection.request(method, f"/_fleetcast/{page}", text, sent)
        answer = connection.getresponse()
        read = answer.read()
        return answer.status, json.loads(read) if read else {}
    finally:
        connection.close()


@pytest.fixture
def call(cloud):
    async def run(method: str, page: str, body: Any = None, **headers: str) -> Any:
        return await asyncio.to_thread(_call, cloud.local.port, method, page, body, **headers)

    yield run
    cloud.local.context.faults.board.clear()


FAULT = {"service": "sns", "operation": "ListTopics", "kind": "throttle"}


async def test_a_fault_is_added_listed_counted_and_cleared(cloud, call):
    status, made = await call("POST", "faults", {**FAULT, "seed": 4, "for_s": 60})
    assert status == 201
    assert (made["seed"], made["state"], made["fired"]) == (4, "active", 0)
    client = await cloud.client("sns")
    with pytest.raises(client.exceptions.ThrottledException):
        await client.list_topics()
    _, told = await call("GET", "faults")
    assert [(one["id"], one["fired"]) for one in told["faults"]] == [(made["id"], 1)]
    assert (await call("GET", f"faults/{made['id']}"))[1]["matched"] == 1
    assert (await call("GET", "status"))[1]["faults"][0]["id"] == made["id"]
    assert await call("DELETE", f"faults/{made['id']}") == (200, {"cleared": [made["id"]]})
    assert "Topics" in await client.list_topics()
    assert (await call("DELETE", f"faults/{made['id']}"))[0] == 404


async def test_all_faults_are_cleared_at_once(call):
    for _ in range(3):
        await call("POST", "faults", FAULT)
    _, cleared = await call("DELETE", "faults")
    assert len(cleared["cleared"]) == 3
    assert (await call("GET", "faults"))[1] == {"faults": []}


@pytest.mark.parametrize(
    ("method", "page"),
    [("GET", "status"), ("GET", "health"), ("POST", "faults"), ("DELETE", "faults")],
)
@pytest.mark.parametrize(
    "headers",
    [
        {"Host": "fleet.example"},
        {"Host": "127.0.0.1.fleet.example:4566"},
        {"Host": "[::1"},
        {"Host": ""},
        {"Origin": "https://fleet.example"},
        {"Origin": "http://127.0.0.1:1"},
        {"Origin": "null"},
        {"Sec_Fetch_Site": "cross-site"},
        {"Sec_Fetch_Site": "same-site"},
    ],
    ids=str,
)
async def test_requests_of_other_sites_are_refused(call, method, page, headers):
    status, told = await call(method, page, FAULT if method == "POST" else None, **headers)
    assert status == 403
    assert "admin API answers" in told["error"]


@pytest.mark.parametrize("host", ["localhost:1", "localhost", "[::1]:1", "[::1]", "127.0.0.1"])
async def test_loopback_hosts_are_answered(call, host):
    assert (await call("GET", "health", Host=host))[0] == 200


async def test_a_page_of_the_cloud_itself_is_answered(cloud, call):
    origin = f"http://127.0.0.1:{cloud.local.port}"
    status, _ = await call("POST", "faults", FAULT, Origin=origin, Sec_Fetch_Site="same-origin")
    assert status == 201


@pytest.mark.parametrize(
    ("method", "page", "body", "headers", "status", "text"),
    [
        ("POST", "faults", "{", {}, 400, "not JSON"),
        ("POST", "faults", [1], {}, 400, "a fault is a JSON object"),
        ("POST", "faults", {**FAULT, "kind": "x"}, {}, 400, "kind: Input should be"),
        ("POST", "faults", FAULT, {"Content_Type": "text/plain"}, 415, "application/json"),
        ("POST", "faults", " " * 70_000, {}, 413, "at most"),
        ("POST", "faults/f-1", FAULT, {}, 404, "no fault f-1"),
        ("PUT", "faults", FAULT, {}, 405, "GET, POST and DELETE"),
        ("POST", "status", None, {}, 405, "can only be read"),
        ("GET", "nothing", None, {}, 404, "there are faults, health"),
    ],
)
async def test_what_is_wrong_is_told_in_one_line(call, method, page, body, headers, status, text):  # noqa: PLR0917
    got, told = await call(method, page, body, **headers)
    assert got == status
    assert text in told["error"]
    assert "\n" not in told["error"]


async def test_status_tells_memory_and_the_backlog_of_each_consumer(
    cloud, call, stream_of, function_of
):
    stream = await stream_of()
    function = await function_of("def handler(event, context): return None")
    client = await cloud.client("lambda")
    mapping = await client.create_event_source_mapping(
        FunctionName=function, EventSourceArn=stream.inner.arn, StartingPosition="TRIM_HORIZON",
        Enabled=False,
    )  # fmt: skip
    await stream.fill(4)
    _, told = await call("GET", "status")
    assert 0 < told["memory_mib"] <= told["max_memory_mib"]
    wanted = f"mapping {mapping['UUID']} to {function}"
    backlog = {one["consumer"]: one["waiting"] for one in told["backlog"]}
    assert backlog[wanted] == {"records": 4}
    assert all("unsupported" in service for service in told["services"].values())
    await client.delete_event_source_mapping(UUID=mapping["UUID"])
