"""KMS keys and aliases, IAM roles and their policies."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from stack.deploy.builtin.calls import exists, unless_gone
from stack.deploy.builtin.resource import Resource, tag_changes, tag_list

if TYPE_CHECKING:
    from collections.abc import Mapping

    from stack.deploy.builtin.resource import Arguments, Clients


async def _create_key(clients: Clients, new: Arguments) -> dict[str, Any]:
    kms = await clients("kms")
    tags = [{"TagKey": tag["Key"], "TagValue": tag["Value"]} for tag in tag_list(new)]
    answer = await kms.create_key(
        Description=new.get("description", ""),
        KeyUsage="ENCRYPT_DECRYPT",
        KeySpec="SYMMETRIC_DEFAULT",
        Policy=new["policy"],
        Tags=tags,
    )
    key = answer["KeyMetadata"]
    if new.get("enable_key_rotation"):
        await kms.enable_key_rotation(KeyId=key["KeyId"])
    window = int(new.get("deletion_window_in_days", 30))
    return {"id": key["KeyId"], "key_id": key["KeyId"], "arn": key["Arn"], "window": window}


async def _read_key(clients: Clients, have: Mapping[str, Any]) -> bool:
    kms = await clients("kms")
    try:
        answer = await kms.describe_key(KeyId=have["key_id"])
    except kms.exceptions.NotFoundException:
        return False
    return bool(answer["KeyMetadata"]["KeyState"] == "Enabled")


async def _update_key(
    clients: Clients, have: Mapping[str, Any], old: Arguments, new: Arguments
) -> dict[str, Any]:
    kms, key = await clients("kms"), have["key_id"]
    if old["policy"] != new["policy"]:
        await kms.put_key_policy(KeyId=key, PolicyName="default", Policy=new["policy"])
    if old.get("description") != new.get("description"):
        await kms.update_key_description(KeyId=key, Description=new.get("description", ""))
    rotate = kms.enable_key_rotation if new.get("enable_key_rotation") else kms.disable_key_rotation
    await rotate(KeyId=key)
    changed, removed = tag_changes(old, new)
    if changed:
        tags = [{"TagKey": name, "TagValue": value} for name, value in changed.items()]
        await kms.tag_resource(KeyId=key, Tags=tags)
    if removed:
        await kms.untag_resource(KeyId=key, TagKeys=removed)
    return {**have, "window": int(new.get("deletion_window_in_days", 30))}


async def _delete_key(clients: Clients, have: Mapping[str, Any]) -> None:
    kms = await clients("kms")
    if await _read_key(clients, have):
        await kms.schedule_key_deletion(KeyId=have["key_id"], PendingWindowInDays=have["window"])


async def _create_alias(clients: Clients, new: Arguments) -> dict[str, Any]:
    kms = await clients("kms")
    await kms.create_alias(AliasName=new["name"], TargetKeyId=new["target_key_id"])
    return {"id": new["name"], "name": new["name"]}


async def _read_alias(clients: Clients, have: Mapping[str, Any]) -> bool:
    kms = await clients("kms")
    return await exists(kms.describe_key(KeyId=have["name"]))


async def _update_alias(
    clients: Clients, have: Mapping[str, Any], _: Arguments, new: Arguments
) -> dict[str, Any]:
    kms = await clients("kms")
    await kms.update_alias(AliasName=have["name"], TargetKeyId=new["target_key_id"])
    return dict(have)


async def _delete_alias(clients: Clients, have: Mapping[str, Any]) -> None:
    kms = await clients("kms")
    await unless_gone(kms.delete_alias(AliasName=have["name"]))


async def _create_role(clients: Clients, new: Arguments) -> dict[str, Any]:
    iam = await clients("iam")
    more = {"Description": new["description"]} if new.get("description") else {}
    answer = await iam.create_role(
        RoleName=new["name"],
        AssumeRolePolicyDocument=new["assume_role_policy"],
        Tags=tag_list(new),
        **more,
    )
    return {"id": new["name"], "name": new["name"], "arn": answer["Role"]["Arn"]}


async def _read_role(clients: Clients, have: Mapping[str, Any]) -> bool:
    iam = await clients("iam")
    return await exists(iam.get_role(RoleName=have["name"]))


async def _update_role(
    clients: Clients, have: Mapping[str, Any], old: Arguments, new: Arguments
) -> dict[str, Any]:
    iam, name = await clients("iam"), have["name"]
    await iam.update_assume_role_policy(RoleName=name, PolicyDocument=new["assume_role_policy"])
    if old.get("description") != new.get("description"):
        await iam.update_role(RoleName=name, Description=new.get("description", ""))
    changed, removed = tag_changes(old, new)
    if changed:
        tags = [{"Key": key, "Value": value} for key, value in changed.items()]
        await iam.tag_role(RoleName=name, Tags=tags)
    if removed:
        await iam.untag_role(RoleName=name, TagKeys=removed)
    return dict(have)


async def _delete_role(clients: Clients, have: Mapping[str, Any]) -> None:
    iam = await clients("iam")
    await unless_gone(iam.delete_role(RoleName=have["name"]))


async def _put_role_policy(clients: Clients, new: Arguments) -> dict[str, Any]:
    iam = await clients("iam")
    await iam.put_role_policy(
        RoleName=new["role"], PolicyName=new["name"], PolicyDocument=new["policy"]
    )
    return {"id": f"{new['role']}:{new['name']}", "role": new["role"], "name": new["name"]}


async def _read_role_policy(clients: Clients, have: Mapping[str, Any]) -> bool:
    iam = await clients("iam")
    return await exists(iam.get_role_policy(RoleName=have["role"], PolicyName=have["name"]))


async def _update_role_policy(
    clients: Clients, _: Mapping[str, Any], __: Arguments, new: Arguments
) -> dict[str, Any]:
    return await _put_role_policy(clients, new)


async def _delete_role_policy(clients: Clients, have: Mapping[str, Any]) -> None:
    iam = await clients("iam")
    call = iam.delete_role_policy(RoleName=have["role"], PolicyName=have["name"])
    await unless_gone(call)


TYPES = {
    "aws_kms_key": Resource(
        schema=dict.fromkeys(
            ("description", "enable_key_rotation", "deletion_window_in_days", "policy", "tags")
        ),
        create=_create_key,
        read=_read_key,
        update=_update_key,
        delete=_delete_key,
        taggable=True,
    ),
    "aws_kms_alias": Resource(
        schema=dict.fromkeys(("name", "target_key_id")),
        create=_create_alias,
        read=_read_alias,
        update=_update_alias,
        delete=_delete_alias,
        replace_on=frozenset({"name"}),
    ),
    "aws_iam_role": Resource(
        schema=dict.fromkeys(("name", "assume_role_policy", "description", "tags")),
        create=_create_role,
        read=_read_role,
        update=_update_role,
        delete=_delete_role,
        replace_on=frozenset({"name"}),
        taggable=True,
    ),
    "aws_iam_role_policy": Resource(
        schema=dict.fromkeys(("name", "role", "policy")),
        create=_put_role_policy,
        read=_read_role_policy,
        update=_update_role_policy,
        delete=_delete_role_policy,
        replace_on=frozenset({"name", "role"}),
    ),
}
