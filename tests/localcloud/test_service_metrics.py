from __future__ import annotations

from typing import Any

import pytest
import pytest_asyncio

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest.fixture
def total(cloud):
    """Sum of all samples of a metric."""

    def of(namespace: str, metric: str, **dimensions: str) -> float:
        found = cloud.local.metrics.periods(namespace, metric, dimensions, 0, 2**33, 2**33)
        return sum(bucket.total for bucket in found.values())

    return of


@pytest_asyncio.fixture(loop_scope="module")
async def topic(cloud, name):
    sns, sqs = await cloud.client("sns"), await cloud.client("sqs")
    arn = (await sns.create_topic(Name=name))["TopicArn"]
    url = (await sqs.create_queue(QueueName=name))["QueueUrl"]
    queue = f"arn:aws:sqs:us-east-1:123456789012:{name}"
    await sns.subscribe(TopicArn=arn, Protocol="sqs", Endpoint=queue)
    return sns, arn, sqs, url


async def test_a_topic_counts_what_is_published_and_delivered(topic, name, total):
    sns, arn, *_ = topic
    await sns.publish(TopicArn=arn, Message="eight by")
    await sns.publish_batch(
        TopicArn=arn, PublishBatchRequestEntries=[{"Id": i, "Message": "m"} for i in "ab"]
    )

    assert total("AWS/SNS", "NumberOfMessagesPublished", TopicName=name) == 3
    assert total("AWS/SNS", "NumberOfNotificationsDelivered", TopicName=name) == 3
    assert total("AWS/SNS", "PublishSize", TopicName=name) == 10


async def test_a_topic_counts_what_is_filtered_out_and_what_fails(topic, name, total):
    sns, arn, sqs, url = topic
    await sqs.delete_queue(QueueUrl=url)
    other = f"arn:aws:sqs:us-east-1:123456789012:{name}"
    await sns.subscribe(
        TopicArn=arn, Protocol="sqs", Endpoint=f"{other}-filtered",
        Attributes={"FilterPolicy": '{"kind": ["wanted"]}'},
    )  # fmt: skip

    await sns.publish(TopicArn=arn, Message="m")

    assert total("AWS/SNS", "NumberOfNotificationsFailed", TopicName=name) == 1
    assert total("AWS/SNS", "NumberOfNotificationsFilteredOut", TopicName=name) == 1


async def test_a_queue_tells_how_many_messages_it_has(topic, cloud, name, eventually):
    _, _, sqs, url = topic
    store = cloud.local.metrics

    def newest(metric: str) -> float | None:
        found = store.periods("AWS/SQS", metric, {"QueueName": name}, 0, 2**33, 1)
        return found[max(found)].maximum if found else None

    def told(**counts: float) -> Any:
        return lambda: all(
            newest(f"ApproximateNumberOfMessages{k}") == v for k, v in counts.items()
        )

    await eventually(told(Visible=0, NotVisible=0, Delayed=0))
    for _ in range(2):
        await sqs.send_message(QueueUrl=url, MessageBody="m")
    await eventually(told(Visible=2))
    await sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=1)
    await eventually(told(Visible=1, NotVisible=1))
    assert newest("ApproximateAgeOfOldestMessage") > 0
