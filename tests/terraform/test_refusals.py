"""What Terraform is refused, told in a line: the bucket of the state, its lock, Timestream."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from fleetcast import cloudctl
from fleetcast.errors import TargetError
from fleetcast.target import Target
from stack.deploy import AwsOptions
from stack.deploy.access import check_timestream, client_as
from stack.deploy.terraform import apply

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

pytestmark = [
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.terraform,
    pytest.mark.timeout(600),
]
OPTIONS = AwsOptions(state_bucket="our-states")
KEY = "fleetcast/small/terraform.tfstate"


CLOSED = (
    "Only existing Timestream for LiveAnalytics customers can access the service. "
    "Reach out to AWS support, for more information."
)
TOPIC = {"aws_sns_topic": {"topic": {"name": "topic-small"}}}
DATABASE = {"aws_timestreamwrite_database": {"series": {"database_name": "series-small"}}}


def machine(folder: Path, resources: dict[str, Any] = TOPIC) -> Path:
    """A small stack, in a folder as a machine has it."""
    stack = folder / "fleetcast-small"
    stack.mkdir(parents=True)
    written = {
        "terraform": {
            "required_providers": {"aws": {"source": "hashicorp/aws"}},
            "backend": {"local": {"path": "terraform.tfstate"}},
        },
        "provider": {"aws": [{"region": "us-east-1"}]},
        "resource": resources,
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


@pytest.fixture
def closed(target: Target) -> Iterator[Callable[[str], None]]:
    """Closes operations of Timestream, as AWS does to accounts that are new."""
    port = int(str(target.endpoint_url).rpartition(":")[2])

    def close(operation: str) -> None:
        fault = {"service": "timestream-write", "operation": operation, "kind": "error"}
        told = {"code": "AccessDeniedException", "status": 403, "message": CLOSED}
        cloudctl.admin(port, "POST", "faults", {**fault, **told})

    yield close
    cloudctl.admin(port, "DELETE", "faults")


async def test_an_account_that_timestream_is_closed_to_is_told_before_anything_is_made(
    target: Target, tmp_path: Path, closed: Callable[[str], None]
) -> None:
    said: list[str] = []
    closed("*")
    stack = machine(tmp_path, {**TOPIC, **DATABASE})
    with pytest.raises(TargetError, match="is closed to accounts that did not use it") as caught:
        await apply(stack, tmp_path, target, AwsOptions(), said.append)
    assert "nothing was made" in str(caught.value)
    assert CLOSED in str(caught.value)
    assert said == []
    assert not (tmp_path / "terraform.tfstate").exists()


async def test_the_question_is_asked_as_the_role_that_terraform_assumes(
    target: Target, closed: Callable[[str], None]
) -> None:
    as_aws = Target("aws", target.region, target.endpoint_url)
    role = AwsOptions(role_arn="arn:aws:iam::123456789012:role/deployer", external_id="word")
    async with client_as(as_aws, role, "timestream-write") as client:
        acting = await client._request_signer._credentials.get_frozen_credentials()
    assert acting.token
    await check_timestream(as_aws, role)
    closed("ListDatabases")
    with pytest.raises(TargetError, match="is closed to accounts"):
        await check_timestream(as_aws, role)
