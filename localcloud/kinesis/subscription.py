"""SubscribeToShard: records of one shard, pushed to one consumer as events for five minutes."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import orjson

from localcloud import cbor, eventstream
from localcloud.http import AwsError, Response
from localcloud.kinesis.encoding import text_of
from localcloud.kinesis.limits import TokenBucket
from localcloud.kinesis.read import MAX_GET_RECORDS, Start, records_of
from localcloud.kinesis.shard import READ_BYTES_PER_S

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from localcloud.kinesis.consumers import Consumers
    from localcloud.kinesis.control import ControlPlane
    from localcloud.kinesis.metrics import Meter
    from localcloud.kinesis.segment import Page
    from localcloud.kinesis.shard import Shard
    from localcloud.kinesis.stream import Consumer, Stream

LIFE_S = 300
# Within this time of a successful call another one for the same consumer and shard is refused.
TAKEOVER_S = 5
# A subscription without records says so that often.
HEARTBEAT_S = 5.0


@dataclass(slots=True, eq=False)
class Subscription:
    """One consumer's subscription to one shard."""

    stream: Stream
    consumer: Consumer
    shard: Shard
    position: int
    began_s: float
    taken: bool = False
    ended: bool = False


class Subscriptions:
    """The subscriptions that are open, and when each was.

    Args:
        control: Where the streams are.
        consumers: Where consumers are found.
        meter: Where metrics go.
    """

    def __init__(self, control: ControlPlane, consumers: Consumers, meter: Meter) -> None:
        self._control = control
        self._consumers = consumers
        self._meter = meter
        self._latest: dict[tuple[str, str], Subscription] = {}
        self._stopping = False

    @property
    def open_count(self) -> int:
        """Subscriptions that have not ended."""
        return sum(not one.ended for one in self._latest.values())

    def stop(self) -> None:
        """Ends all of them."""
        self._stopping = True
        for subscription in self._latest.values():
            subscription.shard.wake()

    def subscribe(self, body: dict[str, Any], content_type: str) -> Response:
        """SubscribeToShard; the events are in the protocol of the request.

        Raises:
            AwsError: ResourceNotFoundException, InvalidArgumentException, or
                ResourceInUseException within five seconds of a successful call.
        """
        stream, consumer = self._consumers.find({"ConsumerARN": body["ConsumerARN"]})
        shard = stream.shard(body["ShardId"])
        wanted = body["StartingPosition"]
        start = Start(wanted.get("Type"), wanted.get("SequenceNumber"), wanted.get("Timestamp"))
        position = start.position(shard)
        now_s = stream.clock.monotonic_s()
        key = (consumer.arn, shard.shard_id)
        before = self._latest.get(key)
        if before is not None and now_s - before.began_s < TAKEOVER_S:
            self._meter.consumer(
                stream,
                consumer.name,
                {"SubscribeToShard.RateExceeded": 1, "SubscribeToShard.Success": 0},
            )
            raise AwsError(
                "ResourceInUseException",
                f"Another active subscription exists for this consumer: {consumer.name}, "
                f"{shard.shard_id} of stream {stream.name}.",
            )
        self._control.end_dry_run(body)
        if before is not None:
            before.taken = True
            before.shard.wake()
        self._forget_old()
        subscription = Subscription(stream, consumer, shard, position, now_s)
        self._latest[key] = subscription
        self._meter.consumer(
            stream,
            consumer.name,
            {"SubscribeToShard.RateExceeded": 0, "SubscribeToShard.Success": 1},
        )
        return Response(
            200,
            headers={"content-type": eventstream.CONTENT_TYPE},
            stream=self._events(subscription, _Encoder(content_type)),
        )

    def _forget_old(self) -> None:
        for key, one in list(self._latest.items()):
            if one.ended and one.stream.clock.monotonic_s() - one.began_s >= TAKEOVER_S:
                del self._latest[key]

    async def _events(
        self, subscription: Subscription, encoder: _Encoder
    ) -> AsyncGenerator[bytes, None]:
        stream, shard = subscription.stream, subscription.shard
        clock = stream.clock
        # What a consumer may read of a shard, whatever others read.
        allowed = TokenBucket(READ_BYTES_PER_S, clock.monotonic_s())
        try:
            yield encoder.initial()
            while True:
                refusal = self._refusal(subscription)
                if refusal is not None:
                    yield encoder.exception(refusal)
                    return
                if self._is_over(subscription):
                    return
                if allowed.refill(clock.monotonic_s()) <= 0:
                    await asyncio.sleep(min(HEARTBEAT_S, allowed.until(1)))
                    continue
                nothing_new = subscription.position >= shard.end_position and not shard.closed
                if nothing_new and await shard.changed(HEARTBEAT_S):
                    continue
                page = shard.read(subscription.position, MAX_GET_RECORDS, int(allowed.tokens))
                subscription.position = page.next_position
                allowed.tokens -= page.size
                self._measure(subscription, page)
                yield encoder.event(stream, shard, page)
                if page.ended:
                    return
        finally:
            subscription.ended = True

    def _refusal(self, subscription: Subscription) -> AwsError | None:
        stream, consumer = subscription.stream, subscription.consumer
        if subscription.taken:
            return AwsError(
                "ResourceInUseException",
                f"Another subscription took over for consumer {consumer.name}.",
            )
        if self._control.streams.get(stream.name) is not stream:
            return AwsError("ResourceNotFoundException", f"Stream {stream.name} was deleted.")
        if stream.consumers.get(consumer.name) is not consumer:
            return AwsError("ResourceNotFoundException", f"Consumer {consumer.name} is gone.")
        return None

    def _is_over(self, subscription: Subscription) -> bool:
        age_s = subscription.stream.clock.monotonic_s() - subscription.began_s
        return self._stopping or age_s >= LIFE_S

    def _measure(self, subscription: Subscription, page: Page) -> None:
        tally = subscription.shard.tally
        tally.out_records += len(page.datas)
        tally.out_bytes += page.size
        self._meter.consumer(
            subscription.stream,
            subscription.consumer.name,
            {
                "SubscribeToShardEvent.Success": 1,
                "SubscribeToShardEvent.Records": len(page.datas),
                "SubscribeToShardEvent.Bytes": page.size,
                "SubscribeToShardEvent.MillisBehindLatest": page.behind_ms,
            },
        )


