from __future__ import annotations

import json
import time
from typing import Any

import pytest
import pytest_asyncio
from botocore.exceptions import ClientError
from hypothesis import given
from hypothesis import strategies as st

from localcloud.cloudwatch.rule import parse_rule
from localcloud.cloudwatch.suppression import Suppression
from localcloud.http import AwsError

shared = pytest.mark.asyncio(loop_scope="module")

STATES = {"hot": "ALARM", "wet": "OK", "odd name": "INSUFFICIENT_DATA"}


# The rule


@pytest.mark.parametrize(
    ("text", "holds"),
    [
        ("ALARM(hot)", True),
        ('ALARM("hot")', True),
        ("alarm('hot') and ok(wet)", True),
        ("OK(hot)", False),
        ("NOT ALARM(wet)", True),
        ('INSUFFICIENT_DATA("odd name")', True),
        ("ALARM(wet) AND ALARM(hot) OR TRUE", True),
        ("ALARM(wet) AND (ALARM(hot) OR TRUE)", False),
        ("NOT (ALARM(hot) AND OK(wet))", False),
        ("FALSE", False),
        ("ALARM(nobody) OR OK(nobody) OR INSUFFICIENT_DATA(nobody)", False),
    ],
)
def test_a_rule_is_read_as_documented(text, holds):
    assert parse_rule(text).holds(lambda name: STATES.get(name, "")) is holds


@pytest.mark.parametrize(
    "text", ["", "ALARM()", "ALARM(a) ALARM(b)", "ALARM(a) AND", "(TRUE", "TRUE)", "hot", "NOT"]
)
def test_a_rule_that_breaks_the_grammar_is_refused(text):
    with pytest.raises(AwsError, match="Invalid alarm rule expression"):
        parse_rule(text)


def test_a_rule_has_its_limits():
    parse_rule(" OR ".join(f"ALARM(a{n})" for n in range(100)))
    with pytest.raises(AwsError, match="more than 100 alarms"):
        parse_rule(" OR ".join(f"ALARM(a{n})" for n in range(101)))
    with pytest.raises(AwsError, match="500 elements"):
        parse_rule(" OR ".join(["TRUE"] * 501))


RULES = st.recursive(
    st.sampled_from(["TRUE", "FALSE", "ALARM(hot)", "OK(hot)", "OK(wet)"]),
    lambda inner: st.one_of(
        st.tuples(inner, st.sampled_from(["AND", "OR"]), inner).map(
            lambda parts: f"({' '.join(parts)})"
        ),
        inner.map(lambda text: f"NOT {text}"),
    ),
    max_leaves=12,
)


@given(RULES)
def test_a_rule_agrees_with_python(text):
    python = text.replace("AND", "and").replace("OR", "or").replace("NOT", "not")
    python = python.replace("TRUE", "True").replace("FALSE", "False")
    for name, state in (("hot", "ALARM"), ("wet", "OK")):
        for test in ("ALARM", "OK"):
            python = python.replace(f"{test}({name})", str(state == test))

    assert parse_rule(text).holds(lambda name: STATES[name]) is eval(python)  # noqa: S307


# Suppression


def entered(
    suppression: Suppression, state: str, now_s: float, *, suppressor: bool = False
) -> bool:
    return suppression.entered(state, suppressor_in_alarm=suppressor, wait_s=60, now_s=now_s)


def test_actions_wait_for_the_suppressor_and_are_taken_when_it_stays_calm():
    suppression = Suppression()

    assert not entered(suppression, "ALARM", 0)
    assert suppression.by == "WaitPeriod"
    assert not suppression.passed(59)
    assert suppression.passed(60)
    assert suppression.by is None
    assert entered(suppression, "OK", 100)


def test_a_suppressor_in_alarm_holds_back_and_its_extension_makes_up():
    suppression = Suppression()
    entered(suppression, "ALARM", 0)
    suppression.suppressor_changed(in_alarm=True, extension_s=30, now_s=10)

    assert suppression.by == "Alarm"
    assert not suppression.passed(1000)
    assert not suppression.suppressor_changed(in_alarm=False, extension_s=30, now_s=1000)
    assert suppression.by == "ExtensionPeriod"
    assert suppression.passed(1030)


