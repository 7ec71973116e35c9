"""The real Terraform with the real provider: the whole stack onto the local cloud, and off again."""

from __future__ import annotations

import json
import os
import shutil
from typing import TYPE_CHECKING

import pytest

from fleetcast import cloudctl
from fleetcast.home import deployment_dir
from fleetcast.target import Target
from stack.config import StackConfig
from stack.deploy import deploy, destroy
from stack.deploy.terraform import changes, validate
from stack.synth import synthesize

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = [
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.terraform,
    pytest.mark.timeout(900),
]


def _why_not() -> str:
    """Why the real provider cannot be had here; empty where it can."""
    binary = shutil.which("terraform")
    if binary is None:
        return "terraform is not installed"
    if not os.environ.get("TF_CLI_CONFIG_FILE") and not os.environ.get("FLEETCAST_TEST_TERRAFORM"):
        return (
            "no Terraform CLI configuration with a provider mirror (TF_CLI_CONFIG_FILE); "
            "set FLEETCAST_TEST_TERRAFORM=1 to download the provider"
        )
    return ""


@pytest.fixture(scope="module")
def target(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Target]:
    reason = _why_not()
    if reason:
        pytest.skip(reason)
    folder: Path = tmp_path_factory.mktemp("terraform")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FLEETCAST_HOME", str(folder))
        with cloudctl.running(cloudctl.free_port()) as cloud:
            yield Target.named("local", port=cloud.port)


@pytest.mark.usefixtures("target")
async def test_the_provider_finds_nothing_wrong_with_the_stack_and_something_with_a_worse_one(
    tmp_path: Path,
) -> None:
    folder = synthesize(StackConfig.for_target("aws", "tf"), tmp_path)
    assert await validate(folder) == []
    written = json.loads((folder / "cdk.tf.json").read_text())
    written["resource"]["aws_kinesis_stream"]["ingest"]["shard_cout"] = 1
    (folder / "cdk.tf.json").write_text(json.dumps(written))
    (found,) = await validate(folder)
    assert "shard_cout" in str(found)


async def test_the_whole_stack_applies_then_plans_no_change_then_is_destroyed(
    target: Target,
) -> None:
    config = StackConfig.for_target("local", "tf", region=target.region)
    said: list[str] = []
    outputs = await deploy(config, target, "terraform", progress=said.append)
    folder = deployment_dir("local", "tf")
    created = [line for line in said if line.startswith("created ")]
    assert len(created) > 50
    assert outputs.stream_name == "fleetcast-ingest-tf"
    assert outputs.probe_queue_url.startswith("http://127.0.0.1:")

    synthesized = folder / "synth" / "stacks" / "fleetcast-tf"
    assert await changes(synthesized, folder, target) == []

    async with target.client("kinesis") as kinesis:
        told = await kinesis.describe_stream_summary(StreamName=outputs.stream_name)
        assert told["StreamDescriptionSummary"]["OpenShardCount"] == 10

    await destroy(config, target, "terraform", progress=said.append)
    state = json.loads((folder / "terraform.tfstate").read_text())
    assert state["resources"] == []
    async with target.client("kinesis") as kinesis:
        assert (await kinesis.list_streams())["StreamNames"] == []
    async with target.client("s3") as s3:
        assert (await s3.list_buckets())["Buckets"] == []
    async with target.client("lambda") as functions:
        assert (await functions.list_functions())["Functions"] == []
