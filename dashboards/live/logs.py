"""A log widget's Logs Insights query, run when somebody asks for it: AWS bills what it scans."""

from __future__ import annotations

import asyncio
import re
import time
from typing import TYPE_CHECKING, Any

from dashboards.live.body import read_body
from dashboards.live.clients import ApiProblem

if TYPE_CHECKING:
    from dashboards.live.clients import Clients

MAX_WAIT_S = 60.0
LOOK_EVERY_S = 0.5
MAX_ROWS = 200
_RUNNING = {"Scheduled", "Running"}
_SOURCES = re.compile(r"\s*SOURCE\s+((?:'[^']*'\s*\|?\s*)+)", re.IGNORECASE)


async def read_log(clients: Clients, name: str, widget: str, range_s: int) -> dict[str, Any]:
    """Runs the query of a log widget of a dashboard.

    Returns:
        `columns` and `rows` of texts, and `status`.

    Raises:
        ApiProblem: the dashboard has no such widget, or the query failed or took too long.
    """
    answer = await clients.call("cloudwatch", "get_dashboard", DashboardName=name)
    shown = {one.id: one for one in read_body(answer["DashboardBody"]).widgets}.get(widget)
    if shown is None or shown.kind != "log":
        raise ApiProblem(f"dashboard {name} has no log widget {widget}", status=404)
    groups, query = _parts(str(shown.properties.get("query", "")))
    region = str(shown.properties.get("region", ""))
    end_s = int(time.time())
    started = await clients.call(
        "logs", "start_query", region, logGroupNames=groups, queryString=query,
        startTime=end_s - range_s, endTime=end_s, limit=MAX_ROWS,
    )  # fmt: skip
    give_up_s = time.monotonic() + MAX_WAIT_S
    while True:
        got = await clients.call("logs", "get_query_results", region, queryId=started["queryId"])
        if got["status"] not in _RUNNING:
            break
        if time.monotonic() > give_up_s:
            raise ApiProblem(f"the log query still runs after {MAX_WAIT_S:.0f} s", status=504)
        await asyncio.sleep(LOOK_EVERY_S)
    if got["status"] != "Complete":
        raise ApiProblem(f"the log query ended as {got['status']}")
    columns: list[str] = []
    for row in got["results"]:
        columns += [c["field"] for c in row if c["field"] not in columns and c["field"] != "@ptr"]
    rows = [
        [{c["field"]: c.get("value", "") for c in row}.get(column, "") for column in columns]
        for row in got["results"]
    ]
    return {"columns": columns, "rows": rows, "status": got["status"]}


def _parts(text: str) -> tuple[list[str], str]:
    """(log groups, query) of a widget's text: SOURCE 'group' | SOURCE 'group' | query."""
    groups: list[str] = []
    rest = text
    while found := _SOURCES.match(rest):
        groups += re.findall(r"'([^']*)'", found.group(1))
        rest = rest[found.end() :]
    if not groups:
        raise ApiProblem("the log widget names no log group in a SOURCE", status=422)
    return groups, rest.lstrip(" |\n")