def test_nothing_is_made_up_for_where_nothing_was_held_back():
    suppression = Suppression()
    suppression.suppressor_changed(in_alarm=True, extension_s=0, now_s=0)

    assert not suppression.suppressor_changed(in_alarm=False, extension_s=0, now_s=5)
    assert entered(suppression, "OK", 6)


def test_a_suppressor_without_extension_makes_up_at_once():
    suppression = Suppression()

    assert not entered(suppression, "ALARM", 0, suppressor=True)
    assert suppression.suppressor_changed(in_alarm=False, extension_s=0, now_s=5)


# Over the API


@pytest_asyncio.fixture(loop_scope="module")
async def client(cloud):
    return await cloud.client("cloudwatch")


class Alarms:
    """Two children, a topic whose messages come out of a queue, and composite alarms on them."""

    def __init__(self, cloud: Any, client: Any, name: str, eventually: Any) -> None:
        self._cloud, self._client, self.name, self._eventually = cloud, client, name, eventually
        self.one, self.two = f"{name}-one", f"{name}-two"

    async def create(self) -> None:
        sns, self._sqs = await self._cloud.client("sns"), await self._cloud.client("sqs")
        self.topic = (await sns.create_topic(Name=self.name))["TopicArn"]
        self._url = (await self._sqs.create_queue(QueueName=self.name))["QueueUrl"]
        queue = f"arn:aws:sqs:us-east-1:123456789012:{self.name}"
        await sns.subscribe(TopicArn=self.topic, Protocol="sqs", Endpoint=queue)
        for child in (self.one, self.two):
            await self._client.put_metric_alarm(
                AlarmName=child, Namespace=self.name, MetricName="m", Statistic="Sum", Period=86400,
                EvaluationPeriods=1, Threshold=1, ComparisonOperator="GreaterThanThreshold",
                TreatMissingData="ignore",
            )  # fmt: skip

    async def put(self, rule: str, **more: Any) -> None:
        await self._client.put_composite_alarm(
            AlarmName=self.name, AlarmRule=rule, AlarmActions=[self.topic], OKActions=[self.topic],
            **more,
        )  # fmt: skip

    async def set(self, name: str, state: str) -> None:
        await self._client.set_alarm_state(AlarmName=name, StateValue=state, StateReason="test")

    async def described(self) -> dict[str, Any]:
        answer = await self._client.describe_alarms(
            AlarmNames=[self.name], AlarmTypes=["CompositeAlarm"]
        )
        return answer["CompositeAlarms"][0]

    async def message(self) -> dict[str, Any]:
        async def receive() -> list[dict[str, Any]]:
            answer = await self._sqs.receive_message(QueueUrl=self._url, MaxNumberOfMessages=1)
            return answer.get("Messages", [])

        (found,) = await self._eventually(receive)
        await self._sqs.delete_message(QueueUrl=self._url, ReceiptHandle=found["ReceiptHandle"])
        return json.loads(json.loads(found["Body"])["Message"])

    async def waiting(self) -> int:
        answer = await self._sqs.get_queue_attributes(
            QueueUrl=self._url, AttributeNames=["ApproximateNumberOfMessages"]
        )
        return int(answer["Attributes"]["ApproximateNumberOfMessages"])


@pytest_asyncio.fixture(loop_scope="module")
async def alarms(cloud, client, name, eventually):
    made = Alarms(cloud, client, name, eventually)
    await made.create()
    return made


