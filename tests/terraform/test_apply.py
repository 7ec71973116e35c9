"""The real Terraform with the real provider: whole stacks onto the local cloud, and off again.

These tests are a story in the order in which they stand: an apply takes a minute, so they share it.
"""

from __future__ import annotations

import asyncio
import dataclasses
import json
import shutil
from typing import TYPE_CHECKING, Any

import pytest

from fleetcast import cloudctl
from fleetcast.home import deployment_dir
from fleetcast.target import Target
from stack.config import StackConfig
from stack.deploy import changes, deploy
from stack.deploy.builtin.types import TYPES
from stack.deploy.terraform import validate
from stack.synth import synthesize
from tests.stack.settings import CHANGES, DASHBOARD, TAGS, all_changed
from tests.terraform.conftest import STATES
from tests.terraform.reads import Account, differences

if TYPE_CHECKING:
    from pathlib import Path

    from tests.terraform.conftest import Environment, Environments

pytestmark = [
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.terraform,
    pytest.mark.timeout(900),
]
# The provider waits a minute for a lifecycle rule to settle; the rest of an update takes seconds.
SLOW = {"archive_infrequent_after_days", "archive_expire_after_days"}


@pytest.mark.usefixtures("target")
async def test_the_provider_finds_nothing_wrong_with_the_stack_and_something_with_a_worse_one(
    tmp_path: Path,
) -> None:
    folder = synthesize(StackConfig.for_target("aws", "tf"), tmp_path)
    worse = tmp_path / "worse"
    shutil.copytree(folder, worse)
    written = json.loads((worse / "cdk.tf.json").read_text())
    written["resource"]["aws_kinesis_stream"]["ingest"]["shard_cout"] = 1
    (worse / "cdk.tf.json").write_text(json.dumps(written))
    nothing, (found,) = await asyncio.gather(validate(folder), validate(worse))
    assert nothing == []
    assert "shard_cout" in str(found)


async def test_the_whole_stack_is_applied_and_only_its_owner_reads_its_state(
    environments: Environments,
) -> None:
    one = environments.one
    assert one.failure is None
    assert len([line for line in one.said if line.startswith("created ")]) > 50
    assert one.outputs is not None
    assert one.outputs.stream_name == "fleetcast-ingest-one"
    assert one.outputs.probe_queue_url.startswith("http://127.0.0.1:")
    folder = deployment_dir("local", "one")
    assert (folder / "terraform.tfstate").stat().st_mode & 0o077 == 0


async def test_both_engines_leave_the_same_behind_and_plan_the_same_changes(
    environments: Environments, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = environments.one
    changed = StackConfig.for_target(
        "local", "one", **all_changed(), tags=TAGS, iot_log_level=one.config.iot_log_level
    )
    planned = await changes(changed, one.target, "terraform")
    async with Account(one.target) as account:
        after_terraform = await account.everything("one")
    monkeypatch.setenv("FLEETCAST_HOME", str(tmp_path))
    with cloudctl.running(cloudctl.free_port()) as cloud:
        target = Target.named("local", port=cloud.port)
        outputs = await deploy(one.config, target, "builtin", progress=lambda _: None)
        async with Account(target) as account:
            after_builtin = await account.everything("one")
        planned_by_builtin = await changes(changed, target, "builtin")
    assert len(after_terraform) > 160
    assert differences(after_terraform, after_builtin) == []
    assert one.outputs is not None
    own = {name for name in dataclasses.asdict(outputs) if name.endswith(("_arn", "_url"))}
    assert differences(_without(one.outputs, own), _without(outputs, own)) == []

    assert sorted(planned) == sorted(planned_by_builtin)
    updated = {change for line in planned for change in _updated(line)}
    expected = set().union(*(where for _, where in CHANGES.values()))
    tagged = {(where, what) for where, what in updated if what == "tags"}
    assert updated - tagged == expected | {(DASHBOARD, "dashboard_body")}
    created = {line.split()[1] for line in one.said if line.startswith("created ")}
    assert {where for where, _ in tagged} == {
        address for address in created if TYPES[address.split(".")[0]].taggable
    }


def _without(outputs: Any, names: set[str]) -> dict[str, Any]:
    return {k: v for k, v in dataclasses.asdict(outputs).items() if k not in names}


def _updated(line: str) -> list[tuple[str, str]]:
    """(address, argument) of what a line of a plan says is updated in place."""
    action, address, arguments = line.split(" ", 2)
    assert action == "update", line
    return [(address, argument) for argument in arguments.strip("()").split(", ")]


async def test_environments_side_by_side_share_no_name(environments: Environments) -> None:
    async with Account(environments.one.target) as account:
        both = await account.names()
    of = {
        suffix: {
            f"{listed} {name}"
            for listed, names in both.items()
            for name in names
            if suffix in name.split("-")
        }
        for suffix in ("one", "two")
    }
    # The failed apply lacks the function, and what Terraform did not get to.
    assert len(of["one"]) > len(of["two"]) > 30
    assert {name.replace("two", "one") for name in of["two"]} <= of["one"]
    assert of["one"] & of["two"] == set()


async def planned_then_destroyed(environment: Environment) -> list[str]:
    """What a plan says of an environment that was applied as it is; it is destroyed then."""
    planned = await environment.changes()
    await environment.destroy()
    return planned


async def test_an_apply_that_failed_half_way_is_completed_by_the_next_and_destroying_one_leaves_two(
    environments: Environments,
) -> None:
    one, two = environments.one, environments.two
    assert "aws_cloudwatch_log_group.processor-logs" in str(two.failure)
    assert "already exists" in str(two.failure)
    assert "\n" not in str(two.failure)
    kept = {resource["name"] for resource in (await two.state())["resources"]}
    assert len(kept) > 40
    assert "processor-logs" not in kept

    async with two.target.client("logs") as logs:
        await logs.delete_log_group(logGroupName=environments.in_the_way)
    # It is changed at the same time: every update that was planned is one that can be applied.
    settings = {name: value for name, value in all_changed().items() if name not in SLOW}
    two.config = StackConfig.for_target("local", "two", **settings, tags=TAGS)
    two.said.clear()
    _, left_to_do = await asyncio.gather(two.deploy(), planned_then_destroyed(one))
    assert left_to_do == []
    assert two.failure is None
    assert not [line for line in two.said if line.startswith("deleted ")]
    assert any(line.startswith("updated aws_kinesis_stream.ingest ") for line in two.said)
    async with two.target.client("kinesis") as kinesis:
        told = await kinesis.describe_stream_summary(StreamName="fleetcast-ingest-two")
    assert told["StreamDescriptionSummary"]["OpenShardCount"] == 12
    assert await two.changes() == []


async def test_destroy_from_another_machine_leaves_nothing_behind_in_any_service(
    environments: Environments, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, two = environments.one, environments.two
    assert (await one.state())["resources"] == []
    async with Account(two.target) as account:
        assert sum(map(len, (await account.names()).values())) > 35
        # It knows of the environment what its state in the bucket says.
        monkeypatch.setenv("FLEETCAST_HOME", str(tmp_path))
        await two.destroy()
        assert (await two.state())["resources"] == []
        left = {listed: names for listed, names in (await account.names()).items() if names}
        assert left == {"s3 list_buckets": [STATES]}
    assert not (deployment_dir("local", "two") / "engine.json").exists()
