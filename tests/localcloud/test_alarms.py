from __future__ import annotations

import json
import time
from typing import Any

import pytest
import pytest_asyncio
from botocore.exceptions import ClientError

from localcloud.cloudwatch.alarms import MetricAlarm
from localcloud.cloudwatch.clock import AlarmClock
from localcloud.cloudwatch.metrics import MetricStore

pytestmark = pytest.mark.asyncio(loop_scope="module")

START_S = int(time.time()) // 600 * 600 - 3600
SETTINGS: dict[str, Any] = {
    "Namespace": "Fleet",
    "MetricName": "temperature",
    "Statistic": "Maximum",
    "Period": 60,
    "EvaluationPeriods": 1,
    "Threshold": 100.0,
    "ComparisonOperator": "GreaterThanThreshold",
}


@pytest_asyncio.fixture(loop_scope="module")
async def client(cloud):
    return await cloud.client("cloudwatch")


@pytest.fixture
def watch(cloud):
    """An alarm on a clock of its own, over a store of its own."""

    def make(**settings: Any) -> tuple[AlarmClock, MetricAlarm, MetricStore]:
        store = MetricStore()
        clock = AlarmClock(cloud.local.context, store)
        alarm = MetricAlarm("hot", "arn", {**SETTINGS, "AlarmName": "hot", **settings})
        clock.alarms["hot"] = alarm
        return clock, alarm, store

    return make


@pytest.fixture
def topic(cloud, name, eventually):
    """A topic whose messages come out of a queue: (ARN, next message)."""

    async def make() -> tuple[str, Any]:
        sns, sqs = await cloud.client("sns"), await cloud.client("sqs")
        arn = (await sns.create_topic(Name=name))["TopicArn"]
        url = (await sqs.create_queue(QueueName=name))["QueueUrl"]
        attributes = await sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])
        await sns.subscribe(
            TopicArn=arn, Protocol="sqs", Endpoint=attributes["Attributes"]["QueueArn"]
        )

        async def receive() -> list[dict[str, Any]]:
            return (await sqs.receive_message(QueueUrl=url)).get("Messages", [])

        async def message() -> tuple[str, dict[str, Any]]:
            (found,) = await eventually(receive)
            await sqs.delete_message(QueueUrl=url, ReceiptHandle=found["ReceiptHandle"])
            envelope = json.loads(found["Body"])
            assert (envelope["Type"], envelope["TopicArn"]) == ("Notification", arn)
            return envelope["Subject"], json.loads(envelope["Message"])

        return arn, message

    return make


def put(store: MetricStore, second: int, value: float) -> None:
    store.put("Fleet", "temperature", value, timestamp_s=START_S + second)


def states_by_second(clock: AlarmClock, alarm: MetricAlarm, seconds: range) -> dict[int, str]:
    """The seconds at which the state changes."""
    changes, before = {}, alarm.state
    for second in seconds:
        clock.evaluate_due(START_S + second)
        if alarm.state != before:
            changes[second] = before = alarm.state
    return changes


# Evaluation of what the store holds


async def test_an_alarm_changes_when_the_period_has_ended_and_settled(watch):
    clock, alarm, store = watch()
    put(store, 10, 50.0)
    put(store, 70, 101.0)
    put(store, 130, 99.0)

    assert states_by_second(clock, alarm, range(200)) == {62: "OK", 122: "ALARM", 182: "OK"}


async def test_a_high_resolution_alarm_is_evaluated_every_ten_seconds(watch):
    clock, alarm, store = watch(Period=10)
    for second, value in ((3, 50.0), (13, 101.0), (29, 50.0), (35, 102.0)):
        put(store, second, value)

    changes = states_by_second(clock, alarm, range(50))

    assert changes == {12: "OK", 22: "ALARM", 32: "OK", 42: "ALARM"}


