"""IoT Core: thing types, policies, topic rules, provisioning templates, logging."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from stack.deploy.builtin.calls import exists, unless_gone
from stack.deploy.builtin.resource import Resource, block, tag_changes, tag_list

if TYPE_CHECKING:
    from collections.abc import Mapping

    from stack.deploy.builtin.resource import Arguments, Clients


async def _retag(client: Any, arn: str, old: Arguments, new: Arguments) -> None:
    changed, removed = tag_changes(old, new)
    if changed:
        tags = [{"Key": key, "Value": value} for key, value in changed.items()]
        await client.tag_resource(resourceArn=arn, tags=tags)
    if removed:
        await client.untag_resource(resourceArn=arn, tagKeys=removed)


async def _create_thing_type(clients: Clients, new: Arguments) -> dict[str, Any]:
    iot, name = await clients("iot"), new["name"]
    answer = await iot.create_thing_type(thingTypeName=name)
    arn = answer["thingTypeArn"]
    if new.get("deprecated"):
        await iot.deprecate_thing_type(thingTypeName=name)
    await _retag(iot, arn, {}, new)
    return {"id": name, "name": name, "arn": arn}


async def _read_thing_type(clients: Clients, have: Mapping[str, Any]) -> bool:
    iot = await clients("iot")
    return await exists(iot.describe_thing_type(thingTypeName=have["name"]))


async def _update_thing_type(
    clients: Clients, have: Mapping[str, Any], old: Arguments, new: Arguments
) -> dict[str, Any]:
    iot = await clients("iot")
    if bool(old.get("deprecated")) != bool(new.get("deprecated")):
        await iot.deprecate_thing_type(
            thingTypeName=have["name"], undoDeprecate=not new.get("deprecated")
        )
    await _retag(iot, have["arn"], old, new)
    return dict(have)


async def _delete_thing_type(clients: Clients, have: Mapping[str, Any]) -> None:
    iot = await clients("iot")
    if await _read_thing_type(clients, have):
        # Only a deprecated thing type can be deleted.
        await iot.deprecate_thing_type(thingTypeName=have["name"])
        await unless_gone(iot.delete_thing_type(thingTypeName=have["name"]))


async def _create_policy(clients: Clients, new: Arguments) -> dict[str, Any]:
    iot, name = await clients("iot"), new["name"]
    answer = await iot.create_policy(policyName=name, policyDocument=new["policy"])
    await _retag(iot, answer["policyArn"], {}, new)
    return {"id": name, "name": name, "arn": answer["policyArn"]}


async def _read_policy(clients: Clients, have: Mapping[str, Any]) -> bool:
    iot = await clients("iot")
    return await exists(iot.get_policy(policyName=have["name"]))


async def _update_policy(
    clients: Clients, have: Mapping[str, Any], old: Arguments, new: Arguments
) -> dict[str, Any]:
    iot, name = await clients("iot"), have["name"]
    if old["policy"] != new["policy"]:
        versions = (await iot.list_policy_versions(policyName=name))["policyVersions"]
        for version in versions:
            if not version["isDefaultVersion"]:
                await iot.delete_policy_version(
                    policyName=name, policyVersionId=version["versionId"]
                )
        await iot.create_policy_version(
            policyName=name, policyDocument=new["policy"], setAsDefault=True
        )
    await _retag(iot, have["arn"], old, new)
    return dict(have)


async def _delete_policy(clients: Clients, have: Mapping[str, Any]) -> None:
    iot, name = await clients("iot"), have["name"]
    if not await _read_policy(clients, have):
        return
    for version in (await iot.list_policy_versions(policyName=name))["policyVersions"]:
        if not version["isDefaultVersion"]:
            await iot.delete_policy_version(policyName=name, policyVersionId=version["versionId"])
    await unless_gone(iot.delete_policy(policyName=name))


def _rule_payload(new: Arguments) -> dict[str, Any]:
    payload: dict[str, Any] = {
        "sql": new["sql"],
        "awsIotSqlVersion": new["sql_version"],
        "description": new.get("description", ""),
        "ruleDisabled": not new.get("enabled", True),
        "actions": [
            {
                "kinesis": {
                    "roleArn": action["role_arn"],
                    "streamName": action["stream_name"],
                    "partitionKey": action.get("partition_key", ""),
                }
            }
            for action in new.get("kinesis") or ()
        ],
    }
    queue = block(block(new.get("error_action")).get("sqs"))
    if queue:
        payload["errorAction"] = {
            "sqs": {
                "queueUrl": queue["queue_url"],
                "roleArn": queue["role_arn"],
                "useBase64": bool(queue.get("use_base64")),
            }
        }
    return payload


async def _create_rule(clients: Clients, new: Arguments) -> dict[str, Any]:
    iot, name = await clients("iot"), new["name"]
    tags = "&".join(f"{tag['Key']}={tag['Value']}" for tag in tag_list(new))
    await iot.create_topic_rule(ruleName=name, topicRulePayload=_rule_payload(new), tags=tags)
    arn = (await iot.get_topic_rule(ruleName=name))["ruleArn"]
    return {"id": name, "name": name, "arn": arn}


async def _read_rule(clients: Clients, have: Mapping[str, Any]) -> bool:
    iot = await clients("iot")
    rules = (await iot.list_topic_rules())["rules"]
    return any(rule["ruleName"] == have["name"] for rule in rules)


async def _update_rule(
    clients: Clients, have: Mapping[str, Any], old: Arguments, new: Arguments
) -> dict[str, Any]:
    iot = await clients("iot")
    if _rule_payload(old) != _rule_payload(new):
        await iot.replace_topic_rule(ruleName=have["name"], topicRulePayload=_rule_payload(new))
    await _retag(iot, have["arn"], old, new)
    return dict(have)


async def _delete_rule(clients: Clients, have: Mapping[str, Any]) -> None:
    iot = await clients("iot")
    if await _read_rule(clients, have):
        await iot.delete_topic_rule(ruleName=have["name"])


async def _create_group(clients: Clients, new: Arguments) -> dict[str, Any]:
    iot, name = await clients("iot"), new["name"]
    answer = await iot.create_thing_group(thingGroupName=name, tags=tag_list(new))
    return {"id": name, "name": name, "arn": answer["thingGroupArn"]}


async def _read_group(clients: Clients, have: Mapping[str, Any]) -> bool:
    iot = await clients("iot")
    return await exists(iot.describe_thing_group(thingGroupName=have["name"]))


async def _update_group(
    clients: Clients, have: Mapping[str, Any], old: Arguments, new: Arguments
) -> dict[str, Any]:
    await _retag(await clients("iot"), have["arn"], old, new)
    return dict(have)


async def _delete_group(clients: Clients, have: Mapping[str, Any]) -> None:
    iot = await clients("iot")
    await unless_gone(iot.delete_thing_group(thingGroupName=have["name"]))


async def _create_template(clients: Clients, new: Arguments) -> dict[str, Any]:
    iot, name = await clients("iot"), new["name"]
    answer = await iot.create_provisioning_template(
        templateName=name,
        description=new.get("description", ""),
        enabled=bool(new.get("enabled")),
        provisioningRoleArn=new["provisioning_role_arn"],
        templateBody=new["template_body"],
        tags=tag_list(new),
    )
    return {"id": name, "name": name, "arn": answer["templateArn"]}


async def _read_template(clients: Clients, have: Mapping[str, Any]) -> bool:
    iot = await clients("iot")
    return await exists(iot.describe_provisioning_template(templateName=have["name"]))


async def _update_template(
    clients: Clients, have: Mapping[str, Any], old: Arguments, new: Arguments
) -> dict[str, Any]:
    iot, name = await clients("iot"), have["name"]
    if old["template_body"] != new["template_body"]:
        listed = await iot.list_provisioning_template_versions(templateName=name)
        others = [one["versionId"] for one in listed["versions"] if not one["isDefaultVersion"]]
        # AWS keeps five.
        for version in sorted(others)[: max(0, len(listed["versions"]) - 4)]:
            await iot.delete_provisioning_template_version(templateName=name, versionId=version)
        await iot.create_provisioning_template_version(
            templateName=name, templateBody=new["template_body"], setAsDefault=True
        )
    await iot.update_provisioning_template(
        templateName=name,
        description=new.get("description", ""),
        enabled=bool(new.get("enabled")),
        provisioningRoleArn=new["provisioning_role_arn"],
    )
    await _retag(iot, have["arn"], old, new)
    return dict(have)


async def _delete_template(clients: Clients, have: Mapping[str, Any]) -> None:
    iot = await clients("iot")
    await unless_gone(iot.delete_provisioning_template(templateName=have["name"]))


async def _create_logging(clients: Clients, new: Arguments) -> dict[str, Any]:
    iot = await clients("iot")
    await iot.set_v2_logging_options(
        roleArn=new["role_arn"],
        defaultLogLevel=new["default_log_level"],
        disableAllLogs=bool(new.get("disable_all_logs")),
    )
    # The setting is one of the whole account: it is known by the role that is ours.
    return {"id": new["role_arn"], "role_arn": new["role_arn"]}


async def _read_logging(clients: Clients, have: Mapping[str, Any]) -> bool:
    iot = await clients("iot")
    told = await iot.get_v2_logging_options()
    return bool(told.get("roleArn") == have["role_arn"])


async def _update_logging(
    clients: Clients, have: Mapping[str, Any], _old: Arguments, new: Arguments
) -> dict[str, Any]:
    return {**have, **await _create_logging(clients, new)}


async def _delete_logging(clients: Clients, have: Mapping[str, Any]) -> None:
    """Logs no more; what somebody else has set meanwhile is left alone."""
    if await _read_logging(clients, have):
        iot = await clients("iot")
        await iot.set_v2_logging_options(roleArn=have["role_arn"], disableAllLogs=True)


TYPES = {
    "aws_iot_logging_options": Resource(
        schema=dict.fromkeys(("default_log_level", "disable_all_logs", "role_arn")),
        create=_create_logging,
        read=_read_logging,
        update=_update_logging,
        delete=_delete_logging,
    ),
    "aws_iot_provisioning_template": Resource(
        schema=dict.fromkeys(
            ("name", "description", "enabled", "provisioning_role_arn", "template_body", "tags")
        ),
        create=_create_template,
        read=_read_template,
        update=_update_template,
        delete=_delete_template,
        replace_on=frozenset({"name"}),
        taggable=True,
    ),
    "aws_iot_thing_group": Resource(
        schema=dict.fromkeys(("name", "tags")),
        create=_create_group,
        read=_read_group,
        update=_update_group,
        delete=_delete_group,
        replace_on=frozenset({"name"}),
        taggable=True,
    ),
    "aws_iot_thing_type": Resource(
        schema=dict.fromkeys(("name", "deprecated", "tags")),
        create=_create_thing_type,
        read=_read_thing_type,
        update=_update_thing_type,
        delete=_delete_thing_type,
        replace_on=frozenset({"name"}),
        taggable=True,
    ),
    "aws_iot_policy": Resource(
        schema=dict.fromkeys(("name", "policy", "tags")),
        create=_create_policy,
        read=_read_policy,
        update=_update_policy,
        delete=_delete_policy,
        replace_on=frozenset({"name"}),
        taggable=True,
    ),
    "aws_iot_topic_rule": Resource(
        schema={
            **dict.fromkeys(("name", "description", "enabled", "sql", "sql_version", "tags")),
            "kinesis": dict.fromkeys(("role_arn", "stream_name", "partition_key")),
            "error_action": {"sqs": dict.fromkeys(("queue_url", "role_arn", "use_base64"))},
        },
        create=_create_rule,
        read=_read_rule,
        update=_update_rule,
        delete=_delete_rule,
        replace_on=frozenset({"name"}),
        taggable=True,
    ),
}
