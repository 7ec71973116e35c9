"""Registered consumers of enhanced fan-out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from localcloud.http import AwsError
from localcloud.kinesis.listing import make_token, read_token, require_creation
from localcloud.kinesis.stream import Consumer
from localcloud.kinesis.tags import checked_tags

if TYPE_CHECKING:
    from collections.abc import Callable

    from localcloud.kinesis.control import ControlPlane
    from localcloud.kinesis.stream import Stream

MAX_CONSUMERS = 20
MAX_COMMITTED_CONSUMERS = 50
_LISTED = 100


class Consumers:
    """Operations on the consumers of streams.

    Args:
        control: Where the streams are.
    """

    def __init__(self, control: ControlPlane) -> None:
        self._control = control

    def operations(self) -> dict[str, Callable[[dict[str, Any]], Any]]:
        """The operations by API name."""
        return {
            "RegisterStreamConsumer": self._register,
            "DeregisterStreamConsumer": self._deregister,
            "DescribeStreamConsumer": self._describe,
            "ListStreamConsumers": self._list,
        }

    def find(self, body: dict[str, Any]) -> tuple[Stream, Consumer]:
        """The consumer that a request names by ConsumerARN, or by StreamARN and ConsumerName.

        Raises:
            AwsError: ResourceNotFoundException, or InvalidArgumentException where the parameters
                name none or two.
        """
        arn, name = body.get("ConsumerARN"), body.get("ConsumerName")
        if not arn and not (body.get("StreamARN") and name):
            raise AwsError(
                "InvalidArgumentException",
                "ConsumerARN, or StreamARN and ConsumerName, are required",
            )
        stream_arn = body.get("StreamARN") or str(arn).partition("/consumer/")[0]
        stream = self._control.by_arn(stream_arn)
        for consumer in stream.consumers.values():
            if consumer.arn == arn or (not arn and consumer.name == name):
                if name and name != consumer.name:
                    raise AwsError(
                        "InvalidArgumentException", "ConsumerARN and ConsumerName conflict"
                    )
                return stream, consumer
        raise AwsError(
            "ResourceNotFoundException",
            f"Consumer {arn or name} of stream {stream.name} under account "
            f"{self._control.context.account_id} not found.",
        )

    def _register(self, body: dict[str, Any]) -> dict[str, Any]:
        stream, name = self._control.by_arn(body["StreamARN"]), body["ConsumerName"]
        if name in stream.consumers:
            raise AwsError(
                "ResourceInUseException",
                f"Consumer {name} of stream {stream.name} already exists.",
            )
        most = MAX_COMMITTED_CONSUMERS if self._control.committed else MAX_CONSUMERS
        if len(stream.consumers) >= most:
            raise AwsError(
                "LimitExceededException",
                f"Stream {stream.name} has {most} registered consumers, which is the limit.",
            )
        created_s = int(stream.clock.epoch_s())
        arn = f"{stream.arn}/consumer/{name}:{created_s}"
        consumer = Consumer(name, arn, created_s, checked_tags(body.get("Tags") or {}, {}))
        stream.consumers[name] = consumer
        return {"Consumer": _described(consumer)}

    def _deregister(self, body: dict[str, Any]) -> None:
        stream, consumer = self.find(body)
        del stream.consumers[consumer.name]
        # Its subscriptions notice when they are woken.
        for shard in stream.shards:
            shard.wake()

    def _describe(self, body: dict[str, Any]) -> dict[str, Any]:
        stream, consumer = self.find(body)
        return {"ConsumerDescription": {**_described(consumer), "StreamARN": stream.arn}}

    def _list(self, body: dict[str, Any]) -> dict[str, Any]:
        stream, after = self._control.by_arn(body["StreamARN"]), ""
        if body.get("NextToken"):
            if body.get("StreamCreationTimestamp"):
                raise AwsError(
                    "InvalidArgumentException",
                    "NextToken and StreamCreationTimestamp cannot be provided together.",
                )
            (after,) = read_token(self._control.clock, body["NextToken"], 1)
        require_creation(stream, body)
        names = sorted(name for name in stream.consumers if name > after)
        limit = min(body.get("MaxResults", _LISTED), _LISTED)
        answer: dict[str, Any] = {
            "Consumers": [_described(stream.consumers[name]) for name in names[:limit]]
        }
        if len(names) > limit:
            answer["NextToken"] = make_token(self._control.clock, names[limit - 1])
        return answer


def _described(consumer: Consumer) -> dict[str, Any]:
    return {
        "ConsumerName": consumer.name,
        "ConsumerARN": consumer.arn,
        "ConsumerStatus": "ACTIVE",
        "ConsumerCreationTimestamp": consumer.created_s,
    }
