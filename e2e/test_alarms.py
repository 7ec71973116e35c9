"""Every alarm of the stack is made to fire and to recover, and SNS delivers both.

The scenarios under `alarms/` are the matrix: each expects alarms of faults that it makes. Another
alarm in the stack without a row there fails the first test.
"""

from __future__ import annotations

import asyncio
import base64
import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import pytest_asyncio

from fleetcast.enrolment import Enrolment
from fleetcast.home import identities_of
from fleetcast.runs import new_run
from fleetcast.verify import verify_run
from fleetcast.verify.alarms import AlarmReader
from simulator.engine import simulate
from simulator.events import read_events
from simulator.fleet import DeviceNames
from simulator.scenario import RunInfo, load
from simulator.sending import Sending
from stack.alarms import ALARM_NAMES, alarm_specs
from stack.config import StackConfig
from stack.deploy import choose_engine, deploy, destroy

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from fleetcast.target import Target
    from fleetcast.verify import Verdict
    from stack.outputs import StackOutputs

pytestmark = pytest.mark.asyncio(loop_scope="session")

FOLDER = Path(__file__).parent / "alarms"
# The stack of each scenario: limits that a run of two minutes can reach.
SETTINGS: dict[str, dict[str, Any]] = {
    "recovered": {
        "processor_timeout_s": 5,
        "iterator_age_limit_ms": 10_000,
        "freshness_limit_s": 10,
        "silent_periods": 1,
        # The reader of a shard asks for as many records as a batch may have, and so is behind for a while.
        "batch_size": 10,
    },
    "given-up": {"retry_attempts": 0},
    "rule-failed": {},
}
# Of the scenarios, those whose readings come in by MQTT.
OVER_MQTT = {"rule-failed"}
MATRIX = {
    alarm.name: name for name in SETTINGS for alarm in load(FOLDER / f"{name}.yaml").expect.alarms
}
WAIT_S = 60.0


@dataclass(frozen=True)
class Driven:
    """A scenario that has been driven at a stack of its own, and verified."""

    info: RunInfo
    folder: Path
    outputs: StackOutputs
    verdict: Verdict

    def states(self, name: str) -> list[str]:
        """The states that SNS told of an alarm, in order."""
        events = [e for e in read_events(self.folder) if e["event"] == "alarm"]
        told = sorted((e for e in events if e["alarm"] == name), key=lambda e: int(e["t_ms"]))
        return [str(event["state"]) for event in told]


@pytest_asyncio.fixture(scope="module", loop_scope="session", params=list(SETTINGS))
async def driven(target: Target, request: pytest.FixtureRequest) -> AsyncIterator[Driven]:
    """Each scenario of the matrix, driven and verified."""
    if target.name != "local":
        pytest.skip("AWS's services cannot be made to fail: the matrix is run on the local cloud")
    config = StackConfig.for_target("local", "alarms", **SETTINGS[request.param])
    engine = choose_engine(target, None)
    outputs = await deploy(config, target, engine, progress=print)
    identities = identities_of(target.name, config.environment)
    enrolment = Enrolment(target, identities, lambda *_: None)
    try:
        scenario = load(FOLDER / f"{request.param}.yaml")
        sending = Sending()
        if request.param in OVER_MQTT:
            devices = DeviceNames(scenario.fleet.devices)[:]
            await enrolment.enrol(devices)
            sending = Sending("mqtt").over_mqtt(identities, 1, 100.0)
        info, folder = new_run(scenario, target, outputs, transport=sending.transport)
        await simulate(
            scenario, info, outputs, target, folder, progress=lambda _: None, sending=sending
        )
        verdict = await verify_run(folder, outputs, target, progress=print)
        print(*verdict.lines(), sep="\n")  # noqa: T201 - the times are what one looks for
        yield Driven(info, folder, outputs, verdict)
    finally:
        await enrolment.revoke(list(identities.devices()), delete=True)
        await destroy(config, target, engine, progress=print)


