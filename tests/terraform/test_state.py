"""The state in a bucket: locked against a second deploy from another machine, told when wrong."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from fleetcast.errors import TargetError
from stack.deploy import AwsOptions
from stack.deploy.terraform import apply

if TYPE_CHECKING:
    from pathlib import Path

    from fleetcast.target import Target

pytestmark = [
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.terraform,
    pytest.mark.timeout(600),
]
OPTIONS = AwsOptions(state_bucket="our-states")
KEY = "fleetcast/small/terraform.tfstate"


def machine(folder: Path) -> Path:
    """A stack of one topic, in a folder as a machine has it."""
    stack = folder / "fleetcast-small"
    stack.mkdir(parents=True)
    written = {
        "terraform": {
            "required_providers": {"aws": {"source": "hashicorp/aws"}},
            "backend": {"local": {"path": "terraform.tfstate"}},
        },
        "provider": {"aws": [{"region": "us-east-1"}]},
        "resource": {"aws_sns_topic": {"topic": {"name": "topic-small"}}},
    }
    (stack / "cdk.tf.json").write_text(json.dumps(written))
    return stack


async def test_a_bucket_that_is_not_there_and_a_lock_that_another_holds_are_told_before_anything_is_done(
    target: Target, tmp_path: Path
) -> None:
    said: list[str] = []
    stack = machine(tmp_path)
    with pytest.raises(TargetError, match="the bucket of --state-bucket is not there: create it"):
        await apply(stack, tmp_path, target, OPTIONS, said.append)
    async with target.client("s3") as s3, target.client("sns") as sns:
        await s3.create_bucket(Bucket="our-states")
        lock = {"ID": "11111111-1111-1111-1111-111111111111", "Who": "someone@else", "Path": KEY}
        await s3.put_object(Bucket="our-states", Key=f"{KEY}.tflock", Body=json.dumps(lock))
        with pytest.raises(TargetError, match="somebody else deploys or destroys this") as caught:
            await apply(stack, tmp_path, target, OPTIONS, said.append)
        assert "11111111-1111-1111-1111-111111111111" in str(caught.value)
        assert "\n" not in str(caught.value)
        assert (await sns.list_topics())["Topics"] == []
