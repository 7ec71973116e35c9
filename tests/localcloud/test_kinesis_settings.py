from __future__ import annotations

import datetime as dt
import json

import pytest

pytestmark = pytest.mark.asyncio(loop_scope="module")

HALF = 2**127
DAY_S = 86_400


def ids(shards: list[dict]) -> list[int]:
    return [int(shard["ShardId"][-3:]) for shard in shards]


# Which shards there were


@pytest.fixture
def aged(stream_of):
    """A shard that was split two days after its stream was made, of a stream kept for a week."""

    async def make():
        stream = await stream_of()
        await stream.client.increase_stream_retention_period(
            StreamName=stream.name, RetentionPeriodHours=168
        )
        stream.inner.created_s -= 4 * DAY_S
        stream.inner.shards[0].created_ms -= 4 * DAY_S * 1000
        stream.shift_clock(-2 * DAY_S)
        await stream.client.split_shard(
            StreamName=stream.name,
            ShardToSplit="shardId-000000000000",
            NewStartingHashKey=str(HALF),
        )
        stream.shift_clock(0)
        return stream

    return make


@pytest.mark.parametrize(
    ("shard_filter", "expected"),
    [
        ({"Type": "FROM_TRIM_HORIZON"}, [0, 1, 2]),
        ({"Type": "AT_TRIM_HORIZON"}, [0]),
        ({"Type": "AT_LATEST"}, [1, 2]),
        ({"Type": "AFTER_SHARD_ID", "ShardId": "shardId-000000000001"}, [2]),
        ({"Type": "AT_TIMESTAMP", "days": 3}, [0]),
        ({"Type": "AT_TIMESTAMP", "days": 1}, [1, 2]),
        ({"Type": "FROM_TIMESTAMP", "days": 3}, [0, 1, 2]),
        ({"Type": "FROM_TIMESTAMP", "days": 1}, [1, 2]),
        ({"Type": "FROM_TIMESTAMP", "days": 30}, [0, 1, 2]),
    ],
)
async def test_a_shard_filter_lets_through_what_its_type_says(aged, shard_filter, expected):
    stream, wanted = await aged(), dict(shard_filter)
    if "days" in wanted:
        wanted["Timestamp"] = dt.datetime.now(dt.UTC) - dt.timedelta(days=wanted.pop("days"))

    answer = await stream.client.list_shards(StreamName=stream.name, ShardFilter=wanted)

    assert ids(answer["Shards"]) == expected


async def test_a_closed_shard_is_listed_until_its_records_have_expired(aged):
    stream = await aged()
    stream.shift_clock(5.1 * DAY_S)
    stream.inner.trim()

    assert ids((await stream.client.list_shards(StreamName=stream.name))["Shards"]) == [1, 2]


async def test_a_filter_without_what_it_needs_is_refused(aged):
    stream = await aged()
    refused = stream.client.exceptions.InvalidArgumentException
    tomorrow = dt.datetime.now(dt.UTC) + dt.timedelta(days=1)
    for wanted, message in (
        ({"Type": "AFTER_SHARD_ID"}, "ShardId is required"),
        ({"Type": "AT_TIMESTAMP"}, "Timestamp is required"),
        ({"Type": "FROM_TIMESTAMP", "Timestamp": tomorrow}, "cannot be greater"),
    ):
        with pytest.raises(refused, match=message):
            await stream.client.list_shards(StreamName=stream.name, ShardFilter=wanted)


async def test_shards_are_listed_in_pages_by_tokens_that_expire(stream_of, cloud, monkeypatch):
    stream = await stream_of(5)
    list_shards = stream.client.list_shards
    first = await list_shards(StreamName=stream.name, MaxResults=2)
    second = await list_shards(NextToken=first["NextToken"], MaxResults=2)
    third = await list_shards(NextToken=second["NextToken"])

    assert [ids(page["Shards"]) for page in (first, second, third)] == [[0, 1], [2, 3], [4]]
    with pytest.raises(stream.client.exceptions.InvalidArgumentException, match="together"):
        await list_shards(StreamName=stream.name, NextToken=first["NextToken"])
    clock = cloud.service("kinesis")._control.clock
    now_s = clock.epoch_s()
    monkeypatch.setattr(clock, "epoch_s", lambda: now_s + 301)
    with pytest.raises(stream.client.exceptions.ExpiredNextTokenException):
        await list_shards(NextToken=first["NextToken"])


