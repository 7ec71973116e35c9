"""Timestream databases and tables."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from stack.deploy.builtin.calls import exists, unless_gone
from stack.deploy.builtin.resource import Resource, block, tag_changes, tag_list

if TYPE_CHECKING:
    from collections.abc import Mapping

    from stack.deploy.builtin.resource import Arguments, Clients

SERVICE = "timestream-write"


async def _retag(client: Any, arn: str, old: Arguments, new: Arguments) -> None:
    changed, removed = tag_changes(old, new)
    if changed:
        tags = [{"Key": key, "Value": value} for key, value in changed.items()]
        await client.tag_resource(ResourceARN=arn, Tags=tags)
    if removed:
        await client.untag_resource(ResourceARN=arn, TagKeys=removed)


async def _create_database(clients: Clients, new: Arguments) -> dict[str, Any]:
    client = await clients(SERVICE)
    more = {"KmsKeyId": new["kms_key_id"]} if new.get("kms_key_id") else {}
    answer = await client.create_database(
        DatabaseName=new["database_name"], Tags=tag_list(new), **more
    )
    arn = answer["Database"]["Arn"]
    return {"id": new["database_name"], "arn": arn, "database_name": new["database_name"]}


async def _read_database(clients: Clients, have: Mapping[str, Any]) -> bool:
    client = await clients(SERVICE)
    return await exists(client.describe_database(DatabaseName=have["database_name"]))


async def _update_database(
    clients: Clients, have: Mapping[str, Any], old: Arguments, new: Arguments
) -> dict[str, Any]:
    client = await clients(SERVICE)
    if old.get("kms_key_id") != new.get("kms_key_id"):
        await client.update_database(DatabaseName=have["database_name"], KmsKeyId=new["kms_key_id"])
    await _retag(client, have["arn"], old, new)
    return dict(have)


async def _delete_database(clients: Clients, have: Mapping[str, Any]) -> None:
    client = await clients(SERVICE)
    await unless_gone(client.delete_database(DatabaseName=have["database_name"]))


def _retention(new: Arguments) -> dict[str, Any]:
    retention = block(new.get("retention_properties"))
    if not retention:
        return {}
    return {
        "RetentionProperties": {
            "MemoryStoreRetentionPeriodInHours": int(
                retention["memory_store_retention_period_in_hours"]
            ),
            "MagneticStoreRetentionPeriodInDays": int(
                retention["magnetic_store_retention_period_in_days"]
            ),
        }
    }


async def _create_table(clients: Clients, new: Arguments) -> dict[str, Any]:
    client = await clients(SERVICE)
    database, name = new["database_name"], new["table_name"]
    answer = await client.create_table(
        DatabaseName=database, TableName=name, Tags=tag_list(new), **_retention(new)
    )
    return {
        "id": f"{name}:{database}",
        "arn": answer["Table"]["Arn"],
        "database_name": database,
        "table_name": name,
    }


async def _read_table(clients: Clients, have: Mapping[str, Any]) -> bool:
    client = await clients(SERVICE)
    call = client.describe_table(DatabaseName=have["database_name"], TableName=have["table_name"])
    return await exists(call)


async def _update_table(
    clients: Clients, have: Mapping[str, Any], old: Arguments, new: Arguments
) -> dict[str, Any]:
    client = await clients(SERVICE)
    if _retention(old) != _retention(new):
        await client.update_table(
            DatabaseName=have["database_name"], TableName=have["table_name"], **_retention(new)
        )
    await _retag(client, have["arn"], old, new)
    return dict(have)


async def _delete_table(clients: Clients, have: Mapping[str, Any]) -> None:
    client = await clients(SERVICE)
    call = client.delete_table(DatabaseName=have["database_name"], TableName=have["table_name"])
    await unless_gone(call)


TYPES = {
    "aws_timestreamwrite_database": Resource(
        schema=dict.fromkeys(("database_name", "kms_key_id", "tags")),
        create=_create_database,
        read=_read_database,
        update=_update_database,
        delete=_delete_database,
        replace_on=frozenset({"database_name"}),
        taggable=True,
    ),
    "aws_timestreamwrite_table": Resource(
        schema={
            **dict.fromkeys(("database_name", "table_name", "tags")),
            "retention_properties": dict.fromkeys(
                (
                    "memory_store_retention_period_in_hours",
                    "magnetic_store_retention_period_in_days",
                )
            ),
        },
        create=_create_table,
        read=_read_table,
        update=_update_table,
        delete=_delete_table,
        replace_on=frozenset({"database_name", "table_name"}),
        taggable=True,
    ),
}
