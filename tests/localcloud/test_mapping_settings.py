from __future__ import annotations

import asyncio
import json
import time

import pytest

pytestmark = pytest.mark.asyncio(loop_scope="module")

REPORT = {"FunctionResponseTypes": ["ReportBatchItemFailures"]}


def flat(batches) -> list[str]:
    return [data for batch in batches for data in batch]


# Lanes


async def test_a_lane_goes_on_while_another_hangs(mapped_of, tmp_path, eventually):
    mapped = await mapped_of("hang")
    stuck = tmp_path / "seen.stuck"
    stuck.touch()
    # Of two keys that CRC-32 puts into different lanes.
    await mapped.stream.put(("a", b"stuck"), ("d", b"0"))
    await mapped.create(ParallelizationFactor=2, BatchSize=1)
    for n in range(1, 4):
        await mapped.stream.put(("d", str(n).encode()), ("a", b"later"))

    await eventually(lambda: mapped.seen_data() >= {"stuck", "0", "1", "2", "3"})

    assert "later" not in mapped.seen_data()
    assert mapped.status()["backlog"] == 8
    stuck.unlink()
    await eventually(lambda: mapped.status()["backlog"] == 0)
    assert flat(mapped.seen()).count("later") == 3
    assert flat(mapped.seen()).count("stuck") == 1


async def test_what_a_lane_had_not_finished_is_delivered_after_a_change(
    mapped_of, cloud, tmp_path, eventually
):
    mapped = await mapped_of("hang")
    client = await cloud.client("lambda")
    stuck = tmp_path / "seen.stuck"
    stuck.touch()
    await mapped.stream.put(("a", b"stuck"), ("d", b"x"), ("a", b"y"), ("d", b"z"))
    await mapped.create(ParallelizationFactor=2, BatchSize=1)
    await eventually(lambda: mapped.seen_data() >= {"stuck", "x", "z"})

    answer = await client.update_event_source_mapping(UUID=mapped.uuid, Enabled=False)
    assert answer["State"] == "Disabling"
    with pytest.raises(client.exceptions.ResourceInUseException):
        await client.update_event_source_mapping(UUID=mapped.uuid, BatchSize=2)
    stuck.unlink()
    await eventually(lambda: mapped.has_state("Disabled"))
    # The batch under way was finished; what came before the other lane's is done already.
    assert mapped.status()["backlog"] == 2
    await client.update_event_source_mapping(UUID=mapped.uuid, Enabled=True)
    await eventually(lambda: mapped.status()["backlog"] == 0)
    assert flat(mapped.seen()).count("stuck") == 1
    assert mapped.seen_data() == {"stuck", "x", "y", "z"}


# Batches


async def test_an_event_stays_below_six_megabytes(mapped_of, eventually):
    mapped = await mapped_of("lengths")
    # Seven of 980,000 bytes: base64 makes 1,306,667 of each, so that four fit.
    for _ in range(7):
        assert (await mapped.stream.put(("k", b"x" * 980_000)))["FailedRecordCount"] == 0
        mapped.stream.inner.shards[0].write_bytes.tokens = 1024 * 1024
    await mapped.create(BatchSize=100)

    assert await mapped.seen_when(2) == [[980_000] * 4, [980_000] * 3]


async def test_a_filter_passes_over_what_it_does_not_take(mapped_of, samples):
    mapped = await mapped_of("note")
    await mapped.put('{"a": 1}', "not JSON", '{"a": 2}', '{"a": 1, "b": 3}')
    pattern = json.dumps({"data": {"a": [1]}})
    await mapped.create(
        FilterCriteria={"Filters": [{"Pattern": pattern}]},
        MetricsConfig={"Metrics": ["EventCount"]},
    )

    assert await mapped.seen_when(1) == [['{"a": 1}', '{"a": 1, "b": 3}']]
    assert mapped.status()["filtered"] == 2
    where = {"EventSourceMappingUUID": mapped.uuid}
    assert await samples("AWS/Lambda", "PolledEventCount", **where) == 4
    assert await samples("AWS/Lambda", "FilteredOutEventCount", **where) == 2
    assert await samples("AWS/Lambda", "InvokedEventCount", **where) == 2


async def test_at_timestamp_begins_with_the_first_record_of_that_time(mapped_of, eventually):
    mapped = await mapped_of("note")
    await mapped.put("before")
    # Arrival times are whole milliseconds.
    last_ms = mapped.stream.inner.shards[0].records[-1].arrival_ms
    await eventually(lambda: time.time() * 1000 > last_ms + 2)
    at_s = time.time()
    await mapped.put("after")
    await mapped.create(StartingPosition="AT_TIMESTAMP", StartingPositionTimestamp=at_s)

    assert await mapped.seen_when(1) == [["after"]]


