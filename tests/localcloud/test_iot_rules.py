"""Topic rules: which messages they take, where those go, and what becomes of what fails."""

from __future__ import annotations

import base64
import json
from contextlib import AsyncExitStack

import pytest
import pytest_asyncio
from botocore.exceptions import ClientError

from localcloud.app import LocalCloud
from tests.localcloud.conftest import Cloud
from tests.localcloud.iot import Things

pytestmark = pytest.mark.asyncio(loop_scope="module")

ROLE = "arn:aws:iam::123456789012:role/rules"


@pytest_asyncio.fixture(loop_scope="module")
async def things(cloud):
    return Things(cloud)


@pytest_asyncio.fixture(loop_scope="module")
async def queue(cloud, name):
    sqs = await cloud.client("sqs")
    return (await sqs.create_queue(QueueName=name))["QueueUrl"]


@pytest.fixture
def rule(cloud, name):
    async def make(sql: str, *actions, number: int = 0, **more):
        iot = await cloud.client("iot")
        rule_name = f"{name.replace('-', '_')}_{number}"
        payload = {"sql": sql, "awsIotSqlVersion": "2016-03-23", "actions": list(actions), **more}
        await iot.create_topic_rule(ruleName=rule_name, topicRulePayload=payload)
        return rule_name

    return make


def to_queue(url: str, **more):
    return {"sqs": {"queueUrl": url, "roleArn": ROLE, **more}}


async def bodies(cloud, url, count, eventually):
    sqs, found = await cloud.client("sqs"), []

    async def enough():
        got = await sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10)
        for message in got.get("Messages", []):
            found.append(message["Body"])
            await sqs.delete_message(QueueUrl=url, ReceiptHandle=message["ReceiptHandle"])
        return len(found) >= count

    await eventually(enough)
    return found


async def test_readings_go_into_the_shards_of_their_keys(things, stream_of, name, rule, eventually):
    stream = await stream_of(1)
    to = {"kinesis": {"streamName": stream.name, "roleArn": ROLE, "partitionKey": "${topic(2)}"}}
    await rule(f"SELECT *, topic(2) AS device FROM '{name}/+/readings' WHERE t > 3", to)
    device = await things.device(name)
    async with device.connected() as client:
        for t in (5, 3, 4):
            await client.publish(f"{name}/d{t}/readings", b'{"t": %d}' % t, qos=1)
        await client.publish(f"{name}/d9/other", b'{"t": 9}', qos=1)
    inner = stream.inner.shards[0]
    await eventually(lambda: inner.end_position == 2)
    iterator = await stream.iterator("TRIM_HORIZON")
    records = (await stream.client.get_records(ShardIterator=iterator))["Records"]
    assert [(r["PartitionKey"], json.loads(r["Data"])) for r in records] == [
        ("d5", {"t": 5, "device": "d5"}), ("d4", {"t": 4, "device": "d4"}),
    ]  # fmt: skip


async def test_what_select_everything_takes_goes_on_byte_for_byte(
    cloud, things, queue, name, rule, eventually
):
    await rule(f"SELECT * FROM '{name}/#'", to_queue(queue, useBase64=True))
    device = await things.device(name)
    sent = [b'{ "a" :1.0}', b"{broken", b"\xff\x00"]
    async with device.connected() as client:
        for payload in sent:
            await client.publish(f"{name}/x", payload, qos=1)
    got = await bodies(cloud, queue, 3, eventually)
    assert sorted(base64.b64decode(body) for body in got) == sorted(sent)


async def test_basic_ingest_reaches_its_rule_and_no_subscriber(
    cloud, things, queue, name, rule, eventually
):
    sql = "SELECT topic() AS whole, topic(1) AS first, clientid() AS who FROM 'elsewhere'"
    made = await rule(sql, to_queue(queue))
    device = await things.device(name)
    before = things.counts().get("RuleNotFound", 0)
    async with device.connected() as client:
        await client.subscribe("#", qos=1)
        await client.publish(f"$aws/rules/{made}/a/b", b"{}", qos=1)
        await client.publish("$aws/rules/no_such_rule/a", b"{}", qos=1)
        await client.publish(f"{name}/seen", b"seen", qos=1)
        assert (await anext(client.messages)).payload == b"seen"
    (body,) = await bodies(cloud, queue, 1, eventually)
    assert json.loads(body) == {"whole": "a/b", "first": "a", "who": name}
    assert things.counts()["RuleNotFound"] == before + 1


