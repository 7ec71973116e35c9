from __future__ import annotations

import json
from typing import Any

import pytest
import pytest_asyncio

from localcloud.functions import events

pytestmark = pytest.mark.asyncio(loop_scope="module")

# Fails as often as its event says, counting in a file.
CODE = """
    import os

    def handler(event, context):
        with open(event["file"], "a") as seen:
            seen.write(context.aws_request_id + "\\n")
        with open(event["file"]) as seen:
            if len(seen.readlines()) <= event["failures"]:
                raise ValueError("not yet")
        return {"done": event["failures"]}
"""


@pytest.fixture(autouse=True)
def quickly(monkeypatch):
    monkeypatch.setattr(events, "RETRY_S", (0.05, 0.1))
    monkeypatch.setattr(events, "THROTTLE_S", (0.05, 0.1))


class Sent:
    """A function that is invoked asynchronously, and a queue for what comes of it."""

    def __init__(self, cloud: Any, name: str, arn: str, url: str, seen: Any, wait: Any) -> None:
        self.cloud, self.name, self.queue_arn = cloud, name, arn
        self._url, self._seen, self._eventually = url, seen, wait

    async def configure(self, **config: Any) -> dict[str, Any]:
        client = await self.cloud.client("lambda")
        return await client.put_function_event_invoke_config(FunctionName=self.name, **config)

    async def invoke(self, failures: int) -> str:
        client = await self.cloud.client("lambda")
        payload = json.dumps({"file": str(self._seen), "failures": failures}).encode()
        answer = await client.invoke(
            FunctionName=self.name, InvocationType="Event", Payload=payload
        )
        assert answer["StatusCode"] == 202
        return answer["ResponseMetadata"]["RequestId"]

    async def message(self) -> dict[str, Any]:
        sqs = await self.cloud.client("sqs")

        async def receive() -> list[dict[str, Any]]:
            answer = await sqs.receive_message(QueueUrl=self._url, MessageAttributeNames=["All"])
            return answer.get("Messages", [])

        (message,) = await self._eventually(receive)
        return message

    def attempts(self) -> list[str]:
        return self._seen.read_text().splitlines() if self._seen.exists() else []


@pytest_asyncio.fixture(loop_scope="module")
async def sent_of(cloud, function_of, name, tmp_path, eventually):
    async def create(**settings: Any) -> Sent:
        sqs = await cloud.client("sqs")
        url = (await sqs.create_queue(QueueName=name))["QueueUrl"]
        got = await sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])
        arn = got["Attributes"]["QueueArn"]
        if settings.pop("dead", False):
            settings["DeadLetterConfig"] = {"TargetArn": arn}
        await function_of(CODE, **settings)
        return Sent(cloud, name, arn, url, tmp_path / "seen", eventually)

    return create


async def test_an_event_is_tried_three_times_with_one_id(sent_of, eventually):
    sent = await sent_of()
    request_id = await sent.invoke(failures=2)

    await eventually(lambda: len(sent.attempts()) == 3)
    assert set(sent.attempts()) == {request_id}


async def test_what_failed_to_the_end_goes_to_the_failure_destination(sent_of, samples):
    sent = await sent_of()
    await sent.configure(DestinationConfig={"OnFailure": {"Destination": sent.queue_arn}})
    request_id = await sent.invoke(failures=9)

    told = json.loads((await sent.message())["Body"])

    assert told.pop("timestamp").endswith("Z")
    assert told.pop("requestPayload")["failures"] == 9
    payload = told.pop("responsePayload")
    assert (payload["errorType"], payload["errorMessage"]) == ("ValueError", "not yet")
    assert told == {
        "version": "1.0",
        "requestContext": {
            "requestId": request_id,
            "functionArn": f"arn:aws:lambda:us-east-1:123456789012:function:{sent.name}:$LATEST",
            "condition": "RetriesExhausted",
            "approximateInvokeCount": 3,
        },
        "responseContext": {
            "statusCode": 200,
            "executedVersion": "$LATEST",
            "functionError": "Unhandled",
        },
    }
    assert await samples("AWS/Lambda", "AsyncEventsReceived", FunctionName=sent.name) == 1
    assert await samples("AWS/Lambda", "AsyncEventsDropped", FunctionName=sent.name) == 1


async def test_a_success_goes_to_the_success_destination(sent_of):
    sent = await sent_of()
    await sent.configure(DestinationConfig={"OnSuccess": {"Destination": sent.queue_arn}})
    await sent.invoke(failures=1)

    told = json.loads((await sent.message())["Body"])

    assert told["requestContext"]["condition"] == "Success"
    assert told["requestContext"]["approximateInvokeCount"] == 2
    assert told["responsePayload"] == {"done": 1}
    assert "functionError" not in told["responseContext"]


