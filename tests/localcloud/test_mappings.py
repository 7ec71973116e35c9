from __future__ import annotations

import asyncio
import base64

import pytest
from botocore.exceptions import ClientError

pytestmark = pytest.mark.asyncio(loop_scope="module")

# Delivery


async def test_records_are_delivered_in_order_in_batches(mapped_of):
    mapped = await mapped_of("note")
    await mapped.put(*[str(n) for n in range(25)])
    await mapped.create(BatchSize=10)

    batches = await mapped.seen_when(3)

    assert batches == [[str(n) for n in range(start, min(start + 10, 25))] for start in (0, 10, 20)]
    assert (mapped.status()["delivered"], mapped.status()["last_result"]) == (25, "OK")


async def test_an_event_has_the_form_of_kinesis_events(mapped_of):
    mapped = await mapped_of("whole")
    (number,) = await mapped.put("x")
    await mapped.create()

    ((record,),) = [event["Records"] for event in await mapped.seen_when(1)]

    arrival_s = record["kinesis"].pop("approximateArrivalTimestamp")
    assert round(arrival_s * 1000) == mapped.stream.inner.shards[0].records[0].arrival_ms
    assert record == {
        "kinesis": {
            "kinesisSchemaVersion": "1.0",
            "partitionKey": "k",
            "sequenceNumber": number,
            "data": base64.b64encode(b"x").decode(),
        },
        "eventSource": "aws:kinesis",
        "eventVersion": "1.0",
        "eventID": f"shardId-000000000000:{number}",
        "eventName": "aws:kinesis:record",
        "invokeIdentityArn": "arn:aws:iam::123456789012:role/function",
        "awsRegion": "us-east-1",
        "eventSourceARN": mapped.stream.inner.arn,
    }


async def test_latest_delivers_what_comes_after_the_mapping(mapped_of):
    mapped = await mapped_of("note")
    await mapped.put("before")
    await mapped.create(StartingPosition="LATEST")
    await mapped.put("after")

    assert await mapped.seen_when(1) == [["after"]]


async def test_a_batching_window_ends_when_the_batch_is_full(mapped_of):
    mapped = await mapped_of("note")
    await mapped.create(BatchSize=3, MaximumBatchingWindowInSeconds=300)
    for data in ("a", "b", "c"):
        await mapped.put(data)

    assert await mapped.seen_when(1) == [["a", "b", "c"]]


async def test_while_a_batch_gathers_the_stream_is_read_for_what_it_lacks(
    mapped_of, cloud, monkeypatch
):
    mapped = await mapped_of("note")
    read, reads = cloud.local.kinesis.read, []

    def counted(*where):
        reads.append(where)
        return read(*where)

    monkeypatch.setattr(cloud.local.kinesis, "read", counted)
    monkeypatch.setattr("localcloud.functions.shard_reader.GATHER_S", 60.0)
    await mapped.create(BatchSize=30, MaximumBatchingWindowInSeconds=300)
    for number in range(30):
        await mapped.put(str(number))

    assert await mapped.seen_when(1) == [[str(number) for number in range(30)]]
    assert len(reads) <= 3


async def test_what_came_while_a_batch_gathered_leaves_with_it(mapped_of, monkeypatch):
    mapped = await mapped_of("note")
    monkeypatch.setattr("localcloud.functions.shard_reader.GATHER_S", 60.0)
    await mapped.create(BatchSize=30, MaximumBatchingWindowInSeconds=3)
    await mapped.put("a")
    await asyncio.sleep(0.5)
    await mapped.put("b")

    assert await mapped.seen_when(1) == [["a", "b"]]


async def test_a_disabled_mapping_goes_on_where_it_stopped(mapped_of, cloud, eventually):
    mapped = await mapped_of("note")
    client = await cloud.client("lambda")
    await mapped.put("a")
    await mapped.create()
    await mapped.seen_when(1)
    await client.update_event_source_mapping(UUID=mapped.uuid, Enabled=False)
    await mapped.put("b")
    assert (await client.get_event_source_mapping(UUID=mapped.uuid))["State"] == "Disabled"
    assert mapped.status()["backlog"] == 1
    await client.update_event_source_mapping(UUID=mapped.uuid, Enabled=True)

    assert await mapped.seen_when(2) == [["a"], ["b"]]