async def test_a_rule_publishes_again_and_to_sns(cloud, things, queue, name, rule, eventually):
    sns, sqs = await cloud.client("sns"), await cloud.client("sqs")
    topic = (await sns.create_topic(Name=name))["TopicArn"]
    told = await sqs.get_queue_attributes(QueueUrl=queue, AttributeNames=["QueueArn"])
    await sns.subscribe(
        TopicArn=topic, Protocol="sqs", Endpoint=told["Attributes"]["QueueArn"],
        Attributes={"RawMessageDelivery": "true"},
    )  # fmt: skip
    await rule(
        f"SELECT a + 1 AS a FROM '{name}/in/+'",
        {"republish": {"topic": f"{name}/out/${{topic(3)}}", "roleArn": ROLE, "qos": 1}},
        {"sns": {"targetArn": topic, "roleArn": ROLE}},
    )
    device = await things.device(name)
    async with device.connected() as client:
        await client.subscribe(f"{name}/out/#", qos=1)
        await client.publish(f"{name}/in/k", b'{"a": 1}', qos=1)
        got = await anext(client.messages)
    assert (str(got.topic), got.payload) == (f"{name}/out/k", b'{"a":2}')
    assert await bodies(cloud, queue, 1, eventually) == ['{"a":2}']


async def test_rules_that_publish_to_each_other_end(cloud, things, queue, name, rule, eventually):
    again = {"republish": {"topic": f"{name}/loop", "roleArn": ROLE}}
    made = await rule(f"SELECT * FROM '{name}/loop'", again, errorAction=to_queue(queue))
    iotdata = await cloud.client("iot-data")
    await iotdata.publish(topic=f"{name}/loop", payload=b"{}", qos=1)
    (body,) = await bodies(cloud, queue, 1, eventually)
    told = json.loads(body)
    assert told["ruleName"] == made
    assert "came through 10 rules" in told["failures"][0]["errorMessage"]


async def test_what_an_action_cannot_do_goes_to_the_error_action_and_is_counted(
    cloud, things, queue, name, rule, eventually
):
    nowhere = {"kinesis": {"streamName": f"no-{name}", "roleArn": ROLE, "partitionKey": "k"}}
    made = await rule(f"SELECT * FROM '{name}/x'", nowhere, errorAction=to_queue(queue))
    device = await things.device(name)
    async with device.connected() as client:
        await client.publish(f"{name}/x", b"payload", qos=1)
    (body,) = await bodies(cloud, queue, 1, eventually)
    told = json.loads(body)
    assert base64.b64decode(told["base64OriginalPayload"]) == b"payload"
    assert (told["topic"], told["clientId"], told["ruleName"]) == (f"{name}/x", name, made)
    (failure,) = told["failures"]
    assert (failure["failedAction"], failure["failedResource"]) == ("KinesisAction", f"no-{name}")
    cloudwatch = await cloud.client("cloudwatch")
    dimensions = [{"Name": "RuleName", "Value": made}, {"Name": "ActionType", "Value": "Kinesis"}]

    async def counted():
        page = await cloudwatch.list_metrics(
            Namespace="AWS/IoT", MetricName="Failure", Dimensions=dimensions
        )
        return page["Metrics"]

    await eventually(counted)
    errors = [{"Name": "RuleName", "Value": made}, {"Name": "ActionType", "Value": "SQS"}]

    # The message is there before the rule has heard that it is.
    async def counted_error():
        page = await cloudwatch.list_metrics(MetricName="ErrorActionSuccess", Dimensions=errors)
        return page["Metrics"]

    await eventually(counted_error)


async def test_a_stream_that_throttles_is_tried_again(
    cloud, things, stream_of, name, rule, eventually
):
    stream = await stream_of(1)
    clock = stream.hold_clock()
    to = {"kinesis": {"streamName": stream.name, "roleArn": ROLE, "partitionKey": "k"}}
    await rule(f"SELECT * FROM '{name}/x'", to)
    await stream.fill(500)
    await stream.fill(500, 500)
    device = await things.device(name)
    throttled = stream.inner.shards[0].tally
    async with device.connected() as client:
        await client.publish(f"{name}/x", b"late", qos=1)
        await eventually(lambda: throttled.write_throttled or things.counts().get("Failure"))
        clock.now = 2.0
        await eventually(lambda: stream.inner.shards[0].end_position == 1001)


async def test_a_payload_that_the_statement_cannot_read_is_counted(things, queue, name, rule):
    await rule(f"SELECT *, 1 AS one FROM '{name}/x'", to_queue(queue))
    before = things.counts().get("ParseError", 0)
    device = await things.device(name)
    async with device.connected() as client:
        await client.publish(f"{name}/x", b"{broken", qos=1)
        await client.publish(f"{name}/y", b"the connection stands", qos=1)
    assert things.counts()["ParseError"] == before + 1