# UpdateShardCount


async def test_a_shard_count_is_reached_by_splits_and_merges(stream_of):
    stream = await stream_of(2)

    async def update(count: int) -> None:
        await stream.client.update_shard_count(
            StreamName=stream.name, TargetShardCount=count, ScalingType="UNIFORM_SCALING"
        )

    await update(3)
    shards = (await stream.client.list_shards(StreamName=stream.name))["Shards"]
    third = 2**128 // 3

    # Each half is split at a third; the two parts between the thirds become one.
    assert ids(shards) == [0, 1, 2, 3, 4, 5, 6]
    assert [s.get("ParentShardId", "")[-1:] for s in shards] == ["", "", "0", "0", "1", "1", "3"]
    assert shards[6]["AdjacentParentShardId"] == "shardId-000000000004"
    assert [(s.start_hash, s.end_hash + 1) for s in stream.inner.open_shards] == [
        (0, third), (third, 2 * third), (2 * third, 2**128)
    ]  # fmt: skip
    await update(6)
    assert len(stream.inner.shards) == 7 + 6


async def test_a_stream_is_scaled_ten_times_a_day(stream_of):
    stream = await stream_of(2)

    async def update(count: int) -> None:
        await stream.client.update_shard_count(
            StreamName=stream.name, TargetShardCount=count, ScalingType="UNIFORM_SCALING"
        )

    for count in [3, 2] * 5:
        await update(count)
    with pytest.raises(stream.client.exceptions.LimitExceededException, match="10 times"):
        await update(3)
    stream.shift_clock(DAY_S + 1)
    await update(3)


async def test_an_account_has_five_hundred_shards(cloud, stream_of, name):
    stream = await stream_of(4)
    limits = await stream.client.describe_limits()
    left = limits["ShardLimit"] - limits["OpenShardCount"]

    with pytest.raises(stream.client.exceptions.LimitExceededException, match="Limit: 500"):
        await stream.client.create_stream(StreamName=f"{name}-2", ShardCount=left + 1)


# Encryption


@pytest.fixture
def encrypt(stream_of):
    async def with_key(key_id: str):
        stream = await stream_of()
        await stream.client.start_stream_encryption(
            StreamName=stream.name, EncryptionType="KMS", KeyId=key_id
        )
        return stream

    return with_key


@pytest.mark.parametrize("form", ["KeyId", "Arn", "alias", "alias ARN"])
async def test_a_key_is_named_in_four_forms(cloud, encrypt, name, form):
    kms = await cloud.client("kms")
    key = (await kms.create_key())["KeyMetadata"]
    await kms.create_alias(AliasName=f"alias/{name}", TargetKeyId=key["KeyId"])
    forms = {
        **key,
        "alias": f"alias/{name}",
        "alias ARN": f"arn:aws:kms:us-east-1:123456789012:alias/{name}",
    }

    stream = await encrypt(forms[form])

    told = (await stream.client.describe_stream(StreamName=stream.name))["StreamDescription"]
    assert (told["EncryptionType"], told["KeyId"]) == ("KMS", forms[form])


async def test_a_record_tells_the_encryption_that_it_was_put_under(encrypt):
    stream = await encrypt("alias/aws/kinesis")
    put = await stream.put(("k", b"secret"))
    await stream.client.stop_stream_encryption(
        StreamName=stream.name, EncryptionType="KMS", KeyId="alias/aws/kinesis"
    )
    await stream.put(("k", b"open"))

    got = await stream.client.get_records(ShardIterator=await stream.iterator("TRIM_HORIZON"))

    assert put["EncryptionType"] == "KMS"
    assert [record["EncryptionType"] for record in got["Records"]] == ["KMS", "NONE"]


async def test_a_key_of_no_known_form_is_refused(cloud, encrypt):
    kinesis = await cloud.client("kinesis")
    with pytest.raises(kinesis.exceptions.InvalidArgumentException, match="no key id"):
        await encrypt("my key")


@pytest.mark.parametrize("state", ["missing", "disabled"])
async def test_a_key_that_cannot_encrypt_is_refused(cloud, encrypt, state):
    kms, kinesis = await cloud.client("kms"), await cloud.client("kinesis")
    key_id = "00000000-0000-0000-0000-000000000000"
    error = kinesis.exceptions.KMSNotFoundException
    if state == "disabled":
        key_id = (await kms.create_key())["KeyMetadata"]["KeyId"]
        await kms.disable_key(KeyId=key_id)
        error = kinesis.exceptions.KMSDisabledException

    with pytest.raises(error):
        await encrypt(key_id)


