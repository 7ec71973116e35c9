"""Kinesis Data Streams: dispatch of its operations, its background work, the seam for engines."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from typing import TYPE_CHECKING, Any

import orjson

from localcloud import cbor
from localcloud.access.needs import USE, stream_need
from localcloud.durable import moment
from localcloud.durable.readers import KeptReaders
from localcloud.environment import whole_number
from localcloud.http import AwsError, Response, json_response
from localcloud.kinesis.account import Account
from localcloud.kinesis.consumers import Consumers
from localcloud.kinesis.control import ControlPlane
from localcloud.kinesis.encoding import text_of
from localcloud.kinesis.kept import KeptStreams
from localcloud.kinesis.limits import MIB
from localcloud.kinesis.listing import Listing
from localcloud.kinesis.memory import Memory, Readers
from localcloud.kinesis.metrics import Meter
from localcloud.kinesis.put import Writer
from localcloud.kinesis.read import Reader, Start
from localcloud.kinesis.resharding import Resharding, scale, scale_to
from localcloud.kinesis.settings import Settings, finished
from localcloud.kinesis.subscription import Subscriptions

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from localcloud.durable.readers import Place
    from localcloud.http import Request
    from localcloud.kinesis.stream import Stream
    from localcloud.seams import CloudContext, StartingPosition, StreamBatch

log = logging.getLogger(__name__)

TICK_S = 1.0
TRIM_EVERY_TICKS = 5
RESTORED_AT_ONCE = 64
# The scaling of an on-demand stream among the requests that are kept; no client can ask for it.
_SCALE = "ScaleOnDemandStream"
DEFAULT_MEMORY_MIB = 2048
UNSERVED = ("CreateChannel", "DeleteChannel", "DescribeChannel", "ListChannels", "UpdateChannel")


class KinesisService:
    """Kinesis Data Streams; also the engines' `StreamSource` and `StreamWriter`.

    Records are kept in memory until their retention ends, or until all streams together hold
    `FLEETCAST_KINESIS_MIB` (default 2048); see `localcloud.kinesis.memory` for what happens then.
    """

    signing_names = ("kinesis",)

    def __init__(self, context: CloudContext) -> None:
        self._context = context
        self._readers = Readers()
        max_mib = whole_number("FLEETCAST_KINESIS_MIB", DEFAULT_MEMORY_MIB)
        self._memory = Memory(max_mib * MIB, self._readers)
        folder = context.folder
        self._kept = KeptStreams(folder) if folder is not None else None
        self._control = ControlPlane(context, self._memory, self._kept)
        self._meter = Meter(context.metrics)
        self._writer = Writer(
            self._control, self._memory, self._meter, context.account_id, self._kept
        )
        self._reader = Reader(self._control, self._meter, context.account_id)
        self._account = Account(self._control)
        self._consumers = consumers = Consumers(self._control)
        context.access.needs.streams = self._protected
        self._subscriptions = Subscriptions(self._control, consumers, self._meter)
        self._task: asyncio.Task[None] | None = None
        self._operations: dict[str, Callable[[dict[str, Any]], Any]] = {
            **self._control.operations(),
            **Listing(self._control).operations(),
            **Settings(self._control).operations(),
            **Resharding(self._control).operations(),
            **consumers.operations(),
            **self._account.operations(),
            "PutRecord": self._writer.put_record,
            "GetShardIterator": self._reader.get_shard_iterator,
            "GetRecords": self._reader.get_records,
        }

    async def restore(self) -> None:
        """Puts the records of all streams back, and what their readers told."""
        folder, kept = self._context.folder, self._kept
        if folder is None or kept is None:
            return
        streams = list(self._control.streams.values())
        readers = KeptReaders(folder.log("readers"))
        self._readers.restore(readers, [stream.arn for stream in streams])
        for number, added in enumerate(kept.restore(streams)):
            self._memory.held_bytes += added
            self._memory.room(streams)
            if number % RESTORED_AT_ONCE == 0:
                # Whoever asks how far it is gets an answer.
                await asyncio.sleep(0)

    async def start(self) -> None:
        """Starts expiry, scaling and shard-level metrics."""
        self._task = asyncio.create_task(self._tend())

    async def stop(self) -> None:
        """Stops all of it, and ends subscriptions."""
        self._subscriptions.stop()
        if self._task:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
        if self._kept is not None:
            self._kept.close()
        if self._readers.kept is not None:
            self._readers.kept.close()

    def status(self) -> dict[str, Any]:
        """Streams with their shards and what they hold."""
        return {
            "streams": {
                stream.name: {
                    "mode": stream.mode,
                    "open_shards": len(stream.open_shards),
                    "records": sum(s.end_position - s.first_position for s in stream.shards),
                    "records_ever": sum(shard.end_position for shard in stream.shards),
                    "held_mib": round(sum(s.bytes_held for s in stream.shards) / MIB, 1),
                    "consumers": len(stream.consumers),
                }
                for stream in self._control.streams.values()
            },
            "subscriptions": self._subscriptions.open_count,
            "memory": self._memory.status(),
            "unsupported": [
                "channels (CreateChannel and its kin)",
                "limits on the rate of control plane calls; CREATING, UPDATING and DELETING states",
            ],
        }

    def operations(self) -> frozenset[str]:
        """See `Service`."""
        return frozenset({*self._operations, "PutRecords", "SubscribeToShard"})

    async def handle(self, request: Request) -> Response | None:
        """Answers a request in JSON or CBOR."""
        name, content_type = request.operation, request.headers.get("content-type", "")
        try:
            if name == "PutRecords":
                return self._put_records(request.json(), content_type)
            if name == "SubscribeToShard":
                return self._subscriptions.subscribe(request.json(), content_type)
            operation = self._operations.get(name)
            if name == _SCALE and not self._context.restored.is_set():
                operation = self._scale_again
            if operation is None:
                raise _unserved(name)
            return _response(await finished(operation(request.json())), content_type)
        except KeyError as error:
            raise AwsError("ValidationException", f"{error.args[0]} is required") from error

    def _put_records(self, body: dict[str, Any], content_type: str) -> Response:
        stream, outcome = self._writer.put_records(body)
        if not cbor.is_cbor(content_type):
            answer = json_response(None)
            return Response(200, outcome.json(stream.encryption_type), answer.headers)
        return _response(
            {
                "FailedRecordCount": len(outcome.refused),
                "Records": outcome.entries(),
                "EncryptionType": stream.encryption_type,
            },
            content_type,
        )

    async def _tend(self) -> None:
        tick = 0
        while True:
            await asyncio.sleep(TICK_S)
            tick += 1
            try:
                self.tend(trim=tick % TRIM_EVERY_TICKS == 0)
            except Exception:
                log.exception("tending the streams failed; it goes on")

    def tend(self, *, trim: bool = True) -> None:
        """Publishes shard-level metrics; expires records and scales on-demand streams."""
        streams = list(self._control.streams.values())
        self._meter.publish_shards(streams)
        if not trim:
            return
        self._account.settle()
        for stream in streams:
            self._memory.held_bytes -= stream.trim()
            self._scale(stream)
            if self._kept is not None:
                self._kept.trim(stream)

    def _scale(self, stream: Stream) -> None:
        """Scales an on-demand stream; that is kept like a request."""
        made = moment.Moment()
        with moment.during(made):
            grown = scale(stream)
        if grown and self._context.requests is not None:
            body = {"StreamName": stream.name, "Shards": len(stream.open_shards)}
            self._context.requests.note("kinesis", _SCALE, body, made)

    def _scale_again(self, body: dict[str, Any]) -> None:
        scale_to(self._control.find(body), body["Shards"])

    def encryption_key(self, stream_arn: str) -> str:
        """The KMS key of a stream by its ARN; empty where it has none, or there is no stream."""
        stream = self._control.streams.get(stream_arn.rpartition("/")[2])
        return (stream.key_id or "") if stream else ""

    def _protected(self, body: dict[str, Any]) -> tuple[str, str | None, str]:
        """(ARN, policy, key) of the stream or consumer that a request is about."""
        try:
            if body.get("ConsumerARN"):
                stream, consumer = self._consumers.find(body)
                return consumer.arn, consumer.policy, stream.key_id or ""
            if body.get("ShardIterator"):
                stream = self._reader.stream_of(body)
            elif body.get("ResourceARN"):
                stream = self._control.by_arn(body["ResourceARN"].partition("/consumer/")[0])
            else:
                stream = self._control.find(body)
        except (AwsError, KeyError):
            # What is not there is refused as such, where it is asked for on its name.
            name = body.get("StreamARN") or body.get("StreamName") or ""
            region, account = self._context.region, self._context.account_id
            prefix = f"arn:aws:kinesis:{region}:{account}:stream/"
            return (name if ":" in name else prefix + name) if name else "*", None, ""
        return stream.arn, stream.policy, stream.key_id or ""

    # The seam for engines

    def shard_ids(self, stream_arn: str) -> list[str]:
        """See `StreamSource`."""
        return [shard.shard_id for shard in self._control.by_arn(stream_arn).shards]

    def parents(self, stream_arn: str, shard_id: str) -> list[str]:
        """See `StreamSource`."""
        shard = self._control.by_arn(stream_arn).shard(shard_id)
        return [name for name in (shard.parent, shard.adjacent_parent) if name]

    def position(
        self,
        stream_arn: str,
        shard_id: str,
        starting: StartingPosition,
        timestamp_s: float | None = None,
    ) -> int:
        """See `StreamSource`."""
        shard = self._control.by_arn(stream_arn).shard(shard_id)
        return Start(starting, None, timestamp_s).position(shard)

    def read(
        self, stream_arn: str, shard_id: str, position: int, limit: int, max_bytes: int
    ) -> StreamBatch:
        """See `StreamSource`."""
        began_s = time.perf_counter()
        stream = self._control.by_arn(stream_arn)
        self._context.faults.refuse("kinesis", "GetRecords", stream.name)
        shard = stream.shard(shard_id)
        page = shard.read(position, limit, max_bytes)
        batch = shard.batch_of(page)
        elapsed_ms = (time.perf_counter() - began_s) * 1000
        self._reader.measure(stream, shard, page, elapsed_ms)
        return batch

    async def wait(self, stream_arn: str, shard_id: str, position: int, timeout_s: float) -> bool:
        """See `StreamSource`."""
        found = await self._control.by_arn(stream_arn).shard(shard_id).wait(position, timeout_s)
        if found:
            await self._context.faults.delay("kinesis", "GetRecords")
        return found

    def checkpoint(
        self, stream_arn: str, reader: str, shard_id: str, position: int, state: Any = None
    ) -> None:
        """See `StreamSource`."""
        self._readers.checkpoint(stream_arn, reader, shard_id, position, state)

    def places(self, stream_arn: str, reader: str) -> Mapping[str, Place]:
        """See `StreamSource`."""
        kept = self._readers.kept
        return {} if kept is None else kept.of(stream_arn).get(reader, {})

    def forget(self, stream_arn: str, reader: str) -> None:
        """See `StreamSource`."""
        self._readers.forget(stream_arn, reader)

    async def write(
        self, stream_name: str, records: Sequence[tuple[str, bytes]], role_arn: str, session: str
    ) -> list[str]:
        """See `StreamWriter`."""
        access = self._context.access
        body: dict[str, Any] = {"StreamName": stream_name}
        need = stream_need("kinesis:PutRecord", *self._protected(body), USE)
        access.require("kinesis", need, access.role(role_arn, session))
        await self._context.faults.admit("kinesis", "PutRecord", stream_name)
        entries = [{"PartitionKey": key, "Data": data} for key, data in records]
        _, outcome = self._writer.put_records({**body, "Records": entries})
        return [outcome.refused[i][0] if i in outcome.refused else "" for i in range(len(records))]


def _unserved(name: str) -> AwsError:
    if name in UNSERVED:
        return AwsError(
            "UnsupportedOperationException", f"Kinesis operation {name} is not served locally"
        )
    return AwsError(
        "UnknownOperationException",
        f"Kinesis operation {name or '(none)'} is unknown, or not served locally",
    )


def _response(answer: dict[str, Any] | None, content_type: str) -> Response:
    """An operation's answer in the protocol of its request."""
    empty = json_response(None, content_type=content_type if cbor.is_cbor(content_type) else "")
    if answer is None:
        return empty
    if cbor.is_cbor(content_type):
        return Response(200, cbor.dumps(answer), empty.headers)
    return Response(200, orjson.dumps(answer, default=text_of), empty.headers)