async def test_m_out_of_n_points_raise_and_clear_an_alarm(watch):
    clock, alarm, store = watch(Period=10, EvaluationPeriods=3, DatapointsToAlarm=2)
    for index, value in enumerate([1.0, 101.0, 1.0, 101.0, 1.0, 1.0, 1.0]):
        put(store, index * 10, value)

    changes = states_by_second(clock, alarm, range(75))

    assert changes == {12: "OK", 42: "ALARM", 52: "OK"}


@pytest.mark.parametrize(
    ("missing", "expected"),
    [
        ("missing", {22: "ALARM", 52: "INSUFFICIENT_DATA"}),
        ("ignore", {22: "ALARM"}),
        ("breaching", {2: "ALARM"}),
        ("notBreaching", {2: "OK", 22: "ALARM", 52: "OK"}),
    ],
)
async def test_silence_is_taken_as_treat_missing_data_says(watch, missing, expected):
    clock, alarm, store = watch(Period=10, TreatMissingData=missing)
    put(store, 15, 101.0)

    assert states_by_second(clock, alarm, range(100)) == expected


async def test_an_alarm_on_a_percentile_and_on_metric_math(watch):
    clock, alarm, store = watch(Period=10, Statistic=None, ExtendedStatistic="p90")
    for value in [1.0] * 8 + [200.0] * 2:
        put(store, 5, value)
    assert states_by_second(clock, alarm, range(15)) == {12: "ALARM"}

    where = {"Namespace": "Fleet", "MetricName": "temperature"}
    stat = {"Metric": where, "Period": 10, "Stat": "Sum"}
    count = {"Metric": where, "Period": 10, "Stat": "SampleCount"}
    clock, alarm, store = watch(
        Metrics=[
            {"Id": "total", "MetricStat": stat, "ReturnData": False},
            {"Id": "count", "MetricStat": count, "ReturnData": False},
            {"Id": "e", "Expression": "total / count"},
        ]
    )
    alarm.settings.pop("Period")
    put(store, 5, 150.0)
    put(store, 6, 52.0)
    put(store, 15, 99.0)
    assert states_by_second(clock, alarm, range(30)) == {12: "ALARM", 22: "OK"}


async def test_a_percentile_of_few_samples_is_not_judged_where_the_alarm_says_so(watch):
    for low, expected in (("evaluate", {12: "ALARM"}), ("ignore", {22: "ALARM"})):
        clock, alarm, store = watch(
            Period=10, Statistic=None, ExtendedStatistic="p50", EvaluateLowSampleCountPercentile=low
        )
        for second, samples in ((5, 19), (15, 20)):
            for _ in range(samples):
                put(store, second, 101.0)
        assert states_by_second(clock, alarm, range(25)) == expected


async def test_a_state_that_was_set_lasts_until_the_next_evaluation(watch):
    clock, alarm, store = watch(Period=10)
    put(store, 5, 1.0)
    assert states_by_second(clock, alarm, range(15)) == {12: "OK"}
    put(store, 15, 1.0)
    clock.set_state(alarm, "ALARM", "a drill")

    assert states_by_second(clock, alarm, range(15, 30)) == {22: "OK"}


async def test_a_change_tells_its_reason_with_the_points(watch):
    clock, alarm, store = watch(Period=10)
    put(store, 5, 101.5)

    states_by_second(clock, alarm, range(15))

    stamp = time.strftime("%d/%m/%y %H:%M:%S", time.gmtime(START_S))
    data = json.loads(alarm.reason_data)
    assert alarm.reason == (
        f"Threshold Crossed: 1 out of the last 1 datapoints [101.5 ({stamp})] was greater than "
        "the threshold (100.0) (minimum 1 datapoint for OK -> ALARM transition)."
    )
    assert (data["period"], data["threshold"], data["recentDatapoints"]) == (10, 100.0, [101.5])
    assert (data["statistic"], data["version"]) == ("Maximum", "1.0")
    (point,) = data["evaluatedDatapoints"]
    assert (point["sampleCount"], point["value"]) == (1.0, 101.5)
    entry = next(item for item in clock.history if item["HistoryItemType"] == "StateUpdate")
    history = json.loads(entry["HistoryData"])
    assert history == {
        "version": "1.0",
        "oldState": {
            "stateValue": "INSUFFICIENT_DATA",
            "stateReason": "Unchecked: Initial alarm creation",
        },
        "newState": {
            "stateValue": "ALARM",
            "stateReason": alarm.reason,
            "stateReasonData": data,
        },
    }


