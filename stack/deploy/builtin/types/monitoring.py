"""Log groups and streams, metric alarms, dashboards."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from stack.deploy.builtin.calls import unless_gone
from stack.deploy.builtin.resource import Resource, tag_changes, tag_list

if TYPE_CHECKING:
    from collections.abc import Mapping

    from stack.deploy.builtin.resource import Arguments, Clients


async def _create_group(clients: Clients, new: Arguments) -> dict[str, Any]:
    logs, name = await clients("logs"), new["name"]
    more: dict[str, Any] = {"kmsKeyId": new["kms_key_id"]} if new.get("kms_key_id") else {}
    if new.get("tags"):
        more["tags"] = dict(new["tags"])
    await logs.create_log_group(logGroupName=name, **more)
    if new.get("retention_in_days"):
        await logs.put_retention_policy(
            logGroupName=name, retentionInDays=int(new["retention_in_days"])
        )
    found = await logs.describe_log_groups(logGroupNamePrefix=name)
    arn = next(g["arn"] for g in found["logGroups"] if g["logGroupName"] == name)
    return {"id": name, "name": name, "arn": arn.removesuffix(":*")}


async def _read_group(clients: Clients, have: Mapping[str, Any]) -> bool:
    logs = await clients("logs")
    found = await logs.describe_log_groups(logGroupNamePrefix=have["name"])
    return any(group["logGroupName"] == have["name"] for group in found["logGroups"])


async def _update_group(
    clients: Clients, have: Mapping[str, Any], old: Arguments, new: Arguments
) -> dict[str, Any]:
    logs, name = await clients("logs"), have["name"]
    if old.get("retention_in_days") != new.get("retention_in_days"):
        if new.get("retention_in_days"):
            await logs.put_retention_policy(
                logGroupName=name, retentionInDays=int(new["retention_in_days"])
            )
        else:
            await logs.delete_retention_policy(logGroupName=name)
    if old.get("kms_key_id") != new.get("kms_key_id"):
        if new.get("kms_key_id"):
            await logs.associate_kms_key(logGroupName=name, kmsKeyId=new["kms_key_id"])
        else:
            await logs.disassociate_kms_key(logGroupName=name)
    changed, removed = tag_changes(old, new)
    if changed:
        await logs.tag_resource(resourceArn=have["arn"], tags=changed)
    if removed:
        await logs.untag_resource(resourceArn=have["arn"], tagKeys=removed)
    return dict(have)


async def _delete_group(clients: Clients, have: Mapping[str, Any]) -> None:
    logs = await clients("logs")
    await unless_gone(logs.delete_log_group(logGroupName=have["name"]))


async def _create_log_stream(clients: Clients, new: Arguments) -> dict[str, Any]:
    logs = await clients("logs")
    await logs.create_log_stream(logGroupName=new["log_group_name"], logStreamName=new["name"])
    return {"id": new["name"], "name": new["name"], "log_group_name": new["log_group_name"]}


async def _read_log_stream(clients: Clients, have: Mapping[str, Any]) -> bool:
    if not await _read_group(clients, {"name": have["log_group_name"]}):
        return False
    logs = await clients("logs")
    found = await logs.describe_log_streams(
        logGroupName=have["log_group_name"], logStreamNamePrefix=have["name"]
    )
    return any(stream["logStreamName"] == have["name"] for stream in found["logStreams"])


async def _delete_log_stream(clients: Clients, have: Mapping[str, Any]) -> None:
    logs = await clients("logs")
    call = logs.delete_log_stream(logGroupName=have["log_group_name"], logStreamName=have["name"])
    await unless_gone(call)


_ALARM = {
    "alarm_name": "AlarmName",
    "alarm_description": "AlarmDescription",
    "namespace": "Namespace",
    "metric_name": "MetricName",
    "statistic": "Statistic",
    "extended_statistic": "ExtendedStatistic",
    "period": "Period",
    "evaluation_periods": "EvaluationPeriods",
    "datapoints_to_alarm": "DatapointsToAlarm",
    "threshold": "Threshold",
    "comparison_operator": "ComparisonOperator",
    "treat_missing_data": "TreatMissingData",
    "alarm_actions": "AlarmActions",
    "ok_actions": "OKActions",
    "insufficient_data_actions": "InsufficientDataActions",
    "actions_enabled": "ActionsEnabled",
}


async def _put_alarm(clients: Clients, new: Arguments) -> dict[str, Any]:
    cloudwatch = await clients("cloudwatch")
    settings = {api: new[name] for name, api in _ALARM.items() if new.get(name) is not None}
    if new.get("dimensions"):
        settings["Dimensions"] = [
            {"Name": name, "Value": value} for name, value in sorted(new["dimensions"].items())
        ]
    await cloudwatch.put_metric_alarm(**settings, Tags=tag_list(new))
    name = new["alarm_name"]
    found = await cloudwatch.describe_alarms(AlarmNames=[name])
    return {"id": name, "alarm_name": name, "arn": found["MetricAlarms"][0]["AlarmArn"]}


async def _read_alarm(clients: Clients, have: Mapping[str, Any]) -> bool:
    cloudwatch = await clients("cloudwatch")
    found = await cloudwatch.describe_alarms(AlarmNames=[have["alarm_name"]])
    return bool(found["MetricAlarms"])


async def _update_alarm(
    clients: Clients, have: Mapping[str, Any], old: Arguments, new: Arguments
) -> dict[str, Any]:
    await _put_alarm(clients, new)
    cloudwatch = await clients("cloudwatch")
    changed, removed = tag_changes(old, new)
    if changed:
        tags = [{"Key": key, "Value": value} for key, value in changed.items()]
        await cloudwatch.tag_resource(ResourceARN=have["arn"], Tags=tags)
    if removed:
        await cloudwatch.untag_resource(ResourceARN=have["arn"], TagKeys=removed)
    return dict(have)


async def _delete_alarm(clients: Clients, have: Mapping[str, Any]) -> None:
    cloudwatch = await clients("cloudwatch")
    await unless_gone(cloudwatch.delete_alarms(AlarmNames=[have["alarm_name"]]))


async def _put_dashboard(clients: Clients, new: Arguments) -> dict[str, Any]:
    cloudwatch, name = await clients("cloudwatch"), new["dashboard_name"]
    await cloudwatch.put_dashboard(DashboardName=name, DashboardBody=new["dashboard_body"])
    return {"id": name, "dashboard_name": name}


async def _read_dashboard(clients: Clients, have: Mapping[str, Any]) -> bool:
    cloudwatch, name = await clients("cloudwatch"), have["dashboard_name"]
    found = await cloudwatch.list_dashboards(DashboardNamePrefix=name)
    return any(entry["DashboardName"] == name for entry in found["DashboardEntries"])


async def _update_dashboard(
    clients: Clients, _: Mapping[str, Any], __: Arguments, new: Arguments
) -> dict[str, Any]:
    return await _put_dashboard(clients, new)


async def _delete_dashboard(clients: Clients, have: Mapping[str, Any]) -> None:
    cloudwatch = await clients("cloudwatch")
    await unless_gone(cloudwatch.delete_dashboards(DashboardNames=[have["dashboard_name"]]))


TYPES = {
    "aws_cloudwatch_log_group": Resource(
        schema=dict.fromkeys(("name", "retention_in_days", "kms_key_id", "tags")),
        create=_create_group,
        read=_read_group,
        update=_update_group,
        delete=_delete_group,
        replace_on=frozenset({"name"}),
        taggable=True,
    ),
    "aws_cloudwatch_log_stream": Resource(
        schema=dict.fromkeys(("name", "log_group_name")),
        create=_create_log_stream,
        read=_read_log_stream,
        delete=_delete_log_stream,
    ),
    "aws_cloudwatch_metric_alarm": Resource(
        schema=dict.fromkeys((*_ALARM, "dimensions", "tags")),
        create=_put_alarm,
        read=_read_alarm,
        update=_update_alarm,
        delete=_delete_alarm,
        replace_on=frozenset({"alarm_name"}),
        taggable=True,
    ),
    "aws_cloudwatch_dashboard": Resource(
        schema=dict.fromkeys(("dashboard_name", "dashboard_body")),
        create=_put_dashboard,
        read=_read_dashboard,
        update=_update_dashboard,
        delete=_delete_dashboard,
        replace_on=frozenset({"dashboard_name"}),
    ),
}
