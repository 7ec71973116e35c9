"""Readings that are not there: the verdict tells which of them were given up on, and why."""

from __future__ import annotations

import base64
import json
import uuid
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from fleetcast.verify import verify_run
from fleetcast.verify.readers import Patience
from fleetcast.verify.undelivered import UndeliveredReader

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.asyncio(loop_scope="module")

THROTTLED = (
    "Failed to Kinesis: Rate exceeded for shard (Error Code: "
    "ProvisionedThroughputExceededException). Message arrived on: readings/d, Action: kinesis"
)


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """The deadline passes two seconds after the last acknowledgement."""
    monkeypatch.setattr(Patience, "of", lambda *_: Patience(2.0, 0.0, 0.05, 0))


async def queue(cloud: Any) -> str:
    """A queue of the test's own."""
    created = await cloud.clients["sqs"].create_queue(QueueName=f"q-{uuid.uuid4().hex}")
    return str(created["QueueUrl"])


async def tell(cloud: Any, url: str, bodies: list[str]) -> None:
    for body in bodies:
        await cloud.clients["sqs"].send_message(QueueUrl=url, MessageBody=body)


async def waiting(cloud: Any, url: str) -> int:
    answer = await cloud.clients["sqs"].get_queue_attributes(
        QueueUrl=url, AttributeNames=["ApproximateNumberOfMessages"]
    )
    return int(answer["Attributes"]["ApproximateNumberOfMessages"])


def rule_error(payload: bytes, why: str = THROTTLED) -> str:
    told = {
        "ruleName": "readings_t", "topic": "readings/d", "cloudwatchTraceId": "t", "clientId": "d",
        "base64OriginalPayload": base64.b64encode(payload).decode(),
        "failures": [
            {"failedAction": "KinesisAction", "failedResource": "stream", "errorMessage": why}
        ],
    }  # fmt: skip
    return base64.b64encode(json.dumps(told).encode()).decode()


def batch(first: int, last: int, condition: str = "RetryAttemptsExhausted", shard: int = 0) -> str:
    told = {
        "requestContext": {"condition": condition, "functionArn": "f"},
        "KinesisBatchInfo": {
            "shardId": f"shardId-{shard:012d}", "startSequenceNumber": str(first),
            "endSequenceNumber": str(last), "batchSize": last - first + 1,
        },
    }  # fmt: skip
    return json.dumps(told)


def reader(cloud: Any, run: Any, transport: str, rule: str = "", failures: str = "") -> Any:
    truth = run.truth
    truth.run = replace(truth.run, transport=transport)
    return UndeliveredReader(cloud.clients["sqs"], rule, failures, truth, run.folder, 0)


async def test_what_the_topic_rule_gave_up_on_is_told_with_the_reason_and_stays(
    cloud: Any, make_run: Callable[..., Any]
) -> None:
    run, url = make_run(), await queue(cloud)
    gone = [run.payloads[k] for k in (3, 4, 5)]
    bodies = [rule_error(payload) for payload in gone]
    # A copy, another reason, another run's, and what is no message of a rule at all.
    bodies += [rule_error(gone[0]), rule_error(run.payloads[9], "(Error Code: AccessDenied)")]
    bodies += [rule_error(b"another"), "no base64", base64.b64encode(b"[1]").decode()]
    await tell(cloud, url, bodies)

    [note] = await reader(cloud, run, "mqtt", rule=url).notes()

    assert note == (
        "4 readings lie on the error queue of the topic rule, which could not deliver them: "
        "ProvisionedThroughputExceededException x 3, AccessDenied x 1. A rule tries again for "
        "about a second: send more evenly, or deploy more shards"
    )
    assert await waiting(cloud, url) == len(bodies)
    # Readings that were sent to Kinesis come by no rule.
    assert await reader(cloud, run, "kinesis", rule=url).notes() == []


async def test_only_what_is_of_the_run_is_told(cloud: Any, make_run: Callable[..., Any]) -> None:
    run, url, failures = make_run(), await queue(cloud), await queue(cloud)
    await tell(cloud, url, [rule_error(b"another")])
    await tell(cloud, failures, [batch(0, 99, shard=7), batch(10_000, 10_009), "{}", "no JSON"])

    assert await reader(cloud, run, "mqtt", rule=url).notes() == []
    assert await reader(cloud, run, "kinesis", failures=failures).notes() == []
    assert await reader(cloud, run, "kinesis").notes() == []


async def test_a_verdict_of_lost_readings_tells_of_batches_that_were_given_up_on(
    cloud: Any, make_run: Callable[..., Any]
) -> None:
    run, url = make_run(), await queue(cloud)
    await tell(cloud, url, [batch(2, 5), batch(9, 11, "RecordAgeExceeded"), batch(2, 5)])
    mine = replace(cloud.outputs, failure_queue_url=url)

    verdict = await verify_run(run.folder, mine, cloud.target, progress=lambda _: None)

    assert verdict.landed["timeseries"].lost > 0
    [note] = verdict.notes
    assert note == (
        "7 readings are in 2 batches that the function could not process, and that were given up "
        "on: RetryAttemptsExhausted x 1, RecordAgeExceeded x 1. The failure queue tells which, the "
        "function's log why"
    )
    assert await waiting(cloud, url) == 3