# Over the API


async def test_a_metric_beyond_the_threshold_reaches_the_queue_behind_the_topic(
    client, name, topic, eventually
):
    arn, message = await topic()
    await client.put_metric_alarm(
        **{**SETTINGS, "Namespace": name, "Period": 10},
        AlarmName=name,
        AlarmDescription="too hot",
        AlarmActions=[arn],
        TreatMissingData="notBreaching",
        Dimensions=[{"Name": "site", "Value": "north"}],
    )
    await client.put_metric_data(
        Namespace=name,
        MetricData=[
            {
                "MetricName": "temperature",
                "Value": 101.5,
                "Unit": "Count",
                "Dimensions": [{"Name": "site", "Value": "north"}],
            }
        ],
    )

    subject, told = await message()
    (alarm,) = (await client.describe_alarms(AlarmNames=[name]))["MetricAlarms"]

    assert subject == f'ALARM: "{name}" in US East (N. Virginia)'
    assert alarm["AlarmArn"] == f"arn:aws:cloudwatch:us-east-1:123456789012:alarm:{name}"
    assert {key: told[key] for key in told if key not in {"Trigger", "StateChangeTime"}} == {
        "AlarmName": name,
        "AlarmDescription": "too hot",
        "AWSAccountId": "123456789012",
        "AlarmConfigurationUpdatedTimestamp": told["AlarmConfigurationUpdatedTimestamp"],
        "NewStateValue": "ALARM",
        "NewStateReason": alarm["StateReason"],
        "Region": "US East (N. Virginia)",
        "AlarmArn": alarm["AlarmArn"],
        "OldStateValue": told["OldStateValue"],
        "OKActions": [],
        "AlarmActions": [arn],
        "InsufficientDataActions": [],
    }
    assert told["OldStateValue"] in {"OK", "INSUFFICIENT_DATA"}
    assert told["Trigger"] == {
        "MetricName": "temperature",
        "Namespace": name,
        "StatisticType": "Statistic",
        "Statistic": "MAXIMUM",
        "Unit": None,
        "Dimensions": [{"value": "north", "name": "site"}],
        "Period": 10,
        "EvaluationPeriods": 1,
        "ComparisonOperator": "GreaterThanThreshold",
        "Threshold": 100.0,
        "TreatMissingData": "notBreaching",
        "EvaluateLowSampleCountPercentile": "",
    }


async def test_set_alarm_state_carries_out_the_actions_of_the_new_state(client, name, topic):
    arn, message = await topic()
    await client.put_metric_alarm(**SETTINGS, AlarmName=name, AlarmActions=[arn], OKActions=[arn])

    async def move(state: str) -> None:
        await client.set_alarm_state(AlarmName=name, StateValue=state, StateReason=f"to {state}")

    await move("ALARM")
    first = await message()
    await move("ALARM")
    await move("INSUFFICIENT_DATA")
    await move("OK")
    second = await message()
    history = await client.describe_alarm_history(AlarmName=name, HistoryItemType="StateUpdate")

    assert first[0].startswith("ALARM: ")
    assert (first[1]["OldStateValue"], first[1]["NewStateReason"]) == (
        "INSUFFICIENT_DATA",
        "to ALARM",
    )
    assert (second[1]["OldStateValue"], second[1]["NewStateValue"]) == ("INSUFFICIENT_DATA", "OK")
    assert [item["HistorySummary"] for item in history["AlarmHistoryItems"]] == [
        "Alarm updated from INSUFFICIENT_DATA to OK",
        "Alarm updated from ALARM to INSUFFICIENT_DATA",
        "Alarm updated from INSUFFICIENT_DATA to ALARM",
    ]


