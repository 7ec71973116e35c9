"""The builtin engine on a real local cloud: what it refuses, changes, remembers and takes away."""

from __future__ import annotations

import asyncio
import fcntl
import json
from typing import TYPE_CHECKING, Any

import pytest
import pytest_asyncio

from fleetcast.errors import TargetError, UsageError
from fleetcast.home import deployment_dir
from fleetcast.target import Target
from localcloud.app import LocalCloud
from stack.config import StackConfig
from stack.deploy import deploy
from stack.deploy.builtin.apply import apply, changes, destroy

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

pytestmark = pytest.mark.asyncio(loop_scope="module")

SMALL = {
    "aws_sns_topic": {"topic": {"name": "topic-x"}},
    "aws_sqs_queue": {
        "first": {"name": "first-x", "message_retention_seconds": 600},
        "second": {"name": "second-x", "tags": {"after": "${aws_sqs_queue.first.name}"}},
    },
    "aws_kinesis_stream": {"stream": {"name": "stream-x", "shard_count": 1}},
}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def target() -> AsyncIterator[Target]:
    async with LocalCloud(port=0) as local:
        yield Target.named("local", port=local.port)


class Deployment:
    """A stack of a few resources, written as Terraform JSON."""

    def __init__(self, folder: Path, target: Target) -> None:
        self.folder, self.target = folder, target
        self.resources: dict[str, Any] = json.loads(json.dumps(SMALL))
        self.outputs: dict[str, Any] = {}
        self.data: dict[str, Any] = {}

    def write(self) -> None:
        written = {
            "resource": self.resources,
            "data": self.data,
            "output": {name: {"value": value} for name, value in self.outputs.items()},
        }
        (self.folder / "cdk.tf.json").write_text(json.dumps(written))

    async def plan(self) -> list[str]:
        """What an apply would do."""
        self.write()
        return await changes(self.folder, self.folder, self.target)

    async def apply(self) -> dict[str, str]:
        """Applies it; returns what was done by address."""
        self.write()
        said: list[str] = []
        self.values = await apply(self.folder, self.folder, self.target, said.append)
        words = [line.split(" ") for line in said]
        return {
            next(w for w in line if "." in w and w.startswith("aws_")): line[0] for line in words
        }

    async def destroy(self) -> list[str]:
        said: list[str] = []
        await destroy(self.folder, self.target, said.append)
        return said

    async def queues(self) -> list[str]:
        async with self.target.client("sqs") as sqs:
            urls = (await sqs.list_queues()).get("QueueUrls", [])
        return sorted(url.rpartition("/")[2] for url in urls)


@pytest_asyncio.fixture(loop_scope="module")
async def deployment(tmp_path: Path, target: Target) -> AsyncIterator[Deployment]:
    made = Deployment(tmp_path, target)
    yield made
    await made.destroy()


async def test_what_is_deployed_twice_stays_as_it_is(deployment: Deployment) -> None:
    first = await deployment.apply()
    assert set(first.values()) == {"created"}
    assert len(first) == 4
    assert set((await deployment.apply()).values()) == {"unchanged"}
    assert await deployment.queues() == ["first-x", "second-x"]


async def test_references_and_outputs_are_resolved(deployment: Deployment) -> None:
    deployment.data = {"aws_caller_identity": {"me": {}}}
    deployment.outputs = {
        "url": "${aws_sqs_queue.second.url}",
        "text": "$${not} ${data.aws_caller_identity.me.account_id}",
    }
    await deployment.apply()
    assert deployment.values["url"].endswith("/second-x")
    assert deployment.values["text"] == "${not} 123456789012"
    async with deployment.target.client("sqs") as sqs:
        tags = (await sqs.list_queue_tags(QueueUrl=deployment.values["url"]))["Tags"]
    assert tags == {"after": "first-x"}


async def test_a_changed_argument_is_updated_in_place_and_a_name_replaced(
    deployment: Deployment,
) -> None:
    await deployment.apply()
    deployment.resources["aws_kinesis_stream"]["stream"]["shard_count"] = 2
    deployment.resources["aws_sqs_queue"]["first"]["name"] = "other-x"
    done = await deployment.apply()
    assert done["aws_kinesis_stream.stream"] == "updated"
    assert done["aws_sqs_queue.first"] == "replaced"
    assert done["aws_sns_topic.topic"] == "unchanged"
    assert await deployment.queues() == ["other-x", "second-x"]
    async with deployment.target.client("kinesis") as kinesis:
        told = await kinesis.describe_stream_summary(StreamName="stream-x")
    assert told["StreamDescriptionSummary"]["OpenShardCount"] == 2