async def test_children_of_a_split_shard_are_delivered_after_it(mapped_of):
    mapped = await mapped_of("once")
    await mapped.put("bad first", "second")
    await mapped.stream.client.split_shard(
        StreamName=mapped.stream.name,
        ShardToSplit="shardId-000000000000",
        NewStartingHashKey=str(2**127),
    )
    await mapped.put("child", ExplicitHashKey="0")
    await mapped.create()

    assert await mapped.seen_when(3) == [
        ["bad first", "second"],
        ["bad first", "second"],
        ["child"],
    ]


async def test_parallel_lanes_keep_the_order_of_each_key(mapped_of):
    mapped = await mapped_of("note")
    keys = [f"key-{n}" for n in range(6)]
    records = [(key, f"{key}/{n}".encode()) for n in range(10) for key in keys]
    await mapped.stream.put(*records)
    await mapped.create(ParallelizationFactor=2, BatchSize=100)

    batches = await mapped.seen_when(2)

    assert len(batches) == 2
    for key in keys:
        of_key = [[d for d in batch if d.startswith(f"{key}/")] for batch in batches]
        assert sorted(of_key) == [[], [f"{key}/{n}" for n in range(10)]]


# Failure


async def test_a_failed_batch_is_delivered_again_until_it_is_taken(mapped_of):
    mapped = await mapped_of("once")
    await mapped.put("bad", "good")
    await mapped.create()

    assert await mapped.seen_when(2) == [["bad", "good"], ["bad", "good"]]
    assert mapped.status()["given_up"] == 0


async def test_a_partial_response_repeats_from_the_first_failure(mapped_of):
    mapped = await mapped_of("report")
    await mapped.put("a", "b", "bad", "c")
    await mapped.create(
        FunctionResponseTypes=["ReportBatchItemFailures"], MaximumRetryAttempts=1, failures=True
    )

    assert await mapped.seen_when(2) == [["a", "b", "bad", "c"], ["bad", "c"]]
    assert (await mapped.failure())["KinesisBatchInfo"]["batchSize"] == 2
    assert (mapped.status()["delivered"], mapped.status()["given_up"]) == (2, 2)


async def test_a_response_without_the_setting_is_not_read(mapped_of):
    mapped = await mapped_of("report")
    await mapped.put("a", "bad", "c")
    await mapped.create()

    assert await mapped.seen_when(1) == [["a", "bad", "c"]]
    assert mapped.status()["delivered"] == 3


async def test_a_response_naming_unknown_records_fails_the_whole_batch(mapped_of):
    mapped = await mapped_of("foreign")
    await mapped.put("a", "bad")
    await mapped.create(
        FunctionResponseTypes=["ReportBatchItemFailures"], MaximumRetryAttempts=1, failures=True
    )

    assert await mapped.seen_when(2) == [["a", "bad"], ["a", "bad"]]
    assert (await mapped.failure())["KinesisBatchInfo"]["batchSize"] == 2


async def test_bisection_singles_out_the_bad_record(mapped_of):
    mapped = await mapped_of("raise")
    numbers = await mapped.put("a", "b", "bad", "c")
    await mapped.create(BisectBatchOnFunctionError=True, MaximumRetryAttempts=1, failures=True)

    told = await mapped.failure()

    assert await mapped.seen_when(6) == [
        ["a", "b", "bad", "c"],
        ["a", "b"],
        ["bad", "c"],
        ["bad"],
        ["bad"],
        ["c"],
    ]
    info = told["KinesisBatchInfo"]
    assert (info["startSequenceNumber"], info["endSequenceNumber"]) == (numbers[2], numbers[2])
    assert (mapped.status()["delivered"], mapped.status()["given_up"]) == (3, 1)