# Tags and policies


async def test_tags_have_limits(stream_of):
    stream = await stream_of()
    refused = stream.client.exceptions.InvalidArgumentException

    async def tag(tags: dict[str, str]) -> None:
        await stream.client.add_tags_to_stream(StreamName=stream.name, Tags=tags)

    await tag({f"k{n:02d}": str(n) for n in range(50)})
    for tags, message in (
        ({"one more": "x"}, "at most 50"),
        ({"aws:mine": "x"}, "reserved"),
        ({"k*": "x"}, "not allowed"),
        ({"k00": "x!"}, "not allowed"),
    ):
        with pytest.raises(refused, match=message):
            await tag(tags)
    page = await stream.client.list_tags_for_stream(
        StreamName=stream.name, Limit=2, ExclusiveStartTagKey="k10"
    )
    assert [tag["Key"] for tag in page["Tags"]] == ["k11", "k12"]
    assert page["HasMoreTags"] is True
    await stream.client.remove_tags_from_stream(StreamName=stream.name, TagKeys=["k00", "none"])
    assert "k00" not in stream.inner.tags


async def test_a_policy_is_kept_for_a_stream_and_for_a_consumer(stream_of):
    stream = await stream_of()
    client = stream.client
    made = await client.register_stream_consumer(StreamARN=stream.inner.arn, ConsumerName="c")
    policy = json.dumps({"Version": "2012-10-17", "Statement": [{"Effect": "Allow"}]})

    for arn in (stream.inner.arn, made["Consumer"]["ConsumerARN"]):
        with pytest.raises(client.exceptions.ResourceNotFoundException, match="No resource policy"):
            await client.get_resource_policy(ResourceARN=arn)
        await client.put_resource_policy(ResourceARN=arn, Policy=policy)
        assert (await client.get_resource_policy(ResourceARN=arn))["Policy"] == policy
        await client.delete_resource_policy(ResourceARN=arn)
        with pytest.raises(client.exceptions.ResourceNotFoundException):
            await client.get_resource_policy(ResourceARN=arn)
    with pytest.raises(client.exceptions.InvalidArgumentException, match="not JSON"):
        await client.put_resource_policy(ResourceARN=stream.inner.arn, Policy="{")


# What a request may ask


async def test_a_dry_run_tells_what_would_happen_and_does_nothing(stream_of):
    stream = await stream_of()
    would = pytest.raises(stream.client.exceptions.DryRunOperationException)

    with would:
        await stream.client.put_record(
            StreamName=stream.name, PartitionKey="k", Data=b"x", DryRun=True
        )
    with would:
        await stream.client.put_records(
            StreamName=stream.name, Records=[{"PartitionKey": "k", "Data": b"x"}], DryRun=True
        )
    with would:
        await stream.iterator("LATEST", DryRun=True)
    with pytest.raises(stream.client.exceptions.ResourceNotFoundException):
        await stream.client.put_record(
            StreamName="nothing", PartitionKey="k", Data=b"x", DryRun=True
        )
    assert stream.inner.shards[0].end_position == 0


async def test_an_arn_and_a_name_must_be_of_one_stream(stream_of):
    stream = await stream_of()
    with pytest.raises(stream.client.exceptions.InvalidArgumentException, match="different"):
        await stream.client.describe_stream_summary(
            StreamARN=stream.inner.arn, StreamName=f"{stream.name}-2"
        )


async def test_operations_that_are_not_served_are_refused_by_name(cloud, code_of):
    client = await cloud.client("kinesis")
    with pytest.raises(client.exceptions.ClientError, match="ListChannels is not served") as told:
        await client.list_channels()
    assert code_of(told.value) == "UnsupportedOperationException"


async def test_every_operation_of_the_model_is_served_or_refused_by_name(cloud):
    client, service = await cloud.client("kinesis"), cloud.service("kinesis")
    served = {*service._operations, "PutRecords", "SubscribeToShard"}
    unserved = {name for name in client.meta.service_model.operation_names if name not in served}

    assert unserved == {
        "CreateChannel", "DeleteChannel", "DescribeChannel", "ListChannels", "UpdateChannel"
    }  # fmt: skip
