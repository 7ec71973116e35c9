"""Faults of the target in a scenario: what they may be, and that they are there for the run alone."""

from __future__ import annotations

import contextlib
import time
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest

from fleetcast.errors import TargetError, UsageError
from fleetcast.target import Target
from fleetcast.verify.alarms import window_s
from localcloud.app import LocalCloud
from simulator.engine import simulate
from simulator.scenario import RunInfo, Scenario
from simulator.sending import Sending
from simulator.target_faults import disturbed

if TYPE_CHECKING:
    from pathlib import Path

FULL = {"name": "full", "call": "kinesis:PutRecords", "kind": "partial", "records": 0.3,
        "start": "2s", "duration": "3s", "alarm": "write-throttling"}  # fmt: skip
SLOW = {"name": "slow", "call": "s3", "kind": "latency", "latency": "200ms", "duration": "1s"}


def run_info() -> RunInfo:
    """A run that begins in a minute, when all that comes before it has been looked at."""
    return RunInfo("r-1", int(time.time() * 1000) + 60_000, "local", "t", "kinesis", (0, 5))


def scenario(*faults: dict[str, Any], **more: Any) -> Scenario:
    signals = {"t": {"model": "constant", "value": 1}}
    return Scenario.model_validate(
        {
            "name": "disturbed",
            "fleet": {"devices": 5, "classes": [{"name": "a", "share": 1, "signals": signals}]},
            "rate": [{"shape": "constant", "rate": "10/s", "duration": "10s"}],
            "target_faults": list(faults),
            **more,
        }
    )


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"call": "Kinesis"}, "target_faults.0.call"),
        ({"records": None}, "records: a fault of kind partial needs it"),
        ({"latency": "1s"}, "latency: does not belong to a fault of kind partial"),
        ({"kind": "throttle"}, "records: does not belong to a fault of kind throttle"),
        ({"kind": "error", "records": None}, "code: a fault of kind error needs it"),
        ({"start": "10s"}, "target_faults.0.start: full begins at 10 s of a run of 10 s"),
        ({"alarm": "write-throtling"}, "did you mean write-throttling?"),
        ({"share": 0}, "share"),
        ({"every": "5s"}, "every"),
    ],
)
def test_what_makes_no_sense_is_refused_when_the_file_is_read(
    change: dict[str, Any], text: str
) -> None:
    fault = {name: value for name, value in {**FULL, **change}.items() if value is not None}
    with pytest.raises(ValueError, match="1 validation error") as told:
        scenario(fault)
    assert text in str(told.value)


def test_two_faults_of_one_name_and_an_alarm_of_no_fault_are_refused() -> None:
    with pytest.raises(
        ValueError, match=r"target_faults\.1\.name: two faults have the name 'full'"
    ):
        scenario(FULL, FULL)
    with pytest.raises(ValueError, match=r"expect\.alarms\.0\.fault: there is no fault 'other'"):
        scenario(
            FULL,
            expect={"alarms": [{"name": "iterator-age", "fault": "other", "fires_within": "5s"}]},
        )


def test_an_alarm_is_timed_from_the_fault_that_names_it_or_that_it_names() -> None:
    asked = [
        {"name": "write-throttling", "fires_within": "5s"},
        {"name": "iterator-age", "fault": "full", "fires_within": "5s"},
        {"name": "silent-fleet", "fires_within": "5s"},
    ]
    plan = scenario(FULL, SLOW, expect={"alarms": asked})
    windows = [window_s(alarm, plan) for alarm in plan.expect.alarms]
    assert windows == [(2.0, 5.0), (2.0, 5.0), (0.0, 10.0)]
    stretched = plan.with_overrides(duration="20s")
    assert window_s(stretched.expect.alarms[0], stretched) == (4.0, 10.0)


async def broken_off(target: Target) -> list[dict[str, Any]]:
    """The faults that were there in the middle of a run that failed."""
    found: list[dict[str, Any]] = []
    with contextlib.suppress(RuntimeError):
        async with disturbed(scenario(FULL, SLOW), run_info(), target):
            found = await faults_of(target)
            raise RuntimeError
    return found


async def faults_of(target: Target) -> list[dict[str, Any]]:
    page = f"{target.endpoint_url}/_fleetcast/faults"
    async with aiohttp.ClientSession() as session, session.get(page) as answer:
        found: list[dict[str, Any]] = (await answer.json())["faults"]
        return found


@pytest.mark.asyncio
async def test_they_are_on_the_cloud_for_the_run_and_gone_afterwards() -> None:
    async with LocalCloud(port=0) as local:
        target = Target.named("local", port=local.port)
        full, slow = await broken_off(target)
        assert (full["service"], full["operation"], full["records"]) == (
            "kinesis", "PutRecords", 0.3,
        )  # fmt: skip
        assert full["state"] == slow["state"] == "waiting"
        assert full["after_s"] - slow["after_s"] == pytest.approx(2.0, abs=1.0)
        assert (slow["operation"], slow["latency_ms"]) == ("*", 200.0)
        assert await faults_of(target) == []


@pytest.mark.asyncio
async def test_what_the_cloud_refuses_is_told_and_nothing_is_left_behind() -> None:
    async with LocalCloud(port=0) as local:
        target = Target.named("local", port=local.port)
        plan = scenario(SLOW, {**FULL, "call": "kinesis:PutRecordz"})
        with pytest.raises(
            UsageError, match=r"target_faults\.1 \(full\): .*did you mean PutRecord"
        ):
            async with disturbed(plan, run_info(), target):
                pytest.fail("it went on")
        assert await faults_of(target) == []
    with pytest.raises(TargetError, match="does not take faults"):
        async with disturbed(plan, run_info(), target):
            pytest.fail("it went on")


@pytest.mark.asyncio
@pytest.mark.parametrize("where", ["aws", "nowhere"])
async def test_no_other_target_can_have_them(tmp_path: Path, where: str) -> None:
    target = Target("aws", "us-east-1") if where == "aws" else None
    sending = Sending("null") if where == "nowhere" else Sending()
    with pytest.raises(UsageError, match="the local cloud alone can make happen"):
        await simulate(
            scenario(FULL),
            run_info(),
            None,
            target,
            tmp_path,
            progress=lambda _: None,
            sending=sending,
        )
    assert not (tmp_path / "scenario.yaml").exists()