async def test_a_dead_letter_queue_gets_the_event_itself(sent_of):
    sent = await sent_of(dead=True)
    await sent.configure(MaximumRetryAttempts=0)
    request_id = await sent.invoke(failures=9)

    message = await sent.message()

    assert json.loads(message["Body"])["failures"] == 9
    attributes = {k: v["StringValue"] for k, v in message["MessageAttributes"].items()}
    assert attributes == {
        "RequestID": request_id,
        "ErrorCode": "200",
        "ErrorMessage": "not yet",
    }
    assert len(sent.attempts()) == 1


async def test_a_function_without_concurrency_gives_events_up_at_once(sent_of, cloud):
    sent = await sent_of()
    client = await cloud.client("lambda")
    await client.put_function_concurrency(FunctionName=sent.name, ReservedConcurrentExecutions=0)
    await sent.configure(DestinationConfig={"OnFailure": {"Destination": sent.queue_arn}})
    await sent.invoke(failures=0)

    told = json.loads((await sent.message())["Body"])

    assert told["requestContext"]["condition"] == "ZeroReservedConcurrency"
    assert sent.attempts() == []


async def test_throttled_events_wait_for_their_turn(sent_of, cloud, eventually):
    sent = await sent_of()
    client = await cloud.client("lambda")
    await client.put_function_concurrency(FunctionName=sent.name, ReservedConcurrentExecutions=1)
    for _ in range(4):
        await sent.invoke(failures=0)

    await eventually(lambda: len(sent.attempts()) == 4)


async def test_an_event_that_is_too_old_is_given_up(sent_of, eventually, monkeypatch):
    monkeypatch.setattr(events, "RETRY_S", (3600, 3600))
    monkeypatch.setattr(events, "DEFAULT_AGE_S", 1)
    sent = await sent_of(dead=True)
    await sent.invoke(failures=9)

    assert json.loads((await sent.message())["Body"])["failures"] == 9
    assert len(sent.attempts()) == 1


async def test_a_destination_can_be_a_function_and_a_bucket(sent_of, cloud, eventually):
    sent = await sent_of()
    s3 = await cloud.client("s3")
    await s3.create_bucket(Bucket=sent.name)
    await sent.configure(
        MaximumRetryAttempts=0,
        DestinationConfig={"OnFailure": {"Destination": f"arn:aws:s3:::{sent.name}"}},
    )
    await sent.invoke(failures=9)

    async def keys() -> list[str]:
        listed = await s3.list_objects_v2(Bucket=sent.name)
        return [entry["Key"] for entry in listed.get("Contents", [])]

    (key,) = await eventually(keys)
    assert key.startswith(f"aws/lambda/async/{sent.name}/20")


async def test_a_destination_that_does_not_exist_is_counted(sent_of, samples, eventually):
    sent = await sent_of()
    gone = sent.queue_arn + "-gone"
    await sent.configure(DestinationConfig={"OnSuccess": {"Destination": gone}})
    await sent.invoke(failures=0)

    async def failed() -> bool:
        total = await samples("AWS/Lambda", "DestinationDeliveryFailures", FunctionName=sent.name)
        return total == 1

    await eventually(failed)


async def test_the_configuration_is_kept_changed_and_deleted(sent_of, cloud):
    sent = await sent_of()
    client = await cloud.client("lambda")
    with pytest.raises(client.exceptions.ResourceNotFoundException):
        await client.get_function_event_invoke_config(FunctionName=sent.name)
    await sent.configure(MaximumRetryAttempts=1, MaximumEventAgeInSeconds=60)
    await client.update_function_event_invoke_config(
        FunctionName=sent.name, MaximumEventAgeInSeconds=90
    )

    got = await client.get_function_event_invoke_config(FunctionName=sent.name)
    listed = await client.list_function_event_invoke_configs(FunctionName=sent.name)

    assert (got["MaximumRetryAttempts"], got["MaximumEventAgeInSeconds"]) == (1, 90)
    assert got["FunctionArn"].endswith(f":{sent.name}:$LATEST")
    assert [c["MaximumEventAgeInSeconds"] for c in listed["FunctionEventInvokeConfigs"]] == [90]
    await client.delete_function_event_invoke_config(FunctionName=sent.name)
    with pytest.raises(client.exceptions.ResourceNotFoundException):
        await client.delete_function_event_invoke_config(FunctionName=sent.name)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"MaximumRetryAttempts": 3}, "MaximumRetryAttempts must be from 0 to 2"),
        ({"MaximumEventAgeInSeconds": 59}, "MaximumEventAgeInSeconds must be from 60"),
        (
            {"DestinationConfig": {"OnSuccess": {"Destination": "arn:aws:s3:::b"}}},
            "no ARN that OnSuccess of a function can have",
        ),
    ],
)
async def test_a_configuration_out_of_bounds_is_refused(config, message):
    with pytest.raises(events.AwsError, match=message):
        events.check_config(config)


async def test_an_event_beyond_one_megabyte_is_refused(sent_of, cloud):
    sent = await sent_of()
    client = await cloud.client("lambda")
    with pytest.raises(client.exceptions.RequestTooLargeException, match="1048576 bytes"):
        await client.invoke(
            FunctionName=sent.name,
            InvocationType="Event",
            Payload=b'"%s"' % (b"x" * 1024 * 1024),
        )
