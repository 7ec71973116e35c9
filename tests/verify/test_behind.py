"""Readings that are not there: the verdict tells where the local cloud was merely behind."""

from __future__ import annotations

import io
import json
import zipfile
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from fleetcast import cloudctl
from fleetcast.target import Target
from fleetcast.verify import verify_run
from fleetcast.verify.behind import BacklogReader, described
from fleetcast.verify.readers import Patience
from stack.processor.quarantine import message

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.asyncio(loop_scope="module")

ROLE = "arn:aws:iam::123456789012:role/behind"
BACKLOG = [
    {"consumer": "mapping 0f-1 to processor-a", "waiting": {"records": 1234}},
    {"consumer": "mapping 0f-2 to other-processor-a", "waiting": {"records": 9}},
    {"consumer": "delivery stream archive-a", "waiting": {"records": 5, "buffered bytes": 70_000}},
    {"consumer": "delivery stream archive-b", "waiting": {"records": 0, "buffered bytes": 0}},
]


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """The deadline passes two seconds after the last acknowledgement."""
    monkeypatch.setattr(Patience, "of", lambda *_: Patience(2.0, 0.0, 0.05, 0))


async def _stalled(target: Target) -> None:
    """A stream with three records that a function is not given, and a delivery that is not due."""
    code = io.BytesIO()
    with zipfile.ZipFile(code, "w") as archive:
        archive.writestr("m.py", "def handler(event, context): return None")
    allowed = [{"Effect": "Allow", "Action": "*", "Resource": "*"}]
    services = {"Service": ["lambda.amazonaws.com", "firehose.amazonaws.com"]}
    trusted = [{"Effect": "Allow", "Principal": services, "Action": "sts:AssumeRole"}]
    async with target.client("iam") as iam:
        await iam.create_role(
            RoleName="behind",
            AssumeRolePolicyDocument=json.dumps({"Version": "2012-10-17", "Statement": trusted}),
        )
        await iam.put_role_policy(
            RoleName="behind", PolicyName="all",
            PolicyDocument=json.dumps({"Version": "2012-10-17", "Statement": allowed}),
        )  # fmt: skip
    async with target.client("kinesis") as kinesis:
        await kinesis.create_stream(StreamName="behind", ShardCount=1)
        await kinesis.get_waiter("stream_exists").wait(
            StreamName="behind", WaiterConfig={"Delay": 0.05}
        )
        for _ in range(3):
            await kinesis.put_record(StreamName="behind", Data=b"x", PartitionKey="a")
        told = await kinesis.describe_stream_summary(StreamName="behind")
    async with target.client("lambda") as functions:
        await functions.create_function(
            FunctionName="behind-function", Runtime="python3.11", Role=ROLE, Handler="m.handler",
            Code={"ZipFile": code.getvalue()},
        )  # fmt: skip
        await functions.create_event_source_mapping(
            FunctionName="behind-function", StartingPosition="TRIM_HORIZON", Enabled=False,
            EventSourceArn=told["StreamDescriptionSummary"]["StreamARN"],
        )  # fmt: skip
    async with target.client("firehose") as firehose:
        await firehose.create_delivery_stream(
            DeliveryStreamName="behind-delivery", DeliveryStreamType="DirectPut",
            ExtendedS3DestinationConfiguration={
                "RoleARN": ROLE, "BucketARN": "arn:aws:s3:::archive", "Prefix": "later/",
            },
        )  # fmt: skip
        await firehose.put_record(
            DeliveryStreamName="behind-delivery", Record={"Data": b"waits here"}
        )


async def test_a_verdict_of_lost_readings_tells_what_still_waits_for_the_run_s_consumers(
    cloud: Any, make_run: Callable[..., Any]
) -> None:
    await _stalled(cloud.target)
    run = make_run()
    mine = replace(
        cloud.outputs, function_name="behind-function", delivery_stream_name="behind-delivery"
    )

    async def verdict_of(outputs: Any) -> Any:
        return await verify_run(run.folder, outputs, cloud.target, progress=lambda _: None)

    verdict = await verdict_of(mine)
    assert verdict.verdict == "fail"
    assert verdict.landed["timeseries"].lost == int(run.truth.must_land.sum())
    [note] = verdict.notes
    assert "3 records wait for mapping" in note
    assert "10 buffered bytes wait for delivery stream behind-delivery" in note
    assert f"note        {note}" in verdict.lines()
    # Consumers of other environments are none of the run's.
    assert (await verdict_of(cloud.outputs)).notes == []

    truth = run.truth
    await cloud.write_rows(run, [row for row in truth.rows(range(12)) if truth.must_land[row.k]])
    await cloud.put_object(run.payloads.values())
    for k, payload in run.payloads.items():
        if truth.refusal[k]:
            told = message({"reason": truth.reasons[truth.refusal[k]]}, payload)
            await cloud.clients["sqs"].send_message(
                QueueUrl=mine.quarantine_queue_url, MessageBody=told
            )
    # What waits is of no concern where nothing of the run is missing.
    verdict = await verdict_of(mine)
    assert (verdict.landed["timeseries"].lost, verdict.refused.missing, verdict.notes) == (0, 0, [])


async def test_only_what_waits_for_consumers_of_the_run_is_told():
    note = described(BACKLOG, frozenset({"processor-a", "archive-a", "archive-b", ""}))

    assert note.startswith(
        "the local cloud was still behind after the landing deadline: 1,234 records wait for mapping "
        "0f-1 to processor-a; 5 records and 70,000 buffered bytes wait for delivery stream archive-a."
    )
    assert described(BACKLOG, frozenset({"archive-b"})) == ""
    assert "other-processor-a" in described(BACKLOG, None)
    assert described([], None) == ""


async def test_neither_aws_nor_a_cloud_that_does_not_answer_has_a_note():
    aws, gone = Target.named("aws"), Target.named("local", port=cloudctl.free_port())

    assert [await BacklogReader(one, None).note() for one in (aws, gone)] == ["", ""]