async def test_a_plan_tells_what_an_apply_would_do_and_does_nothing(
    deployment: Deployment,
) -> None:
    planned = await deployment.plan()
    assert sorted(planned) == [
        "create aws_kinesis_stream.stream",
        "create aws_sns_topic.topic",
        "create aws_sqs_queue.first",
        "create aws_sqs_queue.second",
    ]
    assert planned.index("create aws_sqs_queue.first") < planned.index(
        "create aws_sqs_queue.second"
    )
    assert await deployment.queues() == []
    await deployment.apply()
    assert await deployment.plan() == []
    deployment.resources["aws_kinesis_stream"]["stream"]["shard_count"] = 2
    deployment.resources["aws_sqs_queue"]["first"]["name"] = "other-x"
    del deployment.resources["aws_sns_topic"]
    assert sorted(await deployment.plan()) == [
        "delete aws_sns_topic.topic",
        "replace aws_sqs_queue.first (name)",
        "update aws_kinesis_stream.stream (shard_count)",
        "update aws_sqs_queue.second (tags)",
    ]
    assert await deployment.queues() == ["first-x", "second-x"]


async def test_what_is_no_longer_wanted_is_deleted(deployment: Deployment) -> None:
    await deployment.apply()
    del deployment.resources["aws_sqs_queue"]["second"]
    assert (await deployment.apply())["aws_sqs_queue.second"] == "deleted"
    assert await deployment.queues() == ["first-x"]


async def test_what_somebody_deleted_is_made_again(deployment: Deployment) -> None:
    await deployment.apply()
    async with deployment.target.client("sqs") as sqs:
        url = (await sqs.get_queue_url(QueueName="first-x"))["QueueUrl"]
        await sqs.delete_queue(QueueUrl=url)
    done = await deployment.apply()
    assert done["aws_sqs_queue.first"] == "created"
    assert await deployment.queues() == ["first-x", "second-x"]


async def test_destroy_leaves_nothing_and_needs_go_last(deployment: Deployment) -> None:
    await deployment.apply()
    said = await deployment.destroy()
    assert said.index("deleted aws_sqs_queue.second") < said.index("deleted aws_sqs_queue.first")
    assert await deployment.queues() == []
    assert await deployment.destroy() == []


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (
            lambda r: r.update(aws_dynamodb_table={"t": {"name": "t"}}),
            "does not know aws_dynamodb_table.t (type)",
        ),
        (
            lambda r: r["aws_sqs_queue"]["first"].update(fifo_queue=True),
            "does not know aws_sqs_queue.first.fifo_queue",
        ),
        (
            lambda r: r["aws_sqs_queue"]["first"].update(tags={"a": "${upper(x)}"}),
            "cannot read the expression ${upper(x)}",
        ),
        (
            lambda r: r["aws_sqs_queue"]["first"].update(tags={"a": "${aws_sqs_queue.none.arn}"}),
            "does not know aws_sqs_queue.first -> aws_sqs_queue.none",
        ),
    ],
)
async def test_what_it_does_not_know_is_refused_before_anything_is_touched(
    deployment: Deployment, change: Callable[[dict[str, Any]], None], text: str
) -> None:
    change(deployment.resources)
    with pytest.raises(UsageError) as caught:
        await deployment.apply()
    assert text in str(caught.value)
    assert "use --engine terraform" in str(caught.value)
    assert await deployment.queues() == []
    async with deployment.target.client("kinesis") as kinesis:
        assert (await kinesis.list_streams())["StreamNames"] == []


async def test_a_failure_keeps_what_was_done_and_the_next_apply_goes_on(
    deployment: Deployment,
) -> None:
    deployment.resources["aws_sqs_queue"]["second"]["depends_on"] = ["aws_kinesis_stream.stream"]
    async with deployment.target.client("kinesis") as kinesis:
        await kinesis.create_stream(StreamName="stream-x", ShardCount=1)
        with pytest.raises(TargetError, match=r"^aws_kinesis_stream\.stream: .*already exists"):
            await deployment.apply()
        assert await deployment.queues() == ["first-x"]
        await kinesis.delete_stream(StreamName="stream-x")
    done = await deployment.apply()
    assert done["aws_sqs_queue.first"] == "unchanged"
    assert done["aws_sqs_queue.second"] == "created"
    await deployment.destroy()
    assert await deployment.queues() == []


