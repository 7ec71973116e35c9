"""SQS queues: what receivers see, and that nobody waits for somebody else's poll."""

from __future__ import annotations

import asyncio
import json
from types import SimpleNamespace
from typing import Any

import pytest
import pytest_asyncio
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from localcloud.queues.messages import Messages

pytestmark = pytest.mark.asyncio(loop_scope="module")


class QueueClient:
    def __init__(self, client: Any, url: str) -> None:
        self.client, self.url = client, url

    async def send(self, *bodies: str, **more: Any) -> None:
        for body in bodies:
            await self.client.send_message(QueueUrl=self.url, MessageBody=body, **more)

    async def receive(self, **more: Any) -> list[dict[str, Any]]:
        answer = await self.client.receive_message(
            QueueUrl=self.url, MaxNumberOfMessages=10, **more
        )
        return answer.get("Messages", [])

    async def bodies(self, **more: Any) -> list[str]:
        return [message["Body"] for message in await self.receive(**more)]

    async def counts(self) -> tuple[int, int, int]:
        names = ["", "NotVisible", "Delayed"]
        names = [f"ApproximateNumberOfMessages{name}" for name in names]
        answer = await self.client.get_queue_attributes(QueueUrl=self.url, AttributeNames=names)
        return tuple(int(answer["Attributes"][name]) for name in names)


@pytest_asyncio.fixture(loop_scope="module")
async def queue_of(cloud, name):
    client = await cloud.client("sqs")

    async def create(suffix: str = "", **attributes: str) -> QueueClient:
        made = await client.create_queue(QueueName=name + suffix, Attributes=attributes)
        return QueueClient(client, made["QueueUrl"])

    return create


async def test_messages_are_received_once_until_their_time_is_over(queue_of, eventually):
    queue = await queue_of(VisibilityTimeout="1")
    await queue.send("a", "b", "c")

    assert await queue.bodies() == ["a", "b", "c"]
    assert await queue.counts() == (0, 3, 0)
    assert await queue.bodies() == []
    again = await eventually(lambda: queue.receive(AttributeNames=["ApproximateReceiveCount"]))
    assert [m["Attributes"]["ApproximateReceiveCount"] for m in again] == ["2"] * 3


async def test_a_deleted_message_is_gone_whichever_handle_it_was_deleted_by(queue_of):
    queue = await queue_of(VisibilityTimeout="0")
    await queue.send("a")
    (first,) = await queue.receive()
    await queue.receive()

    await queue.client.delete_message(QueueUrl=queue.url, ReceiptHandle=first["ReceiptHandle"])
    await queue.client.delete_message(QueueUrl=queue.url, ReceiptHandle=first["ReceiptHandle"])
    assert await queue.bodies() == []
    assert await queue.counts() == (0, 0, 0)
    with pytest.raises(queue.client.exceptions.ReceiptHandleIsInvalid):
        await queue.client.delete_message(QueueUrl=queue.url, ReceiptHandle="nonsense")


async def test_a_receiver_may_give_a_message_back(queue_of):
    queue = await queue_of()
    await queue.send("a")
    (message,) = await queue.receive()

    change = queue.client.change_message_visibility
    handle = {"QueueUrl": queue.url, "ReceiptHandle": message["ReceiptHandle"]}
    await change(**handle, VisibilityTimeout=0)
    assert await queue.counts() == (1, 0, 0)
    await change(**handle, VisibilityTimeout=100)
    assert await queue.counts() == (0, 1, 0)
    await change(**handle, VisibilityTimeout=0)
    assert await queue.bodies() == ["a"]
    with pytest.raises(queue.client.exceptions.ClientError, match="43200"):
        await change(**handle, VisibilityTimeout=43_200)


async def test_a_delayed_message_comes_when_it_is_due(queue_of):
    queue = await queue_of()
    await queue.send("late", DelaySeconds=1)

    assert await queue.counts() == (0, 0, 1)
    assert await queue.bodies(WaitTimeSeconds=20) == ["late"]


async def test_what_is_received_too_often_goes_to_the_dead_letter_queue(queue_of):
    dead = await queue_of("-dead")
    arn = (await dead.client.get_queue_attributes(QueueUrl=dead.url, AttributeNames=["QueueArn"]))[
        "Attributes"
    ]["QueueArn"]
    policy = json.dumps({"deadLetterTargetArn": arn, "maxReceiveCount": 2})
    queue = await queue_of(VisibilityTimeout="0", RedrivePolicy=policy)
    await queue.send("poison")

    assert [await queue.bodies() for _ in range(3)] == [["poison"], ["poison"], []]
    assert await dead.bodies() == ["poison"]


async def test_a_purged_queue_is_empty(queue_of):
    queue = await queue_of()
    await queue.send("a", "b")
    await queue.receive()
    await queue.send("c", DelaySeconds=100)
    await queue.client.purge_queue(QueueUrl=queue.url)

    assert await queue.counts() == (0, 0, 0)
    await queue.send("d")
    assert await queue.bodies() == ["d"]


async def test_attributes_of_messages_are_those_that_were_asked_for(queue_of):
    queue = await queue_of(VisibilityTimeout="0")
    value = {"DataType": "String", "StringValue": "v"}
    await queue.send("a", MessageAttributes={"wanted": value, "other": value})

    (message,) = await queue.receive(MessageAttributeNames=["wanted"])
    assert set(message["MessageAttributes"]) == {"wanted"}
    (message,) = await queue.receive(MessageAttributeNames=["All"])
    assert set(message["MessageAttributes"]) == {"wanted", "other"}


