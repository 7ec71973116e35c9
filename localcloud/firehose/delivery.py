r"""One delivery stream at work: from its source, through its function, to its objects.

source or direct put -> (source backup)
                     -> (function) -> objects
                                  \-> objects of failed records
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import time
from typing import TYPE_CHECKING, Any

from localcloud.firehose import kpl, settings
from localcloud.firehose.errorlog import ErrorLog
from localcloud.firehose.outlet import Outlet, s3_error
from localcloud.firehose.positions import Positions
from localcloud.firehose.source import KinesisReader
from localcloud.firehose.transform import MESSAGES, Failure, Record, Transform

if TYPE_CHECKING:
    from collections.abc import Sequence

    from localcloud.firehose.kept import KeptPuts
    from localcloud.firehose.positions import Span
    from localcloud.firehose.source import Source
    from localcloud.http import AwsError
    from localcloud.seams import CloudContext, StreamBatch, StreamSource

log = logging.getLogger(__name__)

FRESHNESS_S = 5.0
# What direct puts are counted under among the positions.
_DIRECT = "direct"
CLOSE_S = 10.0


class Delivery:
    """The engine of one delivery stream.

    While S3 refuses an object or the function does not keep up, reading stops: the source keeps
    what is not read, and a direct put is refused with ServiceUnavailableException, so that the
    backlog is bounded and nothing acknowledged is lost.

    Args:
        context: The cloud.
        streams: Reads of Kinesis streams.
        name: Name of the delivery stream.
        arn: Its ARN.
        destination: As `settings.checked` gives it.
        source: The Kinesis stream to read, or None.

    Attributes:
        destination: The settings in use.
        version: Version of the settings, in keys and API.
        positions: How far the source is read and delivered.
        last_error: What went wrong last; empty when an object was written since.
    """

    def __init__(
        self,
        context: CloudContext,
        streams: StreamSource,
        name: str,
        arn: str,
        destination: dict[str, Any],
        source: Source | None = None,
    ) -> None:
        self._context = context
        self.name = name
        self.arn = arn
        self.destination = destination
        self.version = 1
        self.last_error = ""
        self._streams = streams
        self._source = source.arn if source else None
        self.positions = Positions(self._passed)
        self._numbers = itertools.count()
        self._errors = ErrorLog(context, arn)
        self._main = self._outlet(settings.main_output(destination), "DeliveryToS3")
        self._failed = self._outlet(settings.error_output(destination), "")
        self._backup: Outlet | None = None
        self._outlets = [self._main, self._failed]
        self._transform = Transform(context, name, arn, self._source, self)
        self._delimiter = b""
        self._reader = (
            KinesisReader(context, streams, name, arn, source, self.positions, self)
            if source
            else None
        )
        self._kept: KeptPuts | None = None
        self._running: list[asyncio.Task[None]] = []
        self._freshness: asyncio.Task[None] | None = None
        self._apply()

    def _outlet(self, output: settings.Output, metrics: str) -> Outlet:
        def ended(error: Exception | None) -> None:
            self.last_error = "" if error is None else str(error)
            if error is None:
                return
            given = self.destination
            if metrics == "BackupToS3":
                given = given["S3BackupConfiguration"]
            self._errors.add(
                given["CloudWatchLoggingOptions"], bucket_arn=given["BucketARN"],
                version=self.version, error=s3_error(error), role_arn=given["RoleARN"],
            )  # fmt: skip

        return Outlet(self._context, self.name, output, self.positions, metrics, ended)

    # Settings

    def change(self, destination: dict[str, Any]) -> None:
        """Works with other settings from now on; what is buffered is delivered by them."""
        self.destination = destination
        self.version += 1
        self._apply()

    def _apply(self) -> None:
        destination = self.destination
        self._delimiter = settings.delimiter(destination)
        self._transform.change(settings.transformation(destination))
        self._main.change(settings.main_output(destination), self.version)
        self._failed.change(settings.error_output(destination), self.version)
        backup = settings.backup_output(destination)
        if backup is None:
            return
        if self._backup is None:
            self._backup = self._outlet(backup, "BackupToS3")
            self._outlets.append(self._backup)
            if self._running:
                self._running.append(asyncio.create_task(self._backup.run()))
        self._backup.change(backup, self.version)

    # Life

    def _passed(self, shard: str, position: int) -> None:
        """Tells the source what it need not keep for this delivery stream."""
        if self._source:
            self._streams.checkpoint(self._source, self.arn, shard, position)
        elif self._kept is not None:
            self._kept.delivered(position)

    def forget(self) -> None:
        """Tells the source that nothing more is read of it."""
        if self._source:
            self._streams.forget(self._source, self.arn)

    def keep(self, kept: KeptPuts) -> None:
        """Keeps direct puts from now on, and delivers those that were kept and not delivered."""
        waiting = kept.waiting
        self.positions.begin(_DIRECT, waiting[0].position if waiting else kept.next_position)
        self._kept = kept
        for position, arrival_ms, data in waiting:
            self._take_put(data, arrival_ms, position)
        kept.waiting = []

    def restore(self) -> None:
        """Goes on reading the source where it was."""
        if self._reader is not None:
            self._reader.restore()

    def begin(self) -> None:
        """Starts; of a stream source, what is put after this returns is delivered.

        Raises:
            AwsError: the source is not there.
        """
        if self._reader is not None:
            self._reader.begin()
        self._running = [
            asyncio.create_task(self._transform.run()),
            *(asyncio.create_task(outlet.run()) for outlet in self._outlets),
        ]
        self._freshness = asyncio.create_task(self._measure_freshness())

    async def stop(self) -> None:
        """Stops reading and makes one attempt to deliver what is buffered."""
        if self._reader is not None:
            await self._reader.stop()
        if self._freshness is not None:
            self._freshness.cancel()
        transforming, *writing = self._running
        self._transform.close()
        await self._end([transforming])
        for outlet in self._outlets:
            outlet.close()
        await self._end(writing)
        await self._errors.close()
        if self._kept is not None:
            self._kept.close()

    async def _end(self, tasks: list[asyncio.Task[None]]) -> None:
        _, late = await asyncio.wait(tasks, timeout=CLOSE_S)
        for task in late:
            log.error("delivery stream %s did not end in %g s", self.name, CLOSE_S)
            task.cancel()

    # In

    @property
    def full(self) -> bool:
        """Whether nothing more can be taken at the moment."""
        return self._transform.full or any(outlet.full for outlet in self._outlets)

    async def room(self) -> None:
        """See `Intake`."""
        while self.full:
            await self._transform.room()
            for outlet in self._outlets:
                await outlet.room()

    def put(self, data: bytes) -> str:
        """Takes one record of a direct put; returns its id."""
        arrival_ms = int(time.time() * 1000)
        position = None if self._kept is None else self._kept.put(data, arrival_ms)
        return self._take_put(data, arrival_ms, position)

    def _take_put(self, data: bytes, arrival_ms: int, position: int | None) -> str:
        number = f"{time.time_ns():019d}{next(self._numbers) % 10**9:09d}000000"
        span = None
        if position is not None:
            span = self.positions.take(_DIRECT, position + 1, 1 if self._backup is None else 2)
        if self._passes_by:
            self._deliver([data], arrival_ms, span)
        else:
            self._hand_over(Record(number, data, arrival_ms, span))
        return number

    def take_batch(self, shard: str, batch: StreamBatch) -> None:
        """See `Intake`; records that a producer aggregated are taken apart."""
        copies = 1 if self._backup is None else 2
        parts = kpl.split_all(batch.datas)
        count = len(batch) if parts is None else sum(map(len, parts))
        span = self.positions.take(shard, batch.next_position, count * copies)
        if self._passes_by:
            if batch.datas:
                datas = batch.datas
                if parts is not None:
                    datas = [data for users in parts for data, _ in users]
                # The oldest of a read is the first: arrivals never go back in a shard.
                self._deliver(datas, batch.arrivals_ms[0], span)
            return
        if parts is None:
            parts = [[(data, None)] for data in batch.datas]
        for offset, users in enumerate(parts):
            sequence_number = batch.sequence_number(batch.position + offset)
            arrival_ms = batch.arrivals_ms[offset]
            for index, (data, key) in enumerate(users):
                kinesis = {
                    "sequenceNumber": sequence_number,
                    "subsequenceNumber": index,
                    "partitionKey": batch.keys[offset] if key is None else key,
                    "shardId": shard,
                    "approximateArrivalTimestamp": arrival_ms,
                }
                number = f"{sequence_number}{index:06d}"
                self._hand_over(Record(number, data, arrival_ms, span, kinesis))

    @property
    def _passes_by(self) -> bool:
        """Whether records go past the function: there is none, nor what waited for it."""
        return self._transform.settings is None and self._transform.idle

    def _deliver(self, datas: Sequence[bytes], oldest_ms: int, span: Span | None) -> None:
        if self._backup is not None:
            self._backup.add(datas, oldest_ms, span)
        delimiter = self._delimiter
        delimited = [data + delimiter for data in datas] if delimiter else datas
        self._main.add(delimited, oldest_ms, span)

    def _hand_over(self, record: Record) -> None:
        if self._backup is not None:
            self._backup.add([record.data], record.arrival_ms, record.span)
        self._transform.add(record)

    def source_failed(self, error: AwsError) -> None:
        """See `Intake`."""
        self.last_error = error.message

    # Out of the function

    def transformed(self, record: Record, data: bytes) -> None:
        """See `Outcomes`."""
        self._main.add([data + self._delimiter], record.arrival_ms, record.span)

    def dropped(self, record: Record) -> None:
        """See `Outcomes`."""
        if record.span is not None:
            self.positions.settle(record.span, 1)

    def not_transformed(self, record: Record, failure: Failure, function_arn: str) -> None:
        """See `Outcomes`."""
        document = failure.document(record, function_arn)
        self._failed.add([document], record.arrival_ms, record.span)

    def invocation_failed(self, code: str, function_arn: str) -> None:
        """See `Outcomes`."""
        self.last_error = f"{code}: {MESSAGES[code]}"
        self._errors.add(
            self.destination["CloudWatchLoggingOptions"],
            bucket_arn=self.destination["BucketARN"],
            version=self.version,
            error=(code, MESSAGES[code]),
            role_arn=self.destination["RoleARN"],
            processor=function_arn,
        )

    # Told of

    @property
    def objects(self) -> int:
        """Objects of delivered records."""
        return self._main.objects

    @property
    def records(self) -> int:
        """Records in them."""
        return self._main.records

    @property
    def failed_records(self) -> int:
        """Records kept under the error prefix."""
        return self._failed.records

    def backlog(self) -> dict[str, int]:
        """Buffered bytes, and records of the source that were not read yet."""
        buffered = self._transform.buffered_bytes
        buffered += sum(outlet.buffered_bytes for outlet in self._outlets)
        behind = self._reader.behind() if self._reader is not None else 0
        return {"buffered_bytes": buffered, "records_behind": behind}

    async def _measure_freshness(self) -> None:
        """Tells the age of the oldest record that is not delivered, while it waits."""
        while True:
            await asyncio.sleep(FRESHNESS_S)
            oldest = [self._main.oldest_ms, self._transform.oldest_ms]
            age_ms = time.time() * 1000 - min(ms for ms in (*oldest, time.time() * 1000) if ms)
            self._context.metrics.put(
                "AWS/Firehose", "DeliveryToS3.DataFreshness", max(0.0, age_ms / 1000),
                unit="Seconds", dimensions={"DeliveryStreamName": self.name},
            )  # fmt: skip
            if self._backup is not None:
                self._backup.measure_freshness()
