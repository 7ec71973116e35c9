"""Lambda functions and event source mappings."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stack.deploy.builtin.calls import exists, unless_gone
from stack.deploy.builtin.resource import Resource, block, tag_changes

if TYPE_CHECKING:
    from collections.abc import Mapping

    from stack.deploy.builtin.resource import Arguments, Clients


def _configuration(new: Arguments) -> dict[str, Any]:
    configuration: dict[str, Any] = {
        "Role": new["role"],
        "Runtime": new["runtime"],
        "Handler": new["handler"],
        "MemorySize": int(new.get("memory_size", 128)),
        "Timeout": int(new.get("timeout", 3)),
        "Environment": {"Variables": dict(block(new.get("environment")).get("variables") or {})},
    }
    if new.get("kms_key_arn"):
        configuration["KMSKeyArn"] = new["kms_key_arn"]
    return configuration


async def _zip(new: Arguments) -> bytes:
    return await asyncio.to_thread(Path(new["filename"]).read_bytes)


async def _create_function(clients: Clients, new: Arguments) -> dict[str, Any]:
    client = await clients("lambda")
    answer = await client.create_function(
        FunctionName=new["function_name"],
        Code={"ZipFile": await _zip(new)},
        Tags=dict(new.get("tags") or {}),
        **_configuration(new),
    )
    name = new["function_name"]
    return {"id": name, "arn": answer["FunctionArn"], "function_name": name}


async def _read_function(clients: Clients, have: Mapping[str, Any]) -> bool:
    client = await clients("lambda")
    return await exists(client.get_function_configuration(FunctionName=have["function_name"]))


async def _update_function(
    clients: Clients, have: Mapping[str, Any], old: Arguments, new: Arguments
) -> dict[str, Any]:
    client, name = await clients("lambda"), have["function_name"]
    if old.get("source_code_hash") != new.get("source_code_hash"):
        await client.update_function_code(FunctionName=name, ZipFile=await _zip(new))
    if _configuration(old) != _configuration(new):
        await client.update_function_configuration(FunctionName=name, **_configuration(new))
    changed, removed = tag_changes(old, new)
    if changed:
        await client.tag_resource(Resource=have["arn"], Tags=changed)
    if removed:
        await client.untag_resource(Resource=have["arn"], TagKeys=removed)
    return dict(have)


async def _delete_function(clients: Clients, have: Mapping[str, Any]) -> None:
    client = await clients("lambda")
    await unless_gone(client.delete_function(FunctionName=have["function_name"]))


_MAPPING = {
    "batch_size": "BatchSize",
    "maximum_batching_window_in_seconds": "MaximumBatchingWindowInSeconds",
    "parallelization_factor": "ParallelizationFactor",
    "maximum_retry_attempts": "MaximumRetryAttempts",
    "maximum_record_age_in_seconds": "MaximumRecordAgeInSeconds",
    "bisect_batch_on_function_error": "BisectBatchOnFunctionError",
    "function_response_types": "FunctionResponseTypes",
}


def _mapping(new: Arguments) -> dict[str, Any]:
    settings = {api: new[name] for name, api in _MAPPING.items() if new.get(name) is not None}
    destination = block(block(new.get("destination_config")).get("on_failure"))
    if destination:
        settings["DestinationConfig"] = {
            "OnFailure": {"Destination": destination["destination_arn"]}
        }
    settings["Enabled"] = bool(new.get("enabled", True))
    return settings


async def _create_mapping(clients: Clients, new: Arguments) -> dict[str, Any]:
    client = await clients("lambda")
    answer = await client.create_event_source_mapping(
        EventSourceArn=new["event_source_arn"],
        FunctionName=new["function_name"],
        StartingPosition=new["starting_position"],
        Tags=dict(new.get("tags") or {}),
        **_mapping(new),
    )
    return {
        "id": answer["UUID"],
        "uuid": answer["UUID"],
        "arn": answer.get("EventSourceMappingArn", ""),
    }


async def _read_mapping(clients: Clients, have: Mapping[str, Any]) -> bool:
    client = await clients("lambda")
    return await exists(client.get_event_source_mapping(UUID=have["uuid"]))


async def _update_mapping(
    clients: Clients, have: Mapping[str, Any], old: Arguments, new: Arguments
) -> dict[str, Any]:
    client = await clients("lambda")
    if _mapping(old) != _mapping(new) or old["function_name"] != new["function_name"]:
        await client.update_event_source_mapping(
            UUID=have["uuid"], FunctionName=new["function_name"], **_mapping(new)
        )
    changed, removed = tag_changes(old, new)
    if changed:
        await client.tag_resource(Resource=have["arn"], Tags=changed)
    if removed:
        await client.untag_resource(Resource=have["arn"], TagKeys=removed)
    return dict(have)


async def _delete_mapping(clients: Clients, have: Mapping[str, Any]) -> None:
    client = await clients("lambda")
    await unless_gone(client.delete_event_source_mapping(UUID=have["uuid"]))


TYPES = {
    "aws_lambda_function": Resource(
        schema={
            **dict.fromkeys(
                ("function_name", "role", "runtime", "handler", "filename", "source_code_hash",
                 "memory_size", "timeout", "kms_key_arn", "tags")
            ),
            "environment": {"variables": None},
        },
        create=_create_function,
        read=_read_function,
        update=_update_function,
        delete=_delete_function,
        replace_on=frozenset({"function_name"}),
        taggable=True,
    ),
    "aws_lambda_event_source_mapping": Resource(
        schema={
            **dict.fromkeys(
                (*_MAPPING, "event_source_arn", "function_name", "starting_position", "enabled",
                 "tags")
            ),
            "destination_config": {"on_failure": {"destination_arn": None}},
        },
        create=_create_mapping,
        read=_read_mapping,
        update=_update_mapping,
        delete=_delete_mapping,
        replace_on=frozenset({"event_source_arn", "starting_position"}),
        taggable=True,
    ),
}  # fmt: skip