@shared
async def test_a_composite_alarm_follows_its_children_and_tells_its_topic(alarms, client):
    arn = f"arn:aws:cloudwatch:us-east-1:123456789012:alarm:{alarms.name}"
    await alarms.put(f"ALARM({alarms.one}) AND NOT ALARM({alarms.two})")
    first = await alarms.message()
    await alarms.set(alarms.one, "ALARM")
    second = await alarms.message()
    told = await alarms.described()

    assert (first["NewStateValue"], first["OldStateValue"]) == ("OK", "INSUFFICIENT_DATA")
    assert first["NewStateReason"] == f"{arn} was created and its alarm rule evaluates to OK"
    assert (second["NewStateValue"], second["AlarmRule"]) == ("ALARM", told["AlarmRule"])
    (child,) = second["TriggeringChildren"]
    assert (child["Arn"], child["State"]["Value"]) == (f"{arn}-one", "ALARM")
    assert told["StateReason"].startswith(f"{arn}-one transitioned to ALARM at ")
    (trigger,) = json.loads(told["StateReasonData"])["triggeringAlarms"]
    assert trigger["arn"] == f"{arn}-one"
    await alarms.set(alarms.two, "ALARM")
    assert (await alarms.message())["NewStateValue"] == "OK"
    history = await client.describe_alarm_history(
        AlarmName=alarms.name, HistoryItemType="StateUpdate"
    )
    newest = json.loads(history["AlarmHistoryItems"][0]["HistoryData"])
    assert newest["oldState"]["stateValue"] == "ALARM"
    assert newest["newState"]["stateReasonData"]["triggeringAlarms"][0]["arn"] == f"{arn}-two"


@shared
async def test_composite_alarms_stand_on_composite_alarms(alarms, client, name):
    await alarms.put(f"ALARM({alarms.one})")
    await client.put_composite_alarm(AlarmName=f"{name}-top", AlarmRule=f"ALARM({name}) OR FALSE")
    await alarms.set(alarms.one, "ALARM")

    async def names(**more: Any) -> list[str]:
        answer = await client.describe_alarms(**more)
        found = [*answer["MetricAlarms"], *answer["CompositeAlarms"]]
        return [alarm["AlarmName"] for alarm in found]

    top = await client.describe_alarms(AlarmNames=[f"{name}-top"], AlarmTypes=["CompositeAlarm"])
    assert top["CompositeAlarms"][0]["StateValue"] == "ALARM"
    assert await names(ChildrenOfAlarmName=name) == [alarms.one]
    assert await names(ParentsOfAlarmName=name) == [f"{name}-top"]
    assert await names(AlarmNamePrefix=name) == [alarms.one, alarms.two]
    with pytest.raises(ClientError, match="there are composite alarm"):
        await client.delete_alarms(AlarmNames=[name])
    with pytest.raises(ClientError, match="cycles of composite alarms are not served"):
        await alarms.put(f"ALARM({name}-top)")
    with pytest.raises(ClientError, match="cannot be combined with AlarmNamePrefix"):
        await names(ChildrenOfAlarmName=name, AlarmNamePrefix="x")


@shared
async def test_a_suppressor_in_alarm_holds_actions_back_until_its_extension_is_over(
    alarms, eventually
):
    await alarms.put(
        f"ALARM({alarms.one})", ActionsSuppressor=alarms.two,
        ActionsSuppressorWaitPeriod=0, ActionsSuppressorExtensionPeriod=1,
    )  # fmt: skip
    assert (await alarms.message())["NewStateValue"] == "OK"
    await alarms.set(alarms.two, "ALARM")
    await alarms.set(alarms.one, "ALARM")
    held = await alarms.described()

    assert (held["StateValue"], held["ActionsSuppressedBy"]) == ("ALARM", "Alarm")
    assert await alarms.waiting() == 0
    calm_s = time.time()
    await alarms.set(alarms.two, "OK")
    assert (await alarms.described())["ActionsSuppressedBy"] == "ExtensionPeriod"
    assert (await alarms.message())["NewStateValue"] == "ALARM"
    assert time.time() - calm_s >= 0.9
    assert "ActionsSuppressedBy" not in await alarms.described()


@shared
@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"AlarmRule": "ALARM(nobody)"}, "as alarms [nobody] in the alarm rule do not exist"),
        ({"AlarmRule": "maybe"}, "Invalid alarm rule expression"),
        ({"AlarmRule": "TRUE", "ActionsSuppressor": "x"}, "ActionsSuppressorWaitPeriod must be"),
        (
            {"AlarmRule": "TRUE", "ActionsSuppressorWaitPeriod": 5},
            "together with ActionsSuppressor",
        ),
        ({"AlarmRule": "TRUE", "AlarmActions": ["x"]}, "Invalid arn syntax: x"),
    ],
)
async def test_composite_settings_that_make_no_sense_are_refused(client, name, settings, message):
    with pytest.raises(ClientError, match="ValidationError") as caught:
        await client.put_composite_alarm(AlarmName=name, **settings)

    assert message in str(caught.value)
