"""Data lands in the time series and in the archive, refusals in quarantine, alarms on SNS.

Each test reads the target itself, with nothing of the verifier's, and then asks that the verdict
agrees: a verifier that lies would be found out here.
"""

from __future__ import annotations

import gzip
import json
from typing import TYPE_CHECKING, Any

import pytest

from simulator import ledger

if TYPE_CHECKING:
    from e2e.conftest import Finished
    from fleetcast.target import Target
    from stack.outputs import StackOutputs

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def rows(target: Target, sql: str) -> list[list[str | None]]:
    """All rows of a Timestream query, as text."""
    found: list[list[str | None]] = []
    async with target.client("timestream-query") as client:
        async for page in client.get_paginator("query").paginate(QueryString=sql):
            found += [[d.get("ScalarValue") for d in row["Data"]] for row in page["Rows"]]
    return found


async def archived_lines(target: Target, outputs: StackOutputs) -> list[bytes]:
    """Every line of every delivered object in the archive."""
    lines: list[bytes] = []
    async with target.client("s3") as s3:
        pages = s3.get_paginator("list_objects_v2").paginate(
            Bucket=outputs.archive_bucket, Prefix=outputs.archive_prefix
        )
        keys = [item["Key"] async for page in pages for item in page.get("Contents", [])]
        for key in keys:
            answer = await s3.get_object(Bucket=outputs.archive_bucket, Key=key)
            lines += gzip.decompress(await answer["Body"].read()).splitlines()
    return lines


def recorded(run: Finished, **wanted: Any) -> set[tuple[str, int]]:
    """(device, seq) of the run's ledger rows with these values."""
    table = ledger.read(run.folder).to_pylist()
    return {
        (row["device"], row["seq"])
        for row in table
        if all(row[column] == value for column, value in wanted.items())
    }


async def test_every_acknowledged_reading_lands_in_timestream(
    target: Target, outputs: StackOutputs, run: Finished
) -> None:
    sql = (
        f'SELECT device, seq FROM "{outputs.timeseries_database}"."{outputs.timeseries_table}" '
        f"WHERE run = '{run.run_id}'"
    )
    landed = [(device, int(seq or -1)) for device, seq in await rows(target, sql)]
    acked = recorded(run, outcome="acked")
    refused = recorded(run, outcome="acked", fault="corrupt")
    assert len(acked) > 10_000
    assert set(landed) == acked - refused
    assert len(landed) == len(set(landed))
    assert run.verdict.landed["timeseries"].lost == 0
    assert run.verdict.landed["timeseries"].unique == len(landed)


async def test_every_acknowledged_reading_lands_in_the_archive_as_it_was_sent(
    target: Target, outputs: StackOutputs, run: Finished
) -> None:
    lines = await archived_lines(target, outputs)
    acked = recorded(run, outcome="acked")
    assert len(lines) == len(acked)
    assert len(set(lines)) == len(lines)
    whole = set()
    for line in lines:
        try:
            reading = json.loads(line)
            whole.add((reading["device"], reading["seq"]))
        except (ValueError, TypeError, KeyError):
            continue
    assert acked - recorded(run, fault="corrupt") <= whole
    assert run.verdict.landed["archive"].lost == 0


async def test_corrupt_readings_reach_quarantine_with_a_reason(run: Finished) -> None:
    kept = [json.loads(line) for line in (run.folder / "quarantine.jsonl").read_text().splitlines()]
    refused = recorded(run, outcome="acked", fault="corrupt")
    assert len(refused) > 20
    assert len(kept) == len(refused)
    assert all(message["reason"] for message in kept)
    assert all(message["payload_base64"] for message in kept)
    assert len({message["reason"] for message in kept}) > 1


async def test_an_alarm_fires_on_sns_and_recovers(outputs: StackOutputs, run: Finished) -> None:
    events = [json.loads(line) for line in (run.folder / "events.jsonl").read_text().splitlines()]
    states = [
        event["state"]
        for event in sorted(events, key=lambda event: int(event["t_ms"]))
        if event["event"] == "alarm" and event["alarm"] == "critical-readings"
    ]
    assert "critical-readings" in outputs.alarms
    assert "ALARM" in states
    assert "OK" in states[states.index("ALARM") :]


async def test_the_verdict_passes_with_nothing_lost_or_duplicated(run: Finished) -> None:
    verdict = run.verdict
    assert [check for check in verdict.checks if not check.ok] == []
    assert verdict.verdict == "pass"
    assert verdict.unknown == verdict.failed == 0
    assert verdict.sent == verdict.acked == len(recorded(run))