async def test_the_failure_document_is_that_of_aws_and_later_records_go_on(mapped_of):
    mapped = await mapped_of("raise")
    numbers = await mapped.put("bad", "a")
    await mapped.create(BatchSize=2, MaximumRetryAttempts=0, failures=True)
    await mapped.put("b")

    told = await mapped.failure()

    assert await mapped.seen_when(2) == [["bad", "a"], ["b"]]
    context, info = told["requestContext"], told["KinesisBatchInfo"]
    assert set(told) == {
        "requestContext",
        "responseContext",
        "version",
        "timestamp",
        "KinesisBatchInfo",
    }
    assert (context["condition"], context["approximateInvokeCount"]) == (
        "RetryAttemptsExhausted",
        1,
    )
    assert context["functionArn"].endswith(f":function:{mapped.function}")
    assert told["responseContext"] == {
        "statusCode": 200,
        "executedVersion": "$LATEST",
        "functionError": "Unhandled",
    }
    assert (info["startSequenceNumber"], info["endSequenceNumber"]) == (numbers[0], numbers[1])
    assert (info["batchSize"], info["shardId"]) == (2, "shardId-000000000000")
    assert info["streamArn"] == mapped.stream.inner.arn


async def test_records_beyond_their_age_are_given_up_without_an_invocation(mapped_of):
    mapped = await mapped_of("note")
    mapped.stream.shift_clock(-120)
    await mapped.put("old")
    mapped.stream.shift_clock(0)
    await mapped.put("new")
    old = mapped.stream.inner.shards[0].records[0]
    await mapped.create(MaximumRecordAgeInSeconds=60, failures=True)

    told = await mapped.failure()

    assert await mapped.seen_when(1) == [["new"]]
    assert told["requestContext"]["condition"] == "RecordAgeExceeded"
    assert "responseContext" not in told
    assert told["KinesisBatchInfo"]["startSequenceNumber"] == old.sequence_number


# The API


async def test_a_pair_of_stream_and_function_is_mapped_once(mapped_of, cloud):
    mapped = await mapped_of("note")
    client = await cloud.client("lambda")
    await mapped.create(BatchSize=7)

    with pytest.raises(client.exceptions.ResourceConflictException, match=mapped.uuid):
        await mapped.create()
    listed = await client.list_event_source_mappings(FunctionName=mapped.function)
    assert [(m["UUID"], m["BatchSize"]) for m in listed["EventSourceMappings"]] == [
        (mapped.uuid, 7)
    ]
    await client.delete_event_source_mapping(UUID=mapped.uuid)
    with pytest.raises(client.exceptions.ResourceNotFoundException):
        await client.get_event_source_mapping(UUID=mapped.uuid)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"FilterCriteria": {"Filters": [{"Pattern": "{"}]}}, "is not JSON"),
        ({"FilterCriteria": {"Filters": [{"Pattern": "{}"}] * 6}}, "more than 5 filters"),
        ({"TumblingWindowInSeconds": 30, "ParallelizationFactor": 2}, "is not supported locally"),
        ({"ScalingConfig": {"MaximumConcurrency": 2}}, "ScalingConfig is not supported locally"),
        ({"MetricsConfig": {"Metrics": ["KafkaMetrics"]}}, "EventCount only"),
        ({"StartingPosition": "AT_TIMESTAMP"}, "StartingPositionTimestamp"),
        ({"MaximumRecordAgeInSeconds": 59}, "MaximumRecordAgeInSeconds"),
        (
            {
                "DestinationConfig": {
                    "OnFailure": {"Destination": "arn:aws:sqs:eu-west-1:123456789012:q.fifo"}
                }
            },
            "FIFO",
        ),
        (
            {
                "DestinationConfig": {
                    "OnFailure": {"Destination": "arn:aws:lambda:us-east-1:123456789012:f"}
                }
            },
            "no ARN that OnFailure of a mapping can have",
        ),
        ({"EventSourceArn": "arn:aws:sqs:us-east-1:123456789012:q"}, "only Kinesis streams"),
        ({"EventSourceArn": "arn:aws:kinesis:us-east-1:123456789012:stream/none"}, "not found"),
    ],
)
async def test_a_mapping_that_is_not_served_is_refused_by_name(mapped_of, cloud, settings, message):
    mapped = await mapped_of("note")
    client = await cloud.client("lambda")

    with pytest.raises(ClientError) as caught:
        await client.create_event_source_mapping(
            **{
                "EventSourceArn": mapped.stream.inner.arn,
                "FunctionName": mapped.function,
                "StartingPosition": "LATEST",
                **settings,
            }
        )
    assert message in str(caught.value)