async def test_a_rule_that_is_replaced_disabled_or_deleted_works_so_at_once(
    cloud, things, queue, name, rule, eventually
):
    iot, iotdata = await cloud.client("iot"), await cloud.client("iot-data")
    made = await rule(f"SELECT 1 AS v FROM '{name}/x'", to_queue(queue))
    payload = {"sql": f"SELECT 2 AS v FROM '{name}/x'", "actions": [to_queue(queue)]}
    await iotdata.publish(topic=f"{name}/x", payload=b"{}")
    assert await bodies(cloud, queue, 1, eventually) == ['{"v":1}']
    await iot.replace_topic_rule(ruleName=made, topicRulePayload=payload)
    await iotdata.publish(topic=f"{name}/x", payload=b"{}")
    assert await bodies(cloud, queue, 1, eventually) == ['{"v":2}']
    await iot.replace_topic_rule(ruleName=made, topicRulePayload={**payload, "ruleDisabled": True})
    before = things.counts()["TopicMatch"]
    await iotdata.publish(topic=f"{name}/x", payload=b"{}")
    await iot.delete_topic_rule(ruleName=made)
    await iotdata.publish(topic=f"{name}/x", payload=b"{}")
    assert things.counts()["TopicMatch"] == before


@pytest.mark.parametrize(
    ("payload", "code", "words"),
    [
        ({"sql": "SELEC * FROM 'a'", "actions": []}, "SqlParseException", "SELECT is expected"),
        ({"sql": "SELECT teleport(a) FROM 'a'", "actions": []}, "SqlParseException", "teleport"),
        ({"sql": "SELECT * FROM 'a/#/b'", "actions": []}, "SqlParseException", "FROM: "),
        ({"sql": "SELECT * FROM 'a'", "actions": [{"s3": {
            "roleArn": ROLE, "bucketName": "b", "key": "k"}}]}, "InvalidRequestException", "s3"),
        ({"sql": "SELECT * FROM 'a'", "actions": [{"kinesis": {
            "roleArn": ROLE, "streamName": "s", "partitionKey": "${(}"}}]},
         "SqlParseException", "expression"),
    ],
    ids=["sql", "function", "filter", "action", "template"],
)  # fmt: skip
async def test_a_rule_that_could_not_run_is_refused(cloud, name, payload, code, words):
    iot = await cloud.client("iot")
    with pytest.raises(ClientError) as refusal:
        await iot.create_topic_rule(ruleName=name.replace("-", "_"), topicRulePayload=payload)
    assert refusal.value.response["Error"]["Code"] == code
    assert words in refusal.value.response["Error"]["Message"]
    listed = [rule["ruleName"] for rule in (await iot.list_topic_rules())["rules"]]
    assert name.replace("-", "_") not in listed


async def test_publishing_over_http_is_held_to_topics_and_sizes(cloud):
    iotdata = await cloud.client("iot-data")
    for topic, payload in (("a/+", b""), ("$aws/x", b""), ("a", bytes(131_073))):
        with pytest.raises(ClientError, match="InvalidRequestException"):
            await iotdata.publish(topic=topic, payload=payload)
    await iotdata.publish(topic="a", payload=bytes(131_072))


async def test_a_rule_may_only_do_what_its_role_may(eventually):
    async with LocalCloud() as local, AsyncExitStack() as open_clients:
        cloud = Cloud(local, open_clients)
        iam, iot = await cloud.client("iam"), await cloud.client("iot")
        sqs, kinesis = await cloud.client("sqs"), await cloud.client("kinesis")
        await kinesis.create_stream(StreamName="s", ShardCount=1)
        url = (await sqs.create_queue(QueueName="errors"))["QueueUrl"]
        trust = {"Effect": "Allow", "Action": "sts:AssumeRole",
                 "Principal": {"Service": "iot.amazonaws.com"}}  # fmt: skip
        role = await iam.create_role(
            RoleName="rules", AssumeRolePolicyDocument=json.dumps(
                {"Version": "2012-10-17", "Statement": [trust]}),
        )  # fmt: skip
        may = {"Effect": "Allow", "Action": "sqs:SendMessage", "Resource": "*"}

        async def let(*statements):
            await iam.put_role_policy(
                RoleName="rules", PolicyName="p",
                PolicyDocument=json.dumps({"Version": "2012-10-17", "Statement": statements}),
            )  # fmt: skip

        await let(may)
        arn = role["Role"]["Arn"]
        await iot.create_topic_rule(ruleName="r", topicRulePayload={
            "sql": "SELECT * FROM 'x'",
            "actions": [{"kinesis": {"roleArn": arn, "streamName": "s", "partitionKey": "k"}}],
            "errorAction": {"sqs": {"roleArn": arn, "queueUrl": url}},
        })  # fmt: skip
        iotdata = await cloud.client("iot-data")
        await iotdata.publish(topic="x", payload=b"{}")
        (body,) = await bodies(cloud, url, 1, eventually)
        assert "not authorized to perform: kinesis:PutRecord" in body
        await let(may, {"Effect": "Allow", "Action": "kinesis:PutRecord", "Resource": "*"})
        await iotdata.publish(topic="x", payload=b"{}")
        shard = cloud.service("kinesis")._control.streams["s"].shards[0]
        await eventually(lambda: shard.end_position == 1)