async def test_receivers_that_wait_hold_up_nobody_and_get_what_is_sent(cloud, queue_of):
    queues = [await queue_of(f"-{n}") for n in range(8)]
    polls = [asyncio.create_task(q.bodies(WaitTimeSeconds=20)) for q in queues]
    waiting = cloud.local._polls._waiting
    while len(waiting) < len(queues):
        await asyncio.sleep(0)
        # moto answers others meanwhile.
        await (await cloud.client("s3")).list_buckets()

    for number, queue in enumerate(queues):
        await queue.send(str(number))
    assert await asyncio.gather(*polls) == [[str(n)] for n in range(len(queues))]
    assert waiting == {}


async def test_a_message_of_a_topic_wakes_a_receiver(cloud, queue_of, name):
    queue = await queue_of()
    sns = await cloud.client("sns")
    topic = (await sns.create_topic(Name=name))["TopicArn"]
    answer = await queue.client.get_queue_attributes(
        QueueUrl=queue.url, AttributeNames=["QueueArn"]
    )
    await sns.subscribe(
        TopicArn=topic, Protocol="sqs", Endpoint=answer["Attributes"]["QueueArn"],
        Attributes={"RawMessageDelivery": "true"},
    )  # fmt: skip
    poll = asyncio.create_task(queue.bodies(WaitTimeSeconds=20))

    await sns.publish(TopicArn=topic, Message="hello")
    assert await poll == ["hello"]


async def test_the_queues_own_waiting_time_counts(cloud, queue_of, eventually):
    queue = await queue_of(ReceiveMessageWaitTimeSeconds="20")
    poll = asyncio.create_task(queue.bodies())
    await eventually(lambda: cloud.local._polls._waiting)
    await queue.send("a")

    assert await poll == ["a"]


class Model(RuleBasedStateMachine):
    """`Messages` against a list that is searched whole, with a clock of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.kept, self.now = Messages(), 0.0
        # Of each message: when it is visible next, and its handles.
        self.model: list[dict[str, Any]] = []
        self.handles = 0

    def message(self, delayed_until: float) -> Any:
        message = SimpleNamespace(delayed_until=delayed_until, receipt_handle=None, visible_at=0.0)

        def received(*, visibility_timeout: int) -> None:
            self.handles += 1
            message.receipt_handle = str(self.handles)
            message.visible_at = self.now + visibility_timeout * 1000

        message.mark_received = received
        return message

    @rule(delay_s=st.integers(0, 3))
    def send(self, delay_s: int) -> None:
        due = self.now + delay_s * 1000
        message = self.message(due)
        self.kept.add(message, self.now)
        self.model.append({"message": message, "due": due, "handles": [], "taken": False})

    @rule(seconds=st.integers(1, 3))
    def wait(self, seconds: int) -> None:
        self.now += seconds * 1000

    @rule(visibility_s=st.integers(0, 3))
    def receive(self, visibility_s: int) -> None:
        self.kept.settle(self.now)
        entry = self.kept.take()
        if entry is None:
            assert not [m for m in self.model if m["due"] <= self.now]
            return
        (found,) = [m for m in self.model if m["message"] is entry.message]
        assert found["due"] <= self.now
        self.kept.receive(entry, visibility_s)
        found.update(due=self.now + visibility_s * 1000, taken=True)
        found["handles"].append(entry.message.receipt_handle)

    @rule(data=st.data(), visibility_s=st.integers(0, 3))
    def change(self, data: st.DataObject, visibility_s: int) -> None:
        handles = [h for m in self.model for h in m["handles"]]
        if handles:
            handle = data.draw(st.sampled_from(handles))
            self.kept.settle(self.now)
            due = self.now + visibility_s * 1000
            self.kept.show_at(self.kept.by_handle(handle), due, self.now)
            (found,) = [m for m in self.model if handle in m["handles"]]
            found.update(due=due, taken=True)

    @rule(data=st.data())
    def delete(self, data: st.DataObject) -> None:
        handles = [h for m in self.model for h in m["handles"]]
        if handles:
            handle = data.draw(st.sampled_from(handles))
            assert self.kept.delete(handle)
            assert self.kept.delete(handle)
            self.model = [m for m in self.model if handle not in m["handles"]]

    @invariant()
    def agree(self) -> None:
        self.kept.settle(self.now)
        hidden = [m for m in self.model if m["due"] > self.now]
        assert self.kept.counts["visible"] == len(self.model) - len(hidden)
        assert self.kept.counts["received"] == len([m for m in hidden if m["taken"]])
        assert self.kept.counts["delayed"] == len([m for m in hidden if not m["taken"]])
        held = {id(entry.message) for entry in self.kept}
        assert held == {id(m["message"]) for m in self.model}


TestModel = Model.TestCase


@given(st.lists(st.text(max_size=3)))
async def test_order_is_that_of_sending(bodies):
    kept = Messages()
    for body in bodies:
        kept.add(SimpleNamespace(body=body, delayed_until=0.0), 1.0)
    found = []
    while (entry := kept.take()) is not None:
        found.append(entry.message.body)
        kept.drop(entry)

    assert found == bodies
