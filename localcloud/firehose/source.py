"""A Kinesis stream as the source of a delivery stream: every shard, parents before children."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from typing import TYPE_CHECKING, NamedTuple, Protocol

from localcloud.access.needs import READ, stream_need
from localcloud.http import OWN_FAULT, AwsError

if TYPE_CHECKING:
    from localcloud.firehose.positions import Positions
    from localcloud.seams import CloudContext, StreamBatch, StreamSource

log = logging.getLogger(__name__)

READ_LIMIT = 10_000
READ_BYTES = 10 * 1024 * 1024
# A shard's end brings its children at once; this is for what else may change.
DISCOVER_S = 5.0
IDLE_S = 20.0
RETRY_S = 1.0
# Between reads of a shard: five a second are what a shard allows, and Firehose is no hurried reader.
PAUSE_S = 0.2


class Source(NamedTuple):
    """A Kinesis stream, and the role that reads it; ARNs."""

    arn: str
    role_arn: str


class Intake(Protocol):
    """Who takes the records that are read."""

    async def room(self) -> None:
        """Waits until more can be taken."""

    def take_batch(self, shard: str, batch: StreamBatch) -> None:
        """Takes a read."""

    def source_failed(self, error: AwsError) -> None:
        """The source could not be read."""


class KinesisReader:
    """Reads every shard of a stream from where it stood at the start, and follows resharding.

    Args:
        context: The cloud.
        streams: Reads of streams.
        name: Name of the delivery stream.
        arn: Its ARN, by which the source knows it.
        source: What is read.
        positions: Where each shard is; told of what is read by who takes it.
        intake: Who takes the records.
    """

    def __init__(  # noqa: PLR0917
        self,
        context: CloudContext,
        streams: StreamSource,
        name: str,
        arn: str,
        source: Source,
        positions: Positions,
        intake: Intake,
    ) -> None:
        self._context = context
        self._streams = streams
        self._where = {"DeliveryStreamName": name}
        self._name = name
        self._arn = source.arn
        self._reader = arn
        self._acting = context.access.role(source.role_arn, name)
        self._positions = positions
        self._intake = intake
        self._finished: set[str] = set()
        self._readers: dict[str, asyncio.Task[None]] = {}
        self._reshard = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def begin(self) -> None:
        """Starts; what is put into the stream after this returns is read.

        Raises:
            AwsError: there is no such stream.
        """
        for shard in self._streams.shard_ids(self._arn):
            latest = self._streams.position(self._arn, shard, "LATEST")
            self._positions.begin(shard, latest)
        self._task = asyncio.create_task(self._discover())

    def restore(self) -> None:
        """Goes on from what was kept."""
        for shard, place in self._streams.places(self._arn, self._reader).items():
            self._positions.restore(shard, place.position)

    async def stop(self) -> None:
        """Stops reading."""
        tasks = [*([self._task] if self._task else []), *self._readers.values()]
        for task in tasks:
            task.cancel()
        for task in tasks:
            with contextlib.suppress(asyncio.CancelledError):
                await task
        self._readers.clear()

    def behind(self) -> int:
        """Records of the source that were not read yet."""
        behind = 0
        for shard, position in self._positions.read.items():
            with contextlib.suppress(AwsError):
                end = self._streams.position(self._arn, shard, "LATEST")
                behind += max(0, end - position)
        return behind

    async def _discover(self) -> None:
        """Keeps a reader for every shard whose parents were read to their end."""
        await self._context.restored.wait()
        while True:
            self._reshard.clear()
            try:
                self._require("kinesis:DescribeStream", ())
                self._start_readers(self._streams.shard_ids(self._arn))
            except AwsError as error:
                self._intake.source_failed(error)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._reshard.wait(), DISCOVER_S)

    def _start_readers(self, shards: list[str]) -> None:
        for shard in self._positions.read.keys() - set(shards):
            if shard in self._finished:
                self._positions.forget(shard)
                self._finished.discard(shard)
                self._readers.pop(shard, None)
        for shard in shards:
            if shard in self._readers or shard in self._finished:
                continue
            # A shard that appears later is read from its beginning, after its parents.
            self._positions.begin(shard, self._streams.position(self._arn, shard, "TRIM_HORIZON"))
            parents = self._streams.parents(self._arn, shard)
            if all(p in self._finished or p not in shards for p in parents):
                self._readers[shard] = asyncio.create_task(self._read_for_ever(shard))

    async def _read_for_ever(self, shard: str) -> None:
        while True:
            try:
                ended = await self._read(shard)
            except AwsError as error:
                throttled = error.code == "ProvisionedThroughputExceededException"
                self._measure("ThrottledGetRecords", float(throttled))
                self._intake.source_failed(error)
                await asyncio.sleep(RETRY_S)
            except Exception:
                log.exception("delivery stream %s, %s", self._name, shard)
                self._intake.source_failed(AwsError("InternalFailure", OWN_FAULT, 500))
                await asyncio.sleep(RETRY_S)
            else:
                if ended:
                    self._finished.add(shard)
                    self._reshard.set()
                    return

    async def _read(self, shard: str) -> bool:
        """Reads once; True at the end of a closed shard."""
        position = self._positions.read[shard]
        if not await self._streams.wait(self._arn, shard, position, IDLE_S):
            self._measure("KinesisMillisBehindLatest", 0, "Milliseconds")
            return False
        await self._intake.room()
        self._require("kinesis:GetRecords", READ)
        batch = self._streams.read(self._arn, shard, position, READ_LIMIT, READ_BYTES)
        self._intake.take_batch(shard, batch)
        if batch.datas:
            size = sum(map(len, batch.datas))
            measured = {
                "DataReadFromKinesisStream.Records": len(batch),
                "DataReadFromKinesisStream.Bytes": size,
                "ThrottledGetRecords": 0,
                "KinesisMillisBehindLatest": batch.behind_ms,
            }
            self._context.metrics.put_each(
                "AWS/Firehose", measured, unit=_unit_of, dimensions=self._where
            )
            await asyncio.sleep(PAUSE_S)
        return batch.shard_ended

    def _require(self, action: str, key_actions: tuple[str, ...]) -> None:
        """Refuses what the role may not do.

        Raises:
            AwsError: AccessDeniedException, or KMSAccessDeniedException.
        """
        access = self._context.access
        if access.enabled:
            arn, policy, key = access.needs.streams({"StreamARN": self._arn})
            access.require(
                "kinesis", stream_need(action, arn, policy, key, key_actions), self._acting
            )

    def _measure(self, name: str, value: float, unit: str = "Count") -> None:
        self._context.metrics.put("AWS/Firehose", name, value, unit=unit, dimensions=self._where)


def _unit_of(metric: str) -> str:
    if metric == "KinesisMillisBehindLatest":
        return "Milliseconds"
    return "Bytes" if metric.endswith("Bytes") else "Count"
