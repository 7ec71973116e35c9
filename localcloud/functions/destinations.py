"""Where Lambda sends records of what it gave up or finished: SQS, SNS, S3, Lambda, EventBridge."""

from __future__ import annotations

import datetime as dt
import json
import re
import uuid
from typing import TYPE_CHECKING, Any

from localcloud.http import AwsError

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from localcloud.seams import CloudContext

_ARN = re.compile(r"arn:aws:(sqs|sns|lambda|s3|events):([a-z0-9-]*):(\d*):(.+)")


def check_destination(target: str, served: Collection[str], what: str) -> None:
    """Refuses a destination that cannot be served.

    Raises:
        AwsError: InvalidParameterValueException.
    """
    found = _ARN.fullmatch(target)
    if found is None or found.group(1) not in served:
        raise AwsError(
            "InvalidParameterValueException",
            f"The provided destination config DestinationConfig is invalid: {target} is no ARN "
            f"that {what} can have; these are of {', '.join(sorted(served))}",
        )
    if target.endswith(".fifo"):
        raise AwsError(
            "InvalidParameterValueException",
            f"The provided destination {target} is a FIFO queue or topic, which is not supported",
        )


def iso(epoch_s: float) -> str:
    """A time as invocation records have it."""
    moment = dt.datetime.fromtimestamp(epoch_s, dt.UTC)
    return moment.strftime("%Y-%m-%dT%H:%M:%S.") + f"{moment.microsecond // 1000:03d}Z"


class Destinations:
    """Sends documents through the public APIs.

    Args:
        context: The cloud.
    """

    def __init__(self, context: CloudContext) -> None:
        self._context = context

    async def send(
        self,
        target: str,
        document: Mapping[str, Any],
        *,
        folder: str,
        payload: bytes | None = None,
    ) -> None:
        """Sends a document to an ARN.

        Args:
            target: The destination.
            document: An invocation record.
            folder: Where objects of an S3 destination go, below `aws/lambda/`.
            payload: What only S3 is sent besides, as the member `payload`.
        """
        service = target.split(":")[2]
        match service:
            case "s3":
                whole = dict(document) if payload is None else {
                    **document, "payload": payload.decode()
                }  # fmt: skip
                await self._object(target.rpartition(":")[2], folder, json.dumps(whole))
            case "events":
                await self._bus(target, document)
            case _:
                await self.message(target, json.dumps(document))

    async def message(
        self, target: str, text: str, attributes: Mapping[str, tuple[str, str]] | None = None
    ) -> None:
        """Sends a text to a queue, a topic or a function; attributes are (type, value) by name."""
        service, name = target.split(":")[2], target.rpartition(":")[2]
        told = {
            key: {"DataType": kind, "StringValue": value}
            for key, (kind, value) in (attributes or {}).items()
        }
        if service == "sqs":
            sqs = await self._context.client("sqs")
            # From the ARN: a role that may send need not be allowed to look queues up.
            url = f"{self._context.endpoint_url}/{target.split(':')[4]}/{name}"
            await sqs.send_message(QueueUrl=url, MessageBody=text, MessageAttributes=told)
        elif service == "sns":
            sns = await self._context.client("sns")
            await sns.publish(TopicArn=target, Message=text, MessageAttributes=told)
        else:
            client = await self._context.client("lambda")
            await client.invoke(FunctionName=target, InvocationType="Event", Payload=text.encode())

    async def _object(self, bucket: str, folder: str, text: str) -> None:
        now = dt.datetime.now(dt.UTC)
        key = f"aws/lambda/{folder}/{now:%Y/%m/%d/%Y-%m-%dT%H.%M.%S}-{uuid.uuid4()}"
        s3 = await self._context.client("s3")
        await s3.put_object(Bucket=bucket, Key=key, Body=text.encode())

    async def _bus(self, target: str, document: Mapping[str, Any]) -> None:
        events = await self._context.client("events")
        succeeded = document["requestContext"]["condition"] == "Success"
        answer = await events.put_events(
            Entries=[
                {
                    "Source": "lambda",
                    "DetailType": "Lambda Function Invocation Result - "
                    + ("Success" if succeeded else "Failure"),
                    "Resources": [target, document["requestContext"]["functionArn"]],
                    "Detail": json.dumps(document),
                    "EventBusName": target,
                }
            ]
        )
        if answer.get("FailedEntryCount"):
            raise AwsError("InternalFailure", f"EventBridge did not take it: {answer['Entries']}")