async def test_disabled_actions_are_not_carried_out(client, name, topic):
    arn, message = await topic()
    await client.put_metric_alarm(**SETTINGS, AlarmName=name, AlarmActions=[arn], OKActions=[arn])
    await client.disable_alarm_actions(AlarmNames=[name])
    await client.set_alarm_state(AlarmName=name, StateValue="ALARM", StateReason="quiet")
    await client.enable_alarm_actions(AlarmNames=[name])
    await client.set_alarm_state(AlarmName=name, StateValue="OK", StateReason="loud")

    assert (await message())[1]["NewStateReason"] == "loud"


async def test_an_action_that_is_not_served_is_in_the_history(client, name, eventually):
    action = "arn:aws:automate:us-east-1:ec2:stop"
    await client.put_metric_alarm(**SETTINGS, AlarmName=name, AlarmActions=[action])
    await client.set_alarm_state(AlarmName=name, StateValue="ALARM", StateReason="r")

    async def actions() -> list[dict[str, Any]]:
        answer = await client.describe_alarm_history(AlarmName=name, HistoryItemType="Action")
        return answer["AlarmHistoryItems"]

    (item,) = await eventually(actions)
    assert item["HistorySummary"].endswith('Received error: "only SNS topics are served locally"')


async def test_alarms_are_listed_by_name_prefix_and_state_and_deleted(client, name):
    for suffix in ("a", "b"):
        await client.put_metric_alarm(**SETTINGS, AlarmName=f"{name}-{suffix}")
    await client.set_alarm_state(AlarmName=f"{name}-b", StateValue="ALARM", StateReason="r")

    async def names(**more: Any) -> list[str]:
        found = (await client.describe_alarms(**more))["MetricAlarms"]
        return [alarm["AlarmName"] for alarm in found]

    assert await names(AlarmNamePrefix=name) == [f"{name}-a", f"{name}-b"]
    assert await names(AlarmNamePrefix=name, StateValue="ALARM") == [f"{name}-b"]
    await client.delete_alarms(AlarmNames=[f"{name}-a"])
    assert await names(AlarmNamePrefix=name) == [f"{name}-b"]


async def test_what_becomes_of_an_alarm_is_in_its_history(client, name, topic, eventually):
    arn, message = await topic()
    await client.put_metric_alarm(**SETTINGS, AlarmName=name)
    await client.put_metric_alarm(**SETTINGS, AlarmName=name, AlarmActions=[arn])
    await client.set_alarm_state(AlarmName=name, StateValue="ALARM", StateReason="r")
    told = (await message())[1]

    async def items() -> list[dict[str, Any]] | None:
        answer = await client.describe_alarm_history(
            AlarmName=name, ScanBy="TimestampAscending", AlarmTypes=["MetricAlarm"]
        )
        found = answer["AlarmHistoryItems"]
        return found if len(found) >= 4 else None

    created, updated, changed, acted = await eventually(items)
    await client.delete_alarms(AlarmNames=[name])
    answer = await client.describe_alarm_history(AlarmName=name)
    deleted = answer["AlarmHistoryItems"][0]

    data = json.loads(created["HistoryData"])
    assert (data["type"], data["createdAlarm"]["okactions"]) == ("Create", [])
    assert data["createdAlarm"]["metricName"] == "temperature"
    assert json.loads(updated["HistoryData"])["updatedAlarm"]["alarmActions"] == [arn]
    assert changed["HistorySummary"] == "Alarm updated from INSUFFICIENT_DATA to ALARM"
    action = json.loads(acted["HistoryData"])
    assert (action["actionState"], action["notificationResource"]) == ("Succeeded", arn)
    assert json.loads(action["publishedMessage"]) == told
    assert deleted["HistorySummary"] == f'Alarm "{name}" deleted'


