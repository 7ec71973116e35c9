"""Secrets Manager: secrets and their values. Values are never kept in the engine's state."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from stack.deploy.builtin.calls import exists, unless_gone
from stack.deploy.builtin.resource import Resource, tag_changes, tag_list

if TYPE_CHECKING:
    from collections.abc import Mapping

    from stack.deploy.builtin.resource import Arguments, Clients


async def _create_secret(clients: Clients, new: Arguments) -> dict[str, Any]:
    client = await clients("secretsmanager")
    more = {"KmsKeyId": new["kms_key_id"]} if new.get("kms_key_id") else {}
    answer = await client.create_secret(
        Name=new["name"], Description=new.get("description", ""), Tags=tag_list(new), **more
    )
    days = int(new.get("recovery_window_in_days", 30))
    return {"id": answer["ARN"], "arn": answer["ARN"], "name": new["name"], "recovery_days": days}


async def _read_secret(clients: Clients, have: Mapping[str, Any]) -> bool:
    client = await clients("secretsmanager")
    return await exists(client.describe_secret(SecretId=have["arn"]))


async def _update_secret(
    clients: Clients, have: Mapping[str, Any], old: Arguments, new: Arguments
) -> dict[str, Any]:
    client, arn = await clients("secretsmanager"), have["arn"]
    more = {"KmsKeyId": new["kms_key_id"]} if new.get("kms_key_id") else {}
    await client.update_secret(SecretId=arn, Description=new.get("description", ""), **more)
    changed, removed = tag_changes(old, new)
    if changed:
        tags = [{"Key": key, "Value": value} for key, value in changed.items()]
        await client.tag_resource(SecretId=arn, Tags=tags)
    if removed:
        await client.untag_resource(SecretId=arn, TagKeys=removed)
    return {**have, "recovery_days": int(new.get("recovery_window_in_days", 30))}


async def _delete_secret(clients: Clients, have: Mapping[str, Any]) -> None:
    client = await clients("secretsmanager")
    days = have["recovery_days"]
    how: dict[str, Any] = (
        {"RecoveryWindowInDays": days} if days else {"ForceDeleteWithoutRecovery": True}
    )
    await unless_gone(client.delete_secret(SecretId=have["arn"], **how))


async def _put_value(clients: Clients, new: Arguments) -> dict[str, Any]:
    client = await clients("secretsmanager")
    answer = await client.put_secret_value(
        SecretId=new["secret_id"], SecretString=new["secret_string"]
    )
    version = answer["VersionId"]
    return {"id": f"{new['secret_id']}|{version}", "arn": answer["ARN"], "version_id": version}


async def _read_value(clients: Clients, have: Mapping[str, Any]) -> bool:
    client = await clients("secretsmanager")
    return await exists(client.get_secret_value(SecretId=have["arn"]))


async def _update_value(
    clients: Clients, _: Mapping[str, Any], __: Arguments, new: Arguments
) -> dict[str, Any]:
    return await _put_value(clients, new)


async def _leave(_: Clients, __: Mapping[str, Any]) -> None:
    """The value goes with its secret."""


TYPES = {
    "aws_secretsmanager_secret": Resource(
        schema=dict.fromkeys(
            ("name", "description", "kms_key_id", "recovery_window_in_days", "tags")
        ),
        create=_create_secret,
        read=_read_secret,
        update=_update_secret,
        delete=_delete_secret,
        replace_on=frozenset({"name"}),
        taggable=True,
    ),
    "aws_secretsmanager_secret_version": Resource(
        schema=dict.fromkeys(("secret_id", "secret_string")),
        create=_put_value,
        read=_read_value,
        update=_update_value,
        delete=_leave,
        replace_on=frozenset({"secret_id"}),
    ),
}