async def test_what_a_failed_apply_made_can_be_destroyed(deployment: Deployment) -> None:
    async with deployment.target.client("kinesis") as kinesis:
        await kinesis.create_stream(StreamName="stream-x", ShardCount=1)
        with pytest.raises(TargetError, match="already exists"):
            await deployment.apply()
        said = await deployment.destroy()
        assert "deleted aws_sqs_queue.first" in said
        assert await deployment.queues() == []
        # What was in the way is somebody else's, and stays.
        assert (await kinesis.list_streams())["StreamNames"] == ["stream-x"]
        await kinesis.delete_stream(StreamName="stream-x")


async def test_a_number_of_shards_that_kinesis_refuses_is_told_and_changes_nothing(
    deployment: Deployment,
) -> None:
    await deployment.apply()
    deployment.resources["aws_kinesis_stream"]["stream"]["shard_count"] = 5
    with pytest.raises(TargetError, match="takes twice as many or half as many") as told:
        await deployment.apply()
    assert "\n" not in str(told.value)
    async with deployment.target.client("kinesis") as kinesis:
        summary = await kinesis.describe_stream_summary(StreamName="stream-x")
    assert summary["StreamDescriptionSummary"]["OpenShardCount"] == 1
    deployment.resources["aws_kinesis_stream"]["stream"]["shard_count"] = 2
    assert (await deployment.apply())["aws_kinesis_stream.stream"] == "updated"


async def test_a_bucket_that_keeps_its_objects_is_not_destroyed_with_them(
    deployment: Deployment,
) -> None:
    deployment.resources = {"aws_s3_bucket": {"kept": {"bucket": "kept-x"}}}
    await deployment.apply()
    async with deployment.target.client("s3") as s3:
        await s3.put_object(Bucket="kept-x", Key="reading", Body=b"{}")
        with pytest.raises(TargetError, match="the archive still has readings, and this") as told:
            await deployment.destroy()
        assert str(told.value).startswith("deleting aws_s3_bucket.kept: ")
        assert (await s3.head_object(Bucket="kept-x", Key="reading"))["ContentLength"] == 2
        # As the line says: told to, the next deploy and destroy take them along.
        deployment.resources["aws_s3_bucket"]["kept"]["force_destroy"] = True
        await deployment.apply()
        await deployment.destroy()
        assert (await s3.list_buckets())["Buckets"] == []


async def test_the_state_is_for_its_owner_only(deployment: Deployment) -> None:
    await deployment.apply()
    state = deployment.folder / "builtin.state.json"
    assert state.stat().st_mode & 0o777 == 0o600


async def test_a_cloud_that_does_not_answer_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FLEETCAST_HOME", str(tmp_path))
    config = StackConfig.for_target("local", "dev")
    nowhere = Target.named("local", port=9)
    with pytest.raises(TargetError, match="no local cloud answers on http://127"):
        await deploy(config, nowhere, "builtin", progress=lambda _: None)


async def test_two_deploys_at_once_are_told_apart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, target: Target
) -> None:
    monkeypatch.setenv("FLEETCAST_HOME", str(tmp_path))
    folder = deployment_dir("local", "dev")
    folder.mkdir(parents=True)
    config = StackConfig.for_target("local", "dev")
    with (folder / "lock").open("w") as held:
        await asyncio.to_thread(fcntl.flock, held, fcntl.LOCK_EX)
        with pytest.raises(TargetError, match="is being deployed or destroyed by another process"):
            await deploy(config, target, "builtin", progress=lambda _: None)


async def test_an_environment_belongs_to_the_engine_that_deployed_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, target: Target
) -> None:
    monkeypatch.setenv("FLEETCAST_HOME", str(tmp_path))
    folder = deployment_dir("local", "dev")
    folder.mkdir(parents=True)
    (folder / "engine.json").write_text('{"engine": "terraform"}')
    config = StackConfig.for_target("local", "dev")
    with pytest.raises(UsageError, match="was deployed with engine terraform: use --engine"):
        await deploy(config, target, "builtin", progress=lambda _: None)