async def test_alarms_are_found_by_metric_and_carry_tags(client, name, code_of):
    settings = {**SETTINGS, "Namespace": name}
    tags = [{"Key": "team", "Value": "cold"}]
    await client.put_metric_alarm(**settings, AlarmName=name, Tags=tags)
    await client.put_metric_alarm(**{**settings, "Statistic": "Sum"}, AlarmName=f"{name}-b")

    async def found(**more: Any) -> list[str]:
        answer = await client.describe_alarms_for_metric(
            Namespace=name, MetricName="temperature", **more
        )
        return sorted(alarm["AlarmName"] for alarm in answer["MetricAlarms"])

    (alarm,) = (await client.describe_alarms(AlarmNames=[name]))["MetricAlarms"]
    arn = alarm["AlarmArn"]
    await client.tag_resource(ResourceARN=arn, Tags=[{"Key": "more", "Value": "1"}])
    await client.untag_resource(ResourceARN=arn, TagKeys=["team"])

    assert await found() == [name, f"{name}-b"]
    assert await found(Statistic="Sum") == [f"{name}-b"]
    assert (await client.list_tags_for_resource(ResourceARN=arn))["Tags"] == [
        {"Key": "more", "Value": "1"}
    ]
    with pytest.raises(ClientError) as caught:
        await client.list_tags_for_resource(ResourceARN=f"{arn}-none")
    assert code_of(caught.value) == "ResourceNotFoundException"


@pytest.mark.parametrize(
    ("queries", "message"),
    [
        ([{"Id": "e", "Expression": "SEARCH('{n} m', 'Sum', 60)"}], "SEARCH is not supported"),
        ([{"Id": "e", "Expression": "m + 1"}], "unknown id 'm'"),
        ([{"Id": "e", "Expression": "1 +"}], "Error in expression '1 +'"),
        ([{"Id": "a", "Expression": "TIME_SERIES(1)"}, {"Id": "b", "Expression": "TIME_SERIES(1)"}],
         "Exactly one element"),
    ],
)  # fmt: skip
async def test_metric_math_that_cannot_alarm_is_refused(client, name, queries, message):
    kept = ("EvaluationPeriods", "Threshold", "ComparisonOperator")
    with pytest.raises(ClientError, match="ValidationError") as caught:
        await client.put_metric_alarm(
            AlarmName=name, Metrics=queries, **{key: SETTINGS[key] for key in kept}
        )

    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"Period": 15}, "Period must be 10, 20, 30 or a multiple of 60"),
        ({"DatapointsToAlarm": 2}, "DatapointsToAlarm must not exceed EvaluationPeriods"),
        ({"TreatMissingData": "maybe"}, "Option maybe is not supported"),
        ({"ComparisonOperator": "GreaterThanUpperThreshold"}, "anomaly detection"),
        ({"Statistic": None, "ExtendedStatistic": "q90"}, "The value q90 for parameter"),
        ({"AlarmActions": ["topic"]}, "Invalid arn syntax: topic"),
        ({"EvaluationPeriods": 1441}, "cannot be checked across more than a day"),
        ({"EvaluationPeriods": 169, "Period": 3600}, "cannot be checked across more than seven"),
        ({"EvaluateLowSampleCountPercentile": "x"}, "Option x is not supported for Evaluate"),
        ({"AlarmDescription": "d" * 1025}, "length less than or equal to 1024"),
        ({"Threshold": None}, "Threshold must be specified"),
        ({"MetricName": None}, "MetricName and Namespace, or Metrics, are required"),
    ],
)
async def test_settings_that_make_no_sense_are_refused(client, name, code_of, change, message):
    settings = {k: v for k, v in {**SETTINGS, **change}.items() if v is not None}

    with pytest.raises(ClientError) as caught:
        await client.put_metric_alarm(**settings, AlarmName=name)

    assert code_of(caught.value) == "ValidationError"
    assert message in str(caught.value)


async def test_an_alarm_that_is_not_there_is_not_found(client, code_of):
    with pytest.raises(ClientError) as caught:
        await client.set_alarm_state(AlarmName="nothing", StateValue="OK", StateReason="r")

    assert code_of(caught.value) == "ResourceNotFound"