# Updates


async def test_every_setting_can_be_changed_while_the_mapping_runs(mapped_of, cloud, eventually):
    mapped = await mapped_of("note")
    client = await cloud.client("lambda")
    await mapped.create()
    changes = {
        "BatchSize": 2,
        "MaximumBatchingWindowInSeconds": 0,
        "ParallelizationFactor": 1,
        "MaximumRetryAttempts": 3,
        "MaximumRecordAgeInSeconds": 60,
        "BisectBatchOnFunctionError": True,
        "FunctionResponseTypes": ["ReportBatchItemFailures"],
        "FilterCriteria": {"Filters": [{"Pattern": '{"partitionKey": ["k"]}'}]},
        "MetricsConfig": {"Metrics": ["EventCount"]},
        "DestinationConfig": {"OnFailure": {"Destination": "arn:aws:sns:us-east-1:123456789012:t"}},
    }
    await client.update_event_source_mapping(UUID=mapped.uuid, **changes)
    await eventually(lambda: mapped.has_state("Enabled"))

    described = await client.get_event_source_mapping(UUID=mapped.uuid)
    assert {name: described[name] for name in changes} == changes
    await mapped.stream.put(*[("k", str(n).encode()) for n in range(4)], ("other", b"x"))
    assert await mapped.seen_when(2) == [["0", "1"], ["2", "3"]]
    await client.update_event_source_mapping(UUID=mapped.uuid, FilterCriteria={})
    assert "FilterCriteria" not in await client.get_event_source_mapping(UUID=mapped.uuid)


async def test_mappings_are_listed_in_pages(mapped_of, cloud, stream_of):
    mapped = await mapped_of("note")
    client = await cloud.client("lambda")
    await mapped.create(Enabled=False)
    kinesis = await cloud.client("kinesis")
    for n in range(2):
        other = f"{mapped.stream.name}-{n}"
        await kinesis.create_stream(StreamName=other, ShardCount=1)
        await client.create_event_source_mapping(
            EventSourceArn=mapped.stream.inner.arn + f"-{n}",
            FunctionName=mapped.function,
            StartingPosition="LATEST",
            Enabled=False,
        )

    pages = client.get_paginator("list_event_source_mappings").paginate(
        FunctionName=mapped.function, PaginationConfig={"PageSize": 2}
    )
    sizes = [len(page["EventSourceMappings"]) async for page in pages]

    assert sizes == [2, 1]


# Failures


async def test_a_partial_answer_splits_the_batch_where_it_says(mapped_of):
    mapped = await mapped_of("report")
    await mapped.put("a", "b", "bad", "c", "d")
    await mapped.create(
        BisectBatchOnFunctionError=True, MaximumRetryAttempts=0, failures=True, **REPORT
    )

    assert await mapped.seen_when(1) == [["a", "b", "bad", "c", "d"]]
    assert (await mapped.failure())["KinesisBatchInfo"]["batchSize"] == 3


async def test_throttles_do_not_count_as_attempts(mapped_of, cloud, eventually):
    mapped = await mapped_of("note")
    client = await cloud.client("lambda")
    await client.put_function_concurrency(
        FunctionName=mapped.function, ReservedConcurrentExecutions=0
    )
    await mapped.put("a")
    await mapped.create(MaximumRetryAttempts=0, failures=True)
    await eventually(lambda: "throttled" in mapped.status()["last_result"])
    await client.delete_function_concurrency(FunctionName=mapped.function)

    assert await mapped.seen_when(1) == [["a"]]
    assert mapped.status()["given_up"] == 0


async def test_records_that_the_stream_no_longer_holds_are_given_up(mapped_of, cloud, eventually):
    mapped = await mapped_of("raise")
    numbers = await mapped.put("bad")
    await mapped.create(failures=True)
    await mapped.seen_some()
    mapped.stream.inner.shards[0].trim(int(time.time() * 1000) + 60_000)

    told = await mapped.failure()

    assert told["requestContext"]["condition"] == "RecordAgeExceeded"
    assert told["KinesisBatchInfo"]["startSequenceNumber"] == numbers[0]