class _Encoder:
    """Makes event stream messages with payloads in JSON or CBOR."""

    def __init__(self, content_type: str) -> None:
        self._cbor = cbor.is_cbor(content_type)
        self._content_type = cbor.CONTENT_TYPE if self._cbor else "application/x-amz-json-1.1"

    def initial(self) -> bytes:
        """The empty message that protocols such as JSON begin with."""
        return eventstream.event("initial-response", self._dumps({}), self._content_type)

    def exception(self, error: AwsError) -> bytes:
        """An error that ends the stream."""
        payload = self._dumps({"message": error.message})
        return eventstream.exception(error.code, payload, self._content_type)

    def event(self, stream: Stream, shard: Shard, page: Page) -> bytes:
        """A SubscribeToShardEvent."""
        told: dict[str, Any] = {
            "Records": records_of(shard, page),
            "MillisBehindLatest": page.behind_ms,
            "ContinuationSequenceNumber": shard.sequence_number(page.next_position - 1),
        }
        if page.ended:
            told["ChildShards"] = stream.children(shard)
            # There is nowhere to go on from in this shard.
            told["ContinuationSequenceNumber"] = None
        return eventstream.event("SubscribeToShardEvent", self._dumps(told), self._content_type)

    def _dumps(self, value: dict[str, Any]) -> bytes:
        return cbor.dumps(value) if self._cbor else orjson.dumps(value, default=text_of)
