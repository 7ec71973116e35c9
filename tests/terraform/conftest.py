"""One local cloud, and two environments that real Terraform deploys to it side by side."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest
import pytest_asyncio

from fleetcast import cloudctl
from fleetcast.errors import TargetError
from fleetcast.home import deployment_dir
from fleetcast.target import Target
from stack.config import StackConfig
from stack.deploy import AwsOptions, changes, deploy, destroy
from stack.names import Names

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path

    from stack.outputs import StackOutputs


STATES = "our-states"


def _why_not() -> str:
    """Why the real provider cannot be had here; empty where it can."""
    if shutil.which("terraform") is None:
        return "terraform is not installed"
    if not os.environ.get("TF_CLI_CONFIG_FILE") and not os.environ.get("FLEETCAST_TEST_TERRAFORM"):
        return (
            "no Terraform CLI configuration with a provider mirror (TF_CLI_CONFIG_FILE); "
            "set FLEETCAST_TEST_TERRAFORM=1 to download the provider"
        )
    return ""


@pytest.fixture(scope="module")
def target(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Target]:
    """A local cloud in a process of its own; its state folder is this module's."""
    reason = _why_not()
    if reason:
        pytest.skip(reason)
    folder: Path = tmp_path_factory.mktemp("terraform")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FLEETCAST_HOME", str(folder))
        with cloudctl.running(cloudctl.free_port()) as cloud:
            yield Target.named("local", port=cloud.port)


@dataclass
class Environment:
    """An environment that Terraform was told to deploy."""

    config: StackConfig
    target: Target
    options: AwsOptions
    said: list[str] = field(default_factory=list)
    outputs: StackOutputs | None = None
    failure: TargetError | None = None

    async def state(self) -> dict[str, Any]:
        """Terraform's state, from where it keeps it."""
        name, bucket = self.config.environment, self.options.state_bucket
        if bucket is None:
            path = deployment_dir("local", name) / "terraform.tfstate"
            return json.loads(await asyncio.to_thread(path.read_text))
        async with self.target.client("s3") as s3:
            told = await s3.get_object(Bucket=bucket, Key=self.options.state_key(name))
            return json.loads(await told["Body"].read())

    async def deploy(self) -> None:
        self.failure = None
        try:
            self.outputs = await deploy(
                self.config,
                self.target,
                "terraform",
                progress=self.said.append,
                options=self.options,
            )
        except TargetError as failure:
            self.failure = failure

    async def changes(self) -> list[str]:
        """What another deploy would do."""
        return await changes(self.config, self.target, "terraform", options=self.options)

    async def destroy(self) -> None:
        await destroy(
            self.config,
            self.target,
            "terraform",
            progress=self.said.append,
            options=self.options,
        )


@dataclass
class Environments:
    """The one is deployed. The other's first apply failed half-way: a log group was in its way.

    The state of the one is a file, that of the other is in a bucket.
    """

    one: Environment
    two: Environment
    in_the_way: str


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def environments(target: Target) -> AsyncIterator[Environments]:
    """Both applied at the same time, since most of it is waiting."""

    def environment(name: str, options: AwsOptions, **settings: Any) -> Environment:
        config = StackConfig.for_target("local", name, region=target.region, **settings)
        return Environment(config, target, options)

    # Logging is a setting of the account: no two environments can have it.
    one = environment("one", AwsOptions(), iot_log_level="ERROR")
    two = environment("two", AwsOptions(state_bucket=STATES))
    in_the_way = f"/aws/lambda/{Names('two').function}"
    async with target.client("logs") as logs:
        await logs.create_log_group(logGroupName=in_the_way)
    async with target.client("s3") as s3:
        await s3.create_bucket(Bucket=STATES)
    await asyncio.gather(one.deploy(), two.deploy())
    yield Environments(one, two, in_the_way)
