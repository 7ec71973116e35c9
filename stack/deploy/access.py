"""Asks AWS, before anything is made, whether the account may use Timestream at all."""

from __future__ import annotations

import re
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from botocore.exceptions import BotoCoreError, ClientError

from fleetcast.errors import TargetError
from stack.deploy.options import SESSION_NAME

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from fleetcast.target import Target
    from stack.deploy.options import AwsOptions

# AWS's words for an account that the service is closed to; a role that lacks a permission is
# refused in others.
CLOSED = re.compile(r"[Oo]nly existing Timestream for LiveAnalytics customers")
CLOSED_TOLD = (
    "AWS refused Timestream: Amazon Timestream for LiveAnalytics is closed to accounts that did "
    "not use it before 2025-06-20; use an account that did"
)


async def check_timestream(target: Target, options: AwsOptions) -> None:
    """Makes sure that Timestream is not closed to the account; other refusals are Terraform's to tell.

    Raises:
        TargetError: it is closed.
    """
    try:
        async with client_as(target, options, "timestream-write") as client:
            await client.list_databases(MaxResults=1)
    except ClientError as error:
        if CLOSED.search(str(error)):
            raise TargetError(f"{CLOSED_TOLD}; nothing was made ({error})") from error
    except (BotoCoreError, OSError):
        # No credentials, no network: Terraform says it better, and in any case.
        return


@asynccontextmanager
async def client_as(target: Target, options: AwsOptions, service: str) -> AsyncIterator[Any]:
    """A client of a service that acts as whom Terraform acts."""
    from aiobotocore.session import AioSession  # noqa: PLC0415 - keeps --help fast

    session = AioSession(profile=options.profile)
    as_whom = target.client_kwargs()
    if options.role_arn:
        given = {"RoleArn": options.role_arn, "RoleSessionName": SESSION_NAME}
        if options.external_id:
            given["ExternalId"] = options.external_id
        async with session.create_client("sts", **as_whom) as sts:
            told = (await sts.assume_role(**given))["Credentials"]
        as_whom |= {
            "aws_access_key_id": told["AccessKeyId"],
            "aws_secret_access_key": told["SecretAccessKey"],
            "aws_session_token": told["SessionToken"],
        }
    async with session.create_client(service, **as_whom) as client:
        yield client
