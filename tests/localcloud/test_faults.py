"""Faults on calls that clients make: what each kind does, to which calls, and for how long."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest
import pytest_asyncio
from botocore.exceptions import ClientError, ConnectionClosedError, ReadTimeoutError

from localcloud.faults.board import FaultBoard
from localcloud.faults.spec import parse

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(loop_scope="module")
async def fault(cloud):
    """Adds a fault and gives it as it is; all are cleared after the test."""
    board = cloud.local.context.faults.board

    def add(service: str, kind: str, **members: Any) -> Any:
        return board.add(parse({"service": service, "kind": kind, **members}))

    yield add
    board.clear()


async def _samples(cloud, namespace: str, name: str, **dimensions: str) -> float:
    client = await cloud.client("cloudwatch")
    now = time.time()
    answer = await client.get_metric_statistics(
        Namespace=namespace, MetricName=name, StartTime=now - 300, EndTime=now + 60, Period=300,
        Statistics=["Sum"], Dimensions=[{"Name": k, "Value": v} for k, v in dimensions.items()],
    )  # fmt: skip
    return sum(point["Sum"] for point in answer["Datapoints"])


@pytest.mark.parametrize(
    ("service", "operation", "arguments", "error"),
    [
        ("kinesis", "list_streams", {}, ("LimitExceededException", 400)),
        (
            "kinesis", "put_record", {"StreamName": "s", "Data": b"", "PartitionKey": "k"},
            ("ProvisionedThroughputExceededException", 400),
        ),
        ("lambda", "list_functions", {}, ("TooManyRequestsException", 429)),
        ("s3", "list_buckets", {}, ("SlowDown", 503)),
        ("s3", "head_bucket", {"Bucket": "b"}, ("503", 503)),
        ("sqs", "list_queues", {}, ("RequestThrottled", 403)),
        ("sns", "list_topics", {}, ("Throttled", 429)),
        ("firehose", "list_delivery_streams", {}, ("LimitExceededException", 400)),
        ("timestream-write", "list_databases", {}, ("ThrottlingException", 400)),
        ("timestream-query", "query", {"QueryString": "SELECT 1"}, ("ThrottlingException", 400)),
        ("cloudwatch", "list_metrics", {}, ("Throttling", 400)),
        ("secretsmanager", "list_secrets", {}, ("ThrottlingException", 400)),
        ("iam", "list_roles", {}, ("Throttling", 400)),
        ("iot", "list_things", {}, ("ThrottlingException", 400)),
        ("ec2", "describe_vpcs", {}, ("RequestLimitExceeded", 503)),
    ],
)  # fmt: skip
async def test_each_service_throttles_with_its_own_error(
    cloud, fault, service, operation, arguments, error
):
    client = await cloud.client(service)
    made = fault(service, "throttle")
    with pytest.raises(ClientError) as caught:
        await getattr(client, operation)(**arguments)
    response = caught.value.response
    told = response["Error"]["Code"], response["ResponseMetadata"]["HTTPStatusCode"]
    assert told == error
    assert made.fired == 1


async def test_a_fault_on_one_operation_leaves_the_others_alone(cloud, fault, code_of):
    client = await cloud.client("sns")
    made = fault("sns", "error", operation="ListTopics", code="AuthorizationError", status=403)
    assert "Subscriptions" in await client.list_subscriptions()
    with pytest.raises(ClientError) as caught:
        await client.list_topics()
    assert code_of(caught.value) == "AuthorizationError"
    assert (made.matched, made.fired) == (1, 1)


@pytest.mark.parametrize(
    ("call", "arguments", "operation"),
    [
        ("get_object", {"Bucket": "b", "Key": "a/b c"}, "GetObject"),
        ("put_object", {"Bucket": "b", "Key": "k", "Body": b""}, "PutObject"),
        ("copy_object", {"Bucket": "b", "Key": "k", "CopySource": "b/o"}, "CopyObject"),
        ("list_objects_v2", {"Bucket": "b"}, "ListObjectsV2"),
        ("list_objects", {"Bucket": "b"}, "ListObjects"),
        ("get_bucket_versioning", {"Bucket": "b"}, "GetBucketVersioning"),
        ("upload_part", {"Bucket": "b", "Key": "k", "PartNumber": 1, "UploadId": "u"},
         "UploadPart"),
        ("delete_objects", {"Bucket": "b", "Delete": {"Objects": [{"Key": "k"}]}},
         "DeleteObjects"),
    ],
)  # fmt: skip
async def test_operations_of_s3_are_told_apart(cloud, fault, code_of, call, arguments, operation):
    client = await cloud.client("s3")
    made = fault("s3", "error", operation=operation, code="InternalError")
    with pytest.raises(ClientError) as caught:
        await getattr(client, call)(**arguments)
    assert code_of(caught.value) == "InternalError"
    assert made.fired == 1


async def test_a_number_of_calls_ends_a_fault(cloud, fault):
    client = await cloud.client("sns")
    made = fault("sns", "throttle", calls=2)
    for _ in range(2):
        with pytest.raises(ClientError):
            await client.list_topics()
    await client.list_topics()
    assert made.fired == 2
    assert not cloud.local.context.faults.concerns("sns")


async def test_a_share_with_a_seed_refuses_the_same_calls_again(cloud, fault):
    client = await cloud.client("sns")

    async def outcomes() -> list[bool]:
        made = fault("sns", "throttle", share=0.4, seed=7)
        refused = []
        for _ in range(30):
            try:
                await client.list_topics()
                refused.append(False)
            except ClientError:
                refused.append(True)
        cloud.local.context.faults.board.clear(made.id)
        return refused

    first = await outcomes()
    assert first == await outcomes()
    assert 4 <= sum(first) <= 20


async def test_latency_delays_its_calls_and_no_others_until_it_is_cleared(cloud, fault, eventually):
    sns, events = await cloud.client("sns"), await cloud.client("events")
    made = fault("sns", "latency", latency_ms=[50_000, 60_000])
    slow = asyncio.create_task(sns.list_topics())
    await eventually(lambda: made.fired)
    await events.list_rules()
    assert not slow.done()
    cloud.local.context.faults.board.clear()
    assert "Topics" in await slow


async def test_a_delayed_call_is_answered_when_its_latency_has_passed(cloud, fault):
    client = await cloud.client("sns")
    made = fault("sns", "latency", latency_ms=1)
    assert "Topics" in await client.list_topics()
    assert made.fired == 1


async def test_an_outage_closes_the_connection_without_an_answer(cloud, fault):
    client = await cloud.client("firehose")
    fault("firehose", "outage", calls=1)
    with pytest.raises(ConnectionClosedError):
        await client.list_delivery_streams()
    await client.list_delivery_streams()


async def test_a_timeout_never_answers_and_ends_with_the_client(cloud, fault):
    async with cloud.target.client(
        "sns", read_timeout=0.3, retries={"total_max_attempts": 1}
    ) as client:
        made = fault("sns", "timeout")
        with pytest.raises(ReadTimeoutError):
            await client.list_topics()
        assert made.fired == 1


async def test_a_timeout_ends_when_it_is_cleared(cloud, fault, eventually):
    client = await cloud.client("sns")
    made = fault("sns", "timeout", calls=1)
    hanging = asyncio.create_task(client.list_topics())
    await eventually(lambda: made.fired)
    cloud.local.context.faults.board.clear()
    with pytest.raises(ConnectionClosedError):
        await hanging


async def test_a_share_of_put_records_is_refused_and_the_rest_is_stored(cloud, stream_of, fault):
    stream = await stream_of()
    fault("kinesis", "partial", operation="PutRecords", records=0.5, seed=1)
    answer = await stream.put(*[(str(n), str(n).encode()) for n in range(40)])
    failed = [n for n, record in enumerate(answer["Records"]) if "ErrorCode" in record]
    assert 0 < len(failed) < 40
    assert answer["FailedRecordCount"] == len(failed)
    assert {answer["Records"][n]["ErrorCode"] for n in failed} == {
        "ProvisionedThroughputExceededException"
    }
    assert [int(data) for data in await stream.read()] == [n for n in range(40) if n not in failed]
    assert await _samples(
        cloud, "AWS/Kinesis", "WriteProvisionedThroughputExceeded",
        StreamName=stream.name,
    ) == len(failed)  # fmt: skip


async def test_all_records_of_a_batch_can_be_refused(stream_of, fault):
    stream = await stream_of()
    fault("kinesis", "partial", operation="PutRecords", records=1.0, code="InternalFailure")
    answer = await stream.put(("k", b"x"), ("k", b"y"))
    assert answer["FailedRecordCount"] == 2
    assert {record["ErrorCode"] for record in answer["Records"]} == {"InternalFailure"}
    assert await stream.read() == []


async def test_refused_records_of_timestream_are_rejected_by_their_index(cloud, name, fault):
    write, query = await cloud.client("timestream-write"), await cloud.client("timestream-query")
    await write.create_database(DatabaseName=name)
    await write.create_table(DatabaseName=name, TableName="table")
    fault("timestream-write", "partial", operation="WriteRecords", records=0.5, seed=3)
    now_ms = int(time.time() * 1000)
    records = [
        {
            "Dimensions": [{"Name": "n", "Value": str(n)}], "MeasureName": "m", "Time": str(now_ms),
            "MeasureValue": "1.0" if n != 5 else "none", "MeasureValueType": "DOUBLE",
        }
        for n in range(12)
    ]  # fmt: skip
    with pytest.raises(write.exceptions.RejectedRecordsException) as caught:
        await write.write_records(DatabaseName=name, TableName="table", Records=records)
    rejected = [one["RecordIndex"] for one in caught.value.response["RejectedRecords"]]
    assert rejected == sorted(rejected)
    assert 5 in rejected
    answer = await query.query(QueryString=f'SELECT n FROM "{name}"."table"')  # noqa: S608
    stored = {int(row["Data"][0]["ScalarValue"]) for row in answer["Rows"]}
    assert stored == set(range(12)) - set(rejected)
    assert stored


async def test_refused_entries_of_a_queue_are_failed_by_their_id(cloud, name, fault):
    sqs = await cloud.client("sqs")
    url = (await sqs.create_queue(QueueName=name))["QueueUrl"]
    fault("sqs", "partial", operation="SendMessageBatch", records=0.5, seed=5)
    entries = [{"Id": f"e{n}", "MessageBody": str(n)} for n in range(10)]
    answer = await sqs.send_message_batch(QueueUrl=url, Entries=entries)
    assert answer["Failed"]
    assert {one["Id"] for one in answer["Successful"]} | {
        one["Id"] for one in answer["Failed"]
    } == {entry["Id"] for entry in entries}
    counts = await sqs.get_queue_attributes(
        QueueUrl=url, AttributeNames=["ApproximateNumberOfMessages"]
    )
    stored = int(counts["Attributes"]["ApproximateNumberOfMessages"])
    assert stored == len(answer["Successful"])


async def test_refused_records_of_a_delivery_stream_count_as_throttled(cloud, name, fault):
    firehose, s3 = await cloud.client("firehose"), await cloud.client("s3")
    await s3.create_bucket(Bucket=name)
    await firehose.create_delivery_stream(
        DeliveryStreamName=name,
        ExtendedS3DestinationConfiguration={
            "RoleARN": "arn:aws:iam::123456789012:role/r", "BucketARN": f"arn:aws:s3:::{name}"
        },
    )  # fmt: skip
    fault("firehose", "partial", operation="PutRecordBatch", records=1.0)
    answer = await firehose.put_record_batch(
        DeliveryStreamName=name, Records=[{"Data": b"a"}, {"Data": b"b"}]
    )
    assert answer["FailedPutCount"] == 2
    assert answer["RequestResponses"][0]["ErrorCode"] == "ServiceUnavailableException"
    assert await _samples(cloud, "AWS/Firehose", "ThrottledRecords", DeliveryStreamName=name) == 2
    await firehose.delete_delivery_stream(DeliveryStreamName=name)


async def test_a_mapping_waits_while_reads_and_invocations_are_refused(
    cloud, stream_of, function_of, fault, eventually
):
    stream = await stream_of()
    function = await function_of("def handler(event, context): return None")
    client = await cloud.client("lambda")
    mapping = await client.create_event_source_mapping(
        FunctionName=function, EventSourceArn=stream.inner.arn, StartingPosition="LATEST",
        MaximumRetryAttempts=0,
    )  # fmt: skip
    engine = cloud.service("lambda")._mappings.mappings[mapping["UUID"]]
    reads = fault("kinesis", "throttle", operation="GetRecords")
    invocations = fault("lambda", "throttle", operation="Invoke", calls=2)
    await stream.fill(3)
    await eventually(lambda: reads.fired)
    assert engine.delivered == 0
    cloud.local.context.faults.board.clear(reads.id)
    await eventually(lambda: engine.delivered == 3)
    assert invocations.fired == 2
    assert engine.given_up == 0
    assert await _samples(
        cloud, "AWS/Lambda", "Throttles", FunctionName=function
    ) == 2  # fmt: skip
    assert await _samples(
        cloud, "AWS/Kinesis", "ReadProvisionedThroughputExceeded",
        StreamName=stream.name,
    ) == reads.fired  # fmt: skip
    await client.delete_event_source_mapping(UUID=mapping["UUID"])


async def test_a_function_that_does_not_answer_holds_up_its_mapping_until_the_fault_ends(
    cloud, stream_of, function_of, fault, eventually
):
    stream = await stream_of()
    function = await function_of("def handler(event, context): return None")
    client = await cloud.client("lambda")
    mapping = await client.create_event_source_mapping(
        FunctionName=function, EventSourceArn=stream.inner.arn, StartingPosition="LATEST"
    )
    engine = cloud.service("lambda")._mappings.mappings[mapping["UUID"]]
    made = fault("lambda", "timeout", operation="Invoke", calls=1)
    await stream.fill(2)
    await eventually(lambda: made.fired)
    assert engine.delivered == 0
    cloud.local.context.faults.board.clear()
    await eventually(lambda: engine.delivered == 2)
    await client.delete_event_source_mapping(UUID=mapping["UUID"])


@pytest.mark.parametrize(
    ("members", "told"),
    [
        ({"service": "kinesys"}, "service: 'kinesys' is no AWS service"),
        ({"operation": "PutRecord5"}, "did you mean PutRecord"),
        ({"kind": "storm"}, "kind: Input should be"),
        ({"kind": "error"}, "needs code"),
        ({"kind": "latency"}, "needs latency_ms"),
        ({"kind": "latency", "latency_ms": [5, 1]}, "is no range"),
        ({"kind": "partial", "records": 0.5, "operation": "PutRecord"}, "partial failures exist"),
        ({"records": 0.5}, "records does not belong"),
        ({"share": 0}, "share: Input should be greater than 0"),
        ({"for_s": "30"}, "for_s: Input should be a valid number"),
        ({"shard": 1}, "shard: Extra inputs"),
    ],
)
async def test_a_fault_that_makes_no_sense_is_refused(members, told):
    with pytest.raises(ValueError, match=told) as caught:
        parse({"service": "kinesis", "operation": "*", "kind": "throttle", **members})
    assert "\n" not in str(caught.value)


async def test_a_fault_waits_for_its_time_and_ends_after_it():
    now = [100.0]
    board = FaultBoard(lambda: now[0])
    made = board.add(parse({"service": "sqs", "kind": "throttle", "after_s": 5.0, "for_s": 10.0}))
    seen = []
    for at in (100.0, 104.9, 105.0, 114.9, 115.0):
        now[0] = at
        seen.append((made.state(at), len(board.strike("sqs", "ListQueues"))))
    assert seen == [
        ("waiting", 0), ("waiting", 0), ("active", 1), ("active", 1), ("ended", 0)
    ]  # fmt: skip
    assert board.by_service == {}
    assert board.describe()[0]["state"] == "ended"


async def test_latencies_add_up_and_the_oldest_refusal_decides(fault, cloud):
    board = cloud.local.context.faults.board
    fault("sqs", "latency", latency_ms=10)
    first = fault("sqs", "throttle")
    second = fault("sqs", "outage")
    fault("sqs", "latency", latency_ms=20)
    struck = board.strike("sqs", "ListQueues")
    assert sum(one.latency_s() for one in struck) == pytest.approx(0.03)
    assert first in struck
    assert second not in struck
