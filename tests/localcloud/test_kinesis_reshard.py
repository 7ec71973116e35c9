from __future__ import annotations

import pytest
import pytest_asyncio

from localcloud.kinesis.shard import MAX_HASH_KEY

pytestmark = pytest.mark.asyncio(loop_scope="module")

HALF = 2**127


def shard_id(number: int) -> str:
    return f"shardId-{number:012d}"


@pytest_asyncio.fixture(loop_scope="module")
async def kinesis(cloud):
    return await cloud.client("kinesis")


@pytest.fixture
def shards_of(kinesis):
    async def shards(name: str, **more) -> list[dict]:
        return (await kinesis.list_shards(StreamName=name, **more))["Shards"]

    return shards


@pytest.fixture
def put(kinesis):
    async def one(name: str, hash_key: int, data: bytes) -> int:
        answer = await kinesis.put_record(
            StreamName=name, PartitionKey="k", ExplicitHashKey=str(hash_key), Data=data
        )
        return int(answer["ShardId"].rpartition("-")[2])

    return one


@pytest.fixture
def read_all(kinesis):
    """All records of a shard, its end, and the children told there."""

    async def read(name: str, number: int):
        iterator = (
            await kinesis.get_shard_iterator(
                StreamName=name, ShardId=shard_id(number), ShardIteratorType="TRIM_HORIZON"
            )
        )["ShardIterator"]
        answer = await kinesis.get_records(ShardIterator=iterator)
        data = [record["Data"] for record in answer["Records"]]
        return data, answer.get("NextShardIterator"), answer.get("ChildShards", [])

    return read


async def test_a_split_closes_the_parent_and_opens_two_children(
    kinesis, name, shards_of, put, read_all
):
    await kinesis.create_stream(StreamName=name, ShardCount=1)
    await put(name, HALF, b"before")
    await kinesis.split_shard(
        StreamName=name, ShardToSplit=shard_id(0), NewStartingHashKey=str(HALF)
    )

    assert [await put(name, key, b"after") for key in (0, HALF - 1, HALF)] == [1, 1, 2]
    parent, low, high = await shards_of(name)
    data, following, children = await read_all(name, 0)

    assert (data, following) == ([b"before"], None)
    assert [child["ShardId"] for child in children] == [shard_id(1), shard_id(2)]
    assert "EndingSequenceNumber" in parent["SequenceNumberRange"]
    assert "EndingSequenceNumber" not in low["SequenceNumberRange"]
    assert (low["ParentShardId"], high["ParentShardId"]) == (shard_id(0), shard_id(0))
    assert low["HashKeyRange"] == {"StartingHashKey": "0", "EndingHashKey": str(HALF - 1)}
    assert high["HashKeyRange"] == {
        "StartingHashKey": str(HALF),
        "EndingHashKey": str(MAX_HASH_KEY),
    }


async def test_a_merge_makes_one_shard_of_two_neighbours(kinesis, name, shards_of, put, read_all):
    await kinesis.create_stream(StreamName=name, ShardCount=2)
    await put(name, 0, b"low")
    await kinesis.merge_shards(
        StreamName=name, ShardToMerge=shard_id(1), AdjacentShardToMerge=shard_id(0)
    )

    assert [await put(name, key, b"x") for key in (0, MAX_HASH_KEY)] == [2, 2]
    (merged,) = await shards_of(name, ShardFilter={"Type": "AT_LATEST"})
    data, following, children = await read_all(name, 0)

    assert (merged["ParentShardId"], merged["AdjacentParentShardId"]) == (shard_id(1), shard_id(0))
    assert merged["HashKeyRange"]["EndingHashKey"] == str(MAX_HASH_KEY)
    assert (data, following) == ([b"low"], None)
    assert children[0]["ShardId"] == shard_id(2)
    assert sorted(children[0]["ParentShards"]) == [shard_id(0), shard_id(1)]


async def test_shards_that_are_closed_or_not_adjacent_are_not_changed(kinesis, name):
    await kinesis.create_stream(StreamName=name, ShardCount=3)
    errors = kinesis.exceptions

    with pytest.raises(errors.InvalidArgumentException, match="not adjacent"):
        await kinesis.merge_shards(
            StreamName=name, ShardToMerge=shard_id(0), AdjacentShardToMerge=shard_id(2)
        )
    with pytest.raises(errors.InvalidArgumentException, match="not inside the range"):
        await kinesis.split_shard(
            StreamName=name, ShardToSplit=shard_id(0), NewStartingHashKey=str(MAX_HASH_KEY)
        )
    await kinesis.split_shard(StreamName=name, ShardToSplit=shard_id(0), NewStartingHashKey="9")
    with pytest.raises(errors.ResourceInUseException, match="is closed"):
        await kinesis.split_shard(StreamName=name, ShardToSplit=shard_id(0), NewStartingHashKey="8")


async def test_update_shard_count_at_most_doubles_and_at_least_halves(kinesis, name, shards_of):
    await kinesis.create_stream(StreamName=name, ShardCount=2)

    async def update(target: int) -> None:
        await kinesis.update_shard_count(
            StreamName=name, TargetShardCount=target, ScalingType="UNIFORM_SCALING"
        )

    with pytest.raises(kinesis.exceptions.InvalidArgumentException, match="from 2 to 5"):
        await update(5)
    await update(4)
    summary = (await kinesis.describe_stream_summary(StreamName=name))["StreamDescriptionSummary"]

    assert summary["OpenShardCount"] == 4
    assert len(await shards_of(name)) == 6
    with pytest.raises(kinesis.exceptions.InvalidArgumentException, match="from 4 to 1"):
        await update(1)


async def test_streams_are_made_listed_tagged_encrypted_and_deleted(kinesis, name):
    await kinesis.create_stream(StreamName=name, ShardCount=1, Tags={"team": "fleet"})
    with pytest.raises(kinesis.exceptions.ResourceInUseException):
        await kinesis.create_stream(StreamName=name, ShardCount=1)
    await kinesis.start_stream_encryption(
        StreamName=name, EncryptionType="KMS", KeyId="alias/aws/kinesis"
    )
    described = (await kinesis.describe_stream(StreamName=name))["StreamDescription"]
    tags = (await kinesis.list_tags_for_stream(StreamName=name))["Tags"]

    assert described["StreamARN"] == f"arn:aws:kinesis:us-east-1:123456789012:stream/{name}"
    assert (described["StreamStatus"], described["RetentionPeriodHours"]) == ("ACTIVE", 24)
    assert (described["EncryptionType"], described["KeyId"]) == ("KMS", "alias/aws/kinesis")
    assert tags == [{"Key": "team", "Value": "fleet"}]
    assert name in (await kinesis.list_streams())["StreamNames"]
    await kinesis.delete_stream(StreamName=name)
    with pytest.raises(kinesis.exceptions.ResourceNotFoundException):
        await kinesis.describe_stream(StreamName=name)


async def test_an_on_demand_stream_has_four_shards(kinesis, name, shards_of):
    await kinesis.create_stream(StreamName=name, StreamModeDetails={"StreamMode": "ON_DEMAND"})

    assert len(await shards_of(name)) == 4