async def test_every_alarm_of_the_stack_has_a_scenario_that_raises_it() -> None:
    of_the_stack = {spec.short for spec in alarm_specs(StackConfig.for_target("local", "e2e"))}
    assert of_the_stack == set(ALARM_NAMES)
    assert set(MATRIX) == of_the_stack


async def test_each_alarm_fires_on_its_fault_and_recovers(driven: Driven) -> None:
    assert driven.verdict.alarms
    for alarm in driven.verdict.alarms:
        if not alarm.expected:
            continue
        assert alarm.ok, alarm
        assert alarm.fired_after_s is not None
        states = driven.states(alarm.name)
        assert "ALARM" in states
        if alarm.name != "failure-queue":
            assert alarm.recovered_after_s is not None
            assert "OK" in states[states.index("ALARM") :]


@pytest.mark.parametrize("driven", ["recovered"], indirect=True)
async def test_nothing_is_lost_while_services_fail(driven: Driven) -> None:
    assert [check for check in driven.verdict.checks if not check.ok] == []
    assert driven.verdict.landed["timeseries"].unique > 5000


@pytest.mark.parametrize("driven", ["given-up"], indirect=True)
async def test_the_verdict_counts_exactly_what_the_processor_gave_up_on(
    target: Target, driven: Driven
) -> None:
    """The failure queue's alarm recovers when somebody has taken care of what lies there."""
    assert driven.verdict.verdict == "fail"
    wrong = [check.name for check in driven.verdict.checks if not check.ok]
    assert wrong == ["timeseries.lost"]
    given_up = 0
    async with target.client("sqs") as sqs:
        while True:
            answer = await sqs.receive_message(
                QueueUrl=driven.outputs.failure_queue_url, MaxNumberOfMessages=10
            )
            if not answer.get("Messages"):
                break
            for message in answer["Messages"]:
                given_up += json.loads(message["Body"])["KinesisBatchInfo"]["batchSize"]
                await sqs.delete_message(
                    QueueUrl=driven.outputs.failure_queue_url,
                    ReceiptHandle=message["ReceiptHandle"],
                )
        assert driven.verdict.landed["timeseries"].lost == given_up > 0
        assert driven.verdict.landed["archive"].lost == 0
        assert any(
            note.startswith(f"{given_up:,} readings are in ") for note in driven.verdict.notes
        )
        reader = AlarmReader(sqs, driven.outputs, driven.info, driven.folder, wait_s=1)
        async with asyncio.timeout(WAIT_S):
            while driven.states("failure-queue")[-1] != "OK":
                await reader.poll()
    assert "ALARM" in driven.states("failure-queue")


@pytest.mark.parametrize("driven", ["rule-failed"], indirect=True)
async def test_what_the_topic_rule_gave_up_on_lies_on_its_error_queue(
    target: Target, driven: Driven
) -> None:
    """IoT Core had acknowledged it: it is lost to both stores, and each reading is there."""
    wrong = [check.name for check in driven.verdict.checks if not check.ok]
    assert wrong == ["timeseries.lost", "archive.lost"]
    given_up = set()
    async with target.client("sqs") as sqs:
        queue = driven.outputs.rule_errors_queue_url
        while found := (await sqs.receive_message(QueueUrl=queue, MaxNumberOfMessages=10)).get(
            "Messages"
        ):
            for message in found:
                told = json.loads(base64.b64decode(message["Body"]))
                payload = json.loads(base64.b64decode(told["base64OriginalPayload"]))
                given_up.add((payload["device"], payload["seq"]))
                await sqs.delete_message(QueueUrl=queue, ReceiptHandle=message["ReceiptHandle"])
    lost = {store: landed.lost for store, landed in driven.verdict.landed.items()}
    assert lost == dict.fromkeys(("timeseries", "archive"), len(given_up))
    assert given_up
    [note] = driven.verdict.notes
    assert note.startswith(f"{len(given_up):,} readings lie on the error queue of the topic rule")
