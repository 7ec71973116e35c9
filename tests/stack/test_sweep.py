"""The sweeper on a real local cloud: what it finds by name alone, deletes, and leaves alone."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest
import pytest_asyncio
from botocore.exceptions import ClientError

from fleetcast.errors import TargetError, UsageError
from fleetcast.target import Target
from localcloud.app import LocalCloud
from stack.config import StackConfig
from stack.deploy import deploy
from stack.deploy.builtin.apply import open_clients
from stack.deploy.builtin.types import TYPES
from stack.deploy.leftovers import LISTINGS, find_leftovers
from stack.deploy.sweep import sweep
from tests.terraform.reads import Account

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

pytestmark = pytest.mark.asyncio(loop_scope="module")
DAY = timedelta(hours=24)
DENY = json.dumps(
    {"Version": "2012-10-17", "Statement": {"Effect": "Deny", "Action": "*", "Resource": "*"}}
)
# They go with what they belong to.
PART_OF_ANOTHER = {
    "aws_cloudwatch_log_stream", "aws_s3_bucket_lifecycle_configuration",
    "aws_s3_bucket_ownership_controls", "aws_s3_bucket_policy",
    "aws_s3_bucket_public_access_block", "aws_s3_bucket_server_side_encryption_configuration",
    "aws_s3_bucket_versioning", "aws_secretsmanager_secret_version", "aws_sns_topic_policy",
    "aws_sqs_queue_policy",
    # A setting of the account, which logs nothing once its role is gone.
    "aws_iot_logging_options",
}  # fmt: skip


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def target(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Target]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FLEETCAST_HOME", str(tmp_path_factory.mktemp("sweep")))
        async with LocalCloud(port=0) as local:
            yield Target.named("local", port=local.port)


async def made(target: Target, environment: str) -> None:
    config = StackConfig.for_target("local", environment)
    await deploy(config, target, "builtin", progress=lambda _: None)


async def test_what_is_old_goes_and_what_is_younger_or_of_another_name_stays(
    target: Target,
) -> None:
    said: list[str] = []
    await made(target, "nightly-1")
    async with Account(target) as account, target.client("kinesis") as kinesis:
        only_one = await account.names()
        for old in ("night", "nightly-prod"):
            await kinesis.create_stream(StreamName=f"fleetcast-ingest-{old}", ShardCount=1)
        between = datetime.now(UTC)
        await made(target, "nightly-2")
        everything = await account.names()
        asked = {"older_than": DAY, "prefix": "nightly-", "now": between + DAY}
        would = await sweep(target, **asked, progress=said.append, dry_run=True)
        assert await account.names() == everything
        assert would.deleted == []
        assert any(line.startswith("would delete nightly-1: ") for line in said)

        swept = await sweep(target, **asked, progress=said.append)
        assert (swept.deleted, swept.kept, swept.failed) == (
            ["nightly-1"], ["nightly-2", "nightly-prod"], [],
        )  # fmt: skip
        assert any(line.startswith("kept nightly-2: it is ") for line in said)
        assert "kept nightly-prod: it has the name of a production" in said
        left = await account.names()
        assert left == {
            service: [name for name in names if name not in only_one[service]]
            for service, names in everything.items()
        }
        assert left["kinesis list_streams"] == [
            f"fleetcast-ingest-{name}" for name in ("night", "nightly-2", "nightly-prod")
        ]


async def test_half_an_environment_is_found_and_one_refusal_does_not_keep_the_rest(
    target: Target,
) -> None:
    said: list[str] = []
    # The one that the test before leaves standing.
    async with open_clients(target) as clients:
        (leftover,) = await find_leftovers(clients, "nightly-2")
    # Every type of the stack is looked for, or goes with another.
    listed = {listing.type for listing in LISTINGS}
    assert {found.type for found in leftover.resources} == listed
    assert listed | PART_OF_ANOTHER == TYPES.keys()
    assert not listed & PART_OF_ANOTHER
    async with target.client("kinesis") as kinesis, target.client("iam") as iam:
        await kinesis.delete_stream(StreamName="fleetcast-ingest-nightly-2")
        await iam.put_role_policy(
            RoleName="fleetcast-archive-nightly-2", PolicyName="somebody-elses", PolicyDocument=DENY
        )
    in_a_day = datetime.now(UTC) + DAY + timedelta(seconds=5)
    asked = {"older_than": DAY, "prefix": "nightly-2", "now": in_a_day}
    swept = await sweep(target, **asked, progress=said.append)
    assert swept.deleted == []
    (failed,) = swept.failed
    assert failed.startswith("nightly-2: aws_iam_role fleetcast-archive-nightly-2: ")
    async with Account(target) as account:
        left = {service: names for service, names in (await account.names()).items() if names}
        del left["kinesis list_streams"]
        assert left == {"iam list_roles": ["fleetcast-archive-nightly-2"]}
    async with target.client("iam") as iam:
        await iam.delete_role_policy(
            RoleName="fleetcast-archive-nightly-2", PolicyName="somebody-elses"
        )
    assert (await sweep(target, **asked, progress=said.append)).deleted == ["nightly-2"]


async def test_what_aws_keeps_for_five_minutes_is_left_for_the_next_sweep(
    target: Target, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def refuse(*_: object) -> None:
        told = "Cannot delete thing type. Please wait for 5 minutes after deprecation and retry"
        raise ClientError({"Error": {"Code": "InvalidRequest", "Message": told}}, "DeleteThingType")

    kind = TYPES["aws_iot_thing_type"]
    async with target.client("iot") as iot:
        await iot.create_thing_type(thingTypeName="fleetcast-device-tonight")
        monkeypatch.setitem(TYPES, "aws_iot_thing_type", replace(kind, delete=refuse))
        said: list[str] = []
        later = datetime.now(UTC) + 2 * DAY
        asked = {"older_than": DAY, "prefix": "tonight", "now": later}
        swept = await sweep(target, **asked, progress=said.append)
        assert (swept.deleted, swept.failed) == ([], [])
        assert any("will go with the next sweep" in line for line in said)
        monkeypatch.setitem(TYPES, "aws_iot_thing_type", kind)
        assert (await sweep(target, **asked, progress=said.append)).deleted == ["tonight"]


async def test_a_prefix_that_could_be_anybodys_is_refused(target: Target) -> None:
    with pytest.raises(UsageError, match="too short: give at least 3 letters"):
        await sweep(target, older_than=DAY, prefix="n", progress=print)


async def test_a_cloud_that_does_not_answer_is_told() -> None:
    nowhere = Target.named("local", port=9)
    with pytest.raises(TargetError, match="no local cloud answers on "):
        await sweep(nowhere, older_than=DAY, prefix="nightly-", progress=print)