async def test_a_bucket_gets_the_whole_event_of_what_is_given_up(mapped_of, cloud, eventually):
    mapped = await mapped_of("raise")
    s3 = await cloud.client("s3")
    await s3.create_bucket(Bucket=mapped.function)
    (number,) = await mapped.put("bad")
    destination = {"OnFailure": {"Destination": f"arn:aws:s3:::{mapped.function}"}}
    await mapped.create(MaximumRetryAttempts=0, DestinationConfig=destination)

    async def keys() -> list[str]:
        listed = await s3.list_objects_v2(Bucket=mapped.function)
        return [entry["Key"] for entry in listed.get("Contents", [])]

    (key,) = await eventually(keys)
    got = await s3.get_object(Bucket=mapped.function, Key=key)
    told = json.loads(await got["Body"].read())
    assert key.startswith(f"aws/lambda/{mapped.uuid}/shardId-000000000000/20")
    assert told["requestContext"]["condition"] == "RetryAttemptsExhausted"
    (record,) = json.loads(told["payload"])["Records"]
    assert record["kinesis"]["sequenceNumber"] == number


async def test_a_topic_gets_the_document(mapped_of, cloud):
    mapped = await mapped_of("raise")
    sns, sqs = await cloud.client("sns"), await cloud.client("sqs")
    topic = (await sns.create_topic(Name=mapped.function))["TopicArn"]
    url = (await sqs.create_queue(QueueName=mapped.function))["QueueUrl"]
    got = await sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])
    await sns.subscribe(TopicArn=topic, Protocol="sqs", Endpoint=got["Attributes"]["QueueArn"])
    await mapped.put("bad")
    await mapped.create(
        MaximumRetryAttempts=0, DestinationConfig={"OnFailure": {"Destination": topic}}
    )

    message = await mapped.failure()

    assert json.loads(message["Message"])["KinesisBatchInfo"]["batchSize"] == 1


# Tumbling windows


async def test_a_tumbling_window_carries_its_state_and_ends(mapped_of, eventually):
    mapped = await mapped_of("sum")
    await mapped.put("1", "2", "3")
    await mapped.create(TumblingWindowInSeconds=1, BatchSize=2)
    (first,) = await mapped.finals_when(1)
    await mapped.put("4")
    (_, second) = await mapped.finals_when(2)

    assert (first["Records"], first["state"]["n"], second["state"]["n"]) == ([], 3, 1)
    assert first["isFinalInvokeForWindow"] is True
    assert first["isWindowTerminatedEarly"] is False
    assert first["shardId"] == "shardId-000000000000"
    assert first["window"]["start"] < first["window"]["end"] <= second["window"]["start"]
    assert mapped.status()["backlog"] == 0


async def test_a_window_whose_state_is_too_large_ends_early(mapped_of):
    mapped = await mapped_of("sum")
    await mapped.put(f"big {1024 * 1024}", "2")
    await mapped.create(TumblingWindowInSeconds=900, BatchSize=1)
    (early,) = await mapped.finals_when(1)
    # The end of the shard closes the window that went on.
    await mapped.stream.client.split_shard(
        StreamName=mapped.stream.name,
        ShardToSplit="shardId-000000000000",
        NewStartingHashKey=str(2**127),
    )
    _, last = await mapped.finals_when(2)

    assert (early["isWindowTerminatedEarly"], early["state"]["n"]) == (True, 1)
    assert (last["isWindowTerminatedEarly"], last["state"]["n"]) == (False, 1)
    assert early["window"] == last["window"]


async def test_the_state_of_a_window_outlives_a_pause(mapped_of, cloud, eventually):
    mapped = await mapped_of("sum")
    client = await cloud.client("lambda")
    await mapped.create(TumblingWindowInSeconds=900)
    await mapped.put("1")
    await mapped.seen_when(1)
    await client.update_event_source_mapping(UUID=mapped.uuid, Enabled=False)
    await eventually(lambda: mapped.has_state("Disabled"))
    (window,) = mapped.inner.checkpoints.windows.values()
    assert window.state["n"] == 1
    await client.update_event_source_mapping(UUID=mapped.uuid, Enabled=True)
    await mapped.put("2")
    await mapped.seen_when(2)

    (window,) = mapped.inner.checkpoints.windows.values()
    assert window.state["n"] == 2


async def test_a_new_mapping_with_old_checkpoints_goes_on_where_they_are(mapped_of, cloud):
    mapped = await mapped_of("note")
    await mapped.put("a")
    await mapped.create()
    await mapped.seen_when(1)
    old = mapped.inner
    await old.stop()
    await mapped.put("b")
    new = type(old)(
        old.context, old.streams, old.function, old.source, old.settings,
        checkpoints=type(old.checkpoints).from_json(old.checkpoints.to_json()),
    )  # fmt: skip
    new.begin()
    try:
        await asyncio.wait_for(mapped.seen_exactly([["a"], ["b"]]), 60)
    finally:
        await new.stop()
