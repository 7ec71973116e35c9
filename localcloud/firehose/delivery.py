"""One delivery stream at work: reads its source, buffers, writes objects, never drops a record."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import datetime as dt
import gzip
import logging
import time
import uuid
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from localcloud.firehose import kpl, prefix
from localcloud.http import AwsError

if TYPE_CHECKING:
    from localcloud.seams import CloudContext, StreamSource

log = logging.getLogger(__name__)

MIB = 1024 * 1024
READ_LIMIT = 10_000
READ_BYTES = 10 * MIB
TICK_S = 0.25
DISCOVER_S = 2.0
RETRY_S = (0.5, 10.0)
FRESHNESS_S = 5.0
GZIP_LEVEL = 6


@dataclass(slots=True)
class Buffer:
    """Records that wait for the next object.

    Attributes:
        parts: The records' bytes, delimited where that is configured.
        size: Their bytes together.
        oldest_ms: Arrival of the oldest, epoch milliseconds.
        opened_s: Monotonic time at which the first came in.
    """

    parts: list[bytes] = field(default_factory=list)
    size: int = 0
    oldest_ms: int = 0
    opened_s: float = 0.0

    def add(self, data: bytes, arrival_ms: int) -> None:
        """Takes one record."""
        if not self.parts:
            self.opened_s = time.monotonic()
            self.oldest_ms = arrival_ms
        self.oldest_ms = min(self.oldest_ms, arrival_ms)
        self.parts.append(data)
        self.size += len(data)


@dataclass(slots=True)
class Delivery:
    """The engine of one delivery stream.

    While S3 refuses an object, reading stops and the object is tried again: the source keeps what
    is not read, and a direct put is refused with ServiceUnavailableException when the buffer is
    full, so that the backlog is bounded and nothing acknowledged is lost.
    """

    context: CloudContext
    streams: StreamSource
    name: str
    destination: dict[str, Any]
    source: str | None = None
    version: int = 1
    objects: int = 0
    records: int = 0
    last_error: str = ""
    _positions: dict[str, int] = field(default_factory=dict)
    _buffer: Buffer = field(default_factory=Buffer)
    _pending: Buffer | None = None
    _arrived: asyncio.Event = field(default_factory=asyncio.Event)
    _lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    _tasks: list[asyncio.Task[None]] = field(default_factory=list)
    _readers: dict[str, asyncio.Task[None]] = field(default_factory=dict)

    def begin(self) -> None:
        """Starts; of a stream source, what is put after this returns is delivered."""
        if self.source:
            for shard in self.streams.shard_ids(self.source):
                position = self.streams.position(self.source, shard, "LATEST")
                self._positions[shard] = position
                self.streams.checkpoint(self.source, self._reader, shard, position)
            self._tasks.append(asyncio.create_task(self._discover()))
        self._tasks.append(asyncio.create_task(self._deliver_for_ever()))
        self._tasks.append(asyncio.create_task(self._measure_freshness()))

    async def stop(self) -> None:
        """Stops reading and makes one attempt to deliver what is buffered."""
        tasks = [*self._tasks, *self._readers.values()]
        for task in tasks:
            task.cancel()
        for task in tasks:
            with contextlib.suppress(asyncio.CancelledError):
                await task
        self._tasks.clear()
        self._readers.clear()
        if self._buffer.parts or self._pending:
            try:
                s3 = await self.context.client("s3")
                for buffer in filter(None, (self._pending, self._buffer)):
                    if buffer.parts:
                        await self._put_object(s3, buffer)
            except Exception:
                log.exception("delivery stream %s could not deliver its last buffer", self.name)

    def put(self, data: bytes) -> None:
        """Takes one record of a direct put.

        Raises:
            AwsError: ServiceUnavailableException, where the buffer is full and S3 does not take it.
        """
        if self._pending is not None and self._buffer.size > self._max_bytes:
            raise AwsError("ServiceUnavailableException", "Slow down.", 503)
        self._add(data, int(time.time() * 1000))
        put = self.context.metrics.put
        where = {"DeliveryStreamName": self.name}
        put("AWS/Firehose", "IncomingRecords", 1, unit="Count", dimensions=where)
        put("AWS/Firehose", "IncomingBytes", len(data), unit="Bytes", dimensions=where)

    def backlog(self) -> dict[str, int]:
        """Buffered bytes, and records of the source that were not read yet."""
        behind = 0
        for shard, position in self._positions.items():
            with contextlib.suppress(AwsError):
                end = self.streams.position(self.source or "", shard, "LATEST")
                behind += max(0, end - position)
        pending = self._pending.size if self._pending else 0
        return {"buffered_bytes": self._buffer.size + pending, "records_behind": behind}

    @property
    def _reader(self) -> str:
        return f"firehose {self.name}"

    def forget(self) -> None:
        """Tells the source that nothing more is read of it."""
        if self.source:
            self.streams.forget(self.source, self._reader)

    @property
    def _max_bytes(self) -> int:
        return int(self.destination["BufferingHints"]["SizeInMBs"]) * MIB

    @property
    def _interval_s(self) -> float:
        return float(self.destination["BufferingHints"]["IntervalInSeconds"])

    def _delimited(self) -> bool:
        processing = self.destination.get("ProcessingConfiguration") or {}
        return bool(processing.get("Enabled")) and any(
            processor["Type"] == "AppendDelimiterToRecord"
            for processor in processing.get("Processors") or ()
        )

    def _add(self, data: bytes, arrival_ms: int) -> None:
        self._buffer.add(data + b"\n" if self._delimited() else data, arrival_ms)
        if len(self._buffer.parts) == 1 or self._buffer.size >= self._max_bytes:
            self._arrived.set()

    async def _discover(self) -> None:
        while True:
            try:
                shards = self.streams.shard_ids(self.source or "")
            except AwsError as error:
                self.last_error = error.message
                shards = []
            for shard in shards:
                if shard not in self._readers:
                    start = self.streams.position(self.source or "", shard, "TRIM_HORIZON")
                    self._positions.setdefault(shard, start)
                    self._readers[shard] = asyncio.create_task(self._read_for_ever(shard))
            await asyncio.sleep(DISCOVER_S)

    async def _read_for_ever(self, shard: str) -> None:
        source = self.source or ""
        while True:
            try:
                if await self._read(source, shard):
                    return
            except AwsError as error:
                self.last_error = error.message
                await asyncio.sleep(DISCOVER_S)
            except Exception:
                log.exception("delivery stream %s, %s", self.name, shard)
                await asyncio.sleep(DISCOVER_S)

    async def _read(self, source: str, shard: str) -> bool:
        """Reads once; True at the end of a closed shard."""
        position = self._positions[shard]
        if not await self.streams.wait(source, shard, position, 1.0):
            return False
        while self._pending is not None and self._buffer.size >= self._max_bytes:  # noqa: ASYNC110
            await asyncio.sleep(TICK_S)
        batch = self.streams.read(source, shard, position, READ_LIMIT, READ_BYTES)
        for record in batch.records:
            for data in kpl.split(base64.b64decode(record.data)):
                self._add(data, record.arrival_ms)
        self._positions[shard] = batch.next_position
        self.streams.checkpoint(source, self._reader, shard, batch.next_position)
        if batch.records:
            put = self.context.metrics.put
            where = {"DeliveryStreamName": self.name}
            size = sum(len(record.data) * 3 // 4 for record in batch.records)
            put("AWS/Firehose", "DataReadFromKinesisStream.Records", len(batch.records),
                unit="Count", dimensions=where)  # fmt: skip
            put("AWS/Firehose", "DataReadFromKinesisStream.Bytes", size, unit="Bytes",
                dimensions=where)  # fmt: skip
            # Readers of other shards, and everyone else on the loop, get their turn.
            await asyncio.sleep(0.02)
        return batch.shard_ended and not batch.records

    async def _deliver_for_ever(self) -> None:
        s3 = await self.context.client("s3")
        while True:
            await self._wait_until_due()
            self._pending, self._buffer = self._buffer, Buffer()
            attempt = 0
            while self._pending is not None:
                try:
                    await self._put_object(s3, self._pending)
                    self._pending = None
                except Exception as error:  # noqa: BLE001 - kept and tried again
                    attempt += 1
                    self.last_error = str(error)
                    log.warning("delivery stream %s: %s", self.name, error)
                    self._measure("DeliveryToS3.Success", 0)
                    low, high = RETRY_S
                    await asyncio.sleep(min(high, low * 2 ** min(attempt, 8)))

    async def _wait_until_due(self) -> None:
        while True:
            if not self._buffer.parts:
                self._arrived.clear()
                await self._arrived.wait()
            left_s = self._buffer.opened_s + self._interval_s - time.monotonic()
            if left_s <= 0 or self._buffer.size >= self._max_bytes:
                return
            self._arrived.clear()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._arrived.wait(), left_s)

    async def _put_object(self, s3: Any, buffer: Buffer) -> None:
        destination = self.destination
        body = b"".join(buffer.parts)
        now = dt.datetime.now(dt.UTC)
        oldest = dt.datetime.fromtimestamp(buffer.oldest_ms / 1000, dt.UTC)
        extension = destination.get("FileExtension") or ""
        if destination.get("CompressionFormat") == "GZIP":
            body = await asyncio.to_thread(gzip.compress, body, GZIP_LEVEL)
            extension = extension or ".gz"
        key = (
            prefix.expand(destination.get("Prefix"), oldest)
            + f"{self.name}-{self.version}-{now:%Y-%m-%d-%H-%M-%S}-{uuid.uuid4()}{extension}"
        )
        encryption = (destination.get("EncryptionConfiguration") or {}).get("KMSEncryptionConfig")
        extra = (
            {"ServerSideEncryption": "aws:kms", "SSEKMSKeyId": encryption["AWSKMSKeyARN"]}
            if encryption
            else {}
        )
        bucket = destination["BucketARN"].rpartition(":")[2]
        await s3.put_object(Bucket=bucket, Key=key, Body=body, **extra)
        self.objects += 1
        self.records += len(buffer.parts)
        self.last_error = ""
        self._measure("DeliveryToS3.Success", 1)
        self._measure("DeliveryToS3.Records", len(buffer.parts))
        self._measure("DeliveryToS3.Bytes", buffer.size, "Bytes")
        self._measure("DeliveryToS3.ObjectCount", 1)
        age_s = time.time() - buffer.oldest_ms / 1000
        self._measure("DeliveryToS3.DataFreshness", max(0.0, age_s), "Seconds")

    async def _measure_freshness(self) -> None:
        """Tells the age of the oldest record that was not delivered, while it waits."""
        while True:
            await asyncio.sleep(FRESHNESS_S)
            oldest = [b.oldest_ms for b in (self._buffer, self._pending) if b and b.parts]
            age_s = time.time() - min(oldest) / 1000 if oldest else 0.0
            self._measure("DeliveryToS3.DataFreshness", max(0.0, age_s), "Seconds")

    def _measure(self, name: str, value: float, unit: str = "Count") -> None:
        self.context.metrics.put(
            "AWS/Firehose", name, value, unit=unit, dimensions={"DeliveryStreamName": self.name}
        )
