"""A tab of Locust's web page: the fleet's rate against its target, what landed, lag and throttling."""

from __future__ import annotations

import json
import logging
from typing import TYPE_CHECKING, Any

import boto3
import gevent
from botocore.exceptions import BotoCoreError, ClientError

from fleetcast.pipeline import of_run
from fleetcast.target import Target
from simulator.workers import combined
from stack.outputs import StackOutputs

if TYPE_CHECKING:
    from collections.abc import Callable

    from loadtests.leader import Leader, Part

log = logging.getLogger("fleetcast")

KEY = "fleet"
COLUMNS = {
    "slice": "Devices",
    "worker": "Worker",
    "target": "Target/s",
    "rate": "Rate/s",
    "sent": "Sent",
    "acked": "Acknowledged",
    "landed": "Landed",
    "failed": "Failed",
    "unknown": "Unknown",
    "throttled": "Throttled",
    "backlog": "Backlog",
    "lag_p99_ms": "Lag p99 (ms)",
    "latency_p99_ms": "Latency p99 (ms)",
}
# A count of what landed costs a query: on AWS, money.
LANDED_EVERY_S = {"local": 2.0, "aws": 15.0}


def extend(environment: Any, leader: Callable[[], Leader | None]) -> None:
    """Adds the tab.

    Args:
        environment: Locust's, with its web page.
        leader: Gives who leads the run, if there is one.
    """
    page = environment.web_ui
    structure = [{"key": key, "title": title} for key, title in COLUMNS.items()]
    page.template_args |= {
        "extended_tabs": [{"title": "Fleet", "key": KEY}],
        "extended_tables": [{"key": KEY, "structure": structure}],
    }
    landed: dict[str, int] = {}
    gevent.spawn(_count_landed, leader, landed)

    def add(response: Any) -> Any:
        from flask import request  # noqa: PLC0415 - Locust has imported it by now

        found = leader()
        if request.path == "/stats/requests" and found is not None and response.is_json:
            told = response.get_json()
            rows = table(found, landed.get(found.run.id))
            told["extended_stats"] = [{"key": KEY, "data": rows}]
            response.set_data(json.dumps(told))
        return response

    page.app.after_request(add)


def table(leader: Leader, landed: int | None) -> list[dict[str, Any]]:
    """Rows of the tab: the whole fleet, then each slice."""
    rows = [{"slice": "all", "worker": "", "landed": landed, **_numbers(combined(leader.parts))}]
    if leader.latest is not None:
        rows[0]["rate"] = round(leader.latest.rate_per_s, 1)
    for part in leader.parts:
        first, last = part.devices
        row = {"slice": f"{first}-{last - 1}", "worker": _state(part), "landed": None}
        rows.append({**row, **(_numbers(part.progress) if part.progress else {})})
    return rows


def _state(part: Part) -> str:
    return f"{part.node}: {part.problem}" if part.problem else part.node


def _numbers(now: Any) -> dict[str, Any]:
    return {
        "target": round(now.target_rate_per_s, 1),
        "rate": round(now.rate_per_s, 1),
        "sent": now.sent,
        "acked": now.acked,
        "failed": now.failed,
        "unknown": now.unknown,
        "throttled": now.throttled,
        "backlog": now.backlog,
        "lag_p99_ms": round(now.lag_p99_ms, 1),
        "latency_p99_ms": round(now.latency_p99_ms, 1),
    }


def _count_landed(leader: Callable[[], Leader | None], landed: dict[str, int]) -> None:
    """Asks Timestream now and then how many readings of the run it has."""
    while True:
        found = leader()
        every_s = LANDED_EVERY_S["local"]
        # In a table of others a run's rows are counted when it is verified.
        if found is not None and found.run.environment and of_run(found.run_dir) is None:
            every_s = LANDED_EVERY_S[found.run.target]
            try:
                landed[found.run.id] = _landed(found)
            except (ClientError, BotoCoreError, OSError) as error:
                log.debug("what landed is not known at the moment: %s", error)
        gevent.sleep(every_s)


def _landed(leader: Leader) -> int:
    outputs = StackOutputs.load(leader.run.target, leader.run.environment)
    target = Target.named(leader.run.target, region=outputs.region)
    client: Any = boto3.client("timestream-query", **target.client_kwargs())
    table = f'"{outputs.timeseries_database}"."{outputs.timeseries_table}"'
    # A run's id is made of letters, digits and dashes.
    sql = f"SELECT count(*) FROM {table} WHERE run = '{leader.run.id}'"  # noqa: S608
    answer = client.query(QueryString=sql)
    return int(answer["Rows"][0]["Data"][0]["ScalarValue"])
