"""The event source mapping of a Kinesis stream: polls shards, invokes, retries, gives up properly.

Follows "Process Amazon Kinesis Data Streams records with Lambda" of the Lambda developer guide:
order per shard (per partition key where parallelization is above 1), batching window, partial
batch responses, bisection, retry and age limits, the on-failure destination's document.
"""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import json
import logging
import random
import time
import uuid
import zlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import orjson

from localcloud.functions.function import ThrottledError
from localcloud.http import AwsError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from localcloud.functions.function import Function
    from localcloud.functions.runtime import Result
    from localcloud.seams import CloudContext, StreamRecord, StreamSource

log = logging.getLogger(__name__)

POLL_S = 1.0
DISCOVER_S = 2.0
BACKOFF_S = (0.2, 10.0)
MAX_EVENT_BYTES = 5_500_000
DEFAULTS: dict[str, Any] = {
    "BatchSize": 100,
    "MaximumBatchingWindowInSeconds": 0,
    "ParallelizationFactor": 1,
    "StartingPosition": "LATEST",
    "MaximumRecordAgeInSeconds": -1,
    "MaximumRetryAttempts": -1,
    "BisectBatchOnFunctionError": False,
    "TumblingWindowInSeconds": 0,
    "FunctionResponseTypes": [],
    "DestinationConfig": {"OnFailure": {}},
}


def check_settings(body: dict[str, Any]) -> None:
    """Refuses what the local mapping does not serve, and values out of AWS's bounds.

    Raises:
        AwsError: InvalidParameterValueException.
    """
    source = body.get("EventSourceArn")
    if source is not None and source.split(":")[2:3] != ["kinesis"]:
        raise _invalid(f"EventSourceArn {source}: only Kinesis streams are served locally")
    for name in ("FilterCriteria", "TumblingWindowInSeconds", "Topics", "Queues", "KMSKeyArn"):
        value = body.get(name)
        if value and value != {"Filters": []}:
            raise _invalid(f"{name} is not supported locally")
    for name, low, high in (
        ("BatchSize", 1, 10_000),
        ("MaximumBatchingWindowInSeconds", 0, 300),
        ("ParallelizationFactor", 1, 10),
        ("MaximumRetryAttempts", -1, 10_000),
        ("MaximumRecordAgeInSeconds", -1, 604_800),
    ):
        if body.get(name) is not None and not low <= body[name] <= high:
            raise _invalid(f"{name} must be from {low} to {high}")
    if set(body.get("FunctionResponseTypes") or ()) - {"ReportBatchItemFailures"}:
        raise _invalid("FunctionResponseTypes can be ReportBatchItemFailures")


def _invalid(message: str) -> AwsError:
    return AwsError("InvalidParameterValueException", message)


@dataclass(slots=True)
class EventSourceMapping:
    """One mapping from a stream to a function."""

    context: CloudContext
    streams: StreamSource
    function: Function
    source: str
    settings: dict[str, Any]
    enabled: bool = True
    uuid: str = field(default_factory=lambda: str(uuid.uuid4()))
    tags: dict[str, str] = field(default_factory=dict)
    modified: float = field(default_factory=time.time)
    last_result: str = "No records processed"
    delivered: int = 0
    given_up: int = 0
    _positions: dict[str, int] = field(default_factory=dict)
    _finished: set[str] = field(default_factory=set)
    _pollers: dict[str, asyncio.Task[None]] = field(default_factory=dict)
    _task: asyncio.Task[None] | None = None

    def begin(self) -> None:
        """Takes the starting position in every shard, and polls if the mapping is enabled.

        What is put into the stream after this returns is delivered.
        """
        starting = self.settings["StartingPosition"]
        for shard in self.streams.shard_ids(self.source):
            position = self.streams.position(
                self.source, shard, starting, self.settings.get("StartingPositionTimestamp")
            )
            self._advance(shard, position)
        self._switch()

    def _switch(self) -> None:
        if self.enabled and self._task is None:
            self._task = asyncio.create_task(self._discover())

    async def change(self, settings: dict[str, Any], *, enabled: bool) -> None:
        """Applies new settings; what was not acknowledged by the function is delivered again."""
        await self.stop()
        self.settings.update(settings)
        self.enabled = enabled
        self.modified = time.time()
        self._switch()

    async def stop(self) -> None:
        """Stops polling; positions are kept."""
        tasks = [*self._pollers.values(), *([self._task] if self._task else [])]
        self._task = None
        self._pollers.clear()
        for task in tasks:
            task.cancel()
        for task in tasks:
            with contextlib.suppress(asyncio.CancelledError):
                await task

    def describe(self) -> dict[str, Any]:
        """The API's EventSourceMappingConfiguration structure."""
        described = {
            "UUID": self.uuid,
            "EventSourceArn": self.source,
            "EventSourceMappingArn": f"arn:aws:lambda:{self.context.region}:"
            f"{self.context.account_id}:event-source-mapping:{self.uuid}",
            "FunctionArn": self.function.arn,
            "LastModified": self.modified,
            "LastProcessingResult": self.last_result,
            "State": "Enabled" if self.enabled else "Disabled",
            "StateTransitionReason": "User action",
            **DEFAULTS,
            **self.settings,
        }
        if "StartingPositionTimestamp" not in self.settings:
            described.pop("StartingPositionTimestamp", None)
        return described

    def backlog(self) -> int:
        """Records that wait to be delivered."""
        total = 0
        for shard, position in self._positions.items():
            try:
                total += max(0, self.streams.position(self.source, shard, "LATEST") - position)
            except AwsError:
                continue
        return total

    async def _discover(self) -> None:
        """Keeps a poller for every shard whose parents have been read to their end."""
        while True:
            try:
                shards = self.streams.shard_ids(self.source)
            except AwsError as error:
                self.last_result = f"PROBLEM: {error.message}"
                shards = []
            for shard in shards:
                if shard in self._pollers or shard in self._finished:
                    continue
                parents = self.streams.parents(self.source, shard)
                if all(p in self._finished or p not in self._positions for p in parents):
                    # A shard that appears later is read from its beginning.
                    self._positions.setdefault(
                        shard, self.streams.position(self.source, shard, "TRIM_HORIZON")
                    )
                    self._pollers[shard] = asyncio.create_task(self._poll_for_ever(shard))
            await asyncio.sleep(DISCOVER_S)

    async def _poll_for_ever(self, shard: str) -> None:
        while True:
            try:
                await self._poll(shard)
            except AwsError as error:
                self.last_result = f"PROBLEM: {error.message}"
                await asyncio.sleep(POLL_S)
            except Exception:
                log.exception("event source mapping %s, %s", self.uuid, shard)
                await asyncio.sleep(POLL_S)
            else:
                self._finished.add(shard)
                return

    async def _poll(self, shard: str) -> None:
        """Reads a shard to its end."""
        settings = {**DEFAULTS, **self.settings}
        lanes = int(settings["ParallelizationFactor"])
        limit = int(settings["BatchSize"]) * lanes
        window_s = float(settings["MaximumBatchingWindowInSeconds"] or 0)
        while True:
            position = self._positions[shard]
            if not await self.streams.wait(self.source, shard, position, POLL_S):
                self._measure_age(0)
                continue
            if window_s:
                await self.streams.wait(self.source, shard, position + limit - 1, window_s)
            batch = self.streams.read(
                self.source, shard, position, limit, MAX_EVENT_BYTES * lanes // 2
            )
            if not batch.records:
                if batch.shard_ended:
                    return
                self._advance(shard, batch.next_position)
                continue
            if lanes == 1:
                await self._deliver(shard, batch.records)
            else:
                split: list[list[StreamRecord]] = [[] for _ in range(lanes)]
                for record in batch.records:
                    split[zlib.crc32(record.partition_key.encode()) % lanes].append(record)
                async with asyncio.TaskGroup() as group:
                    for lane in split:
                        if lane:
                            group.create_task(self._deliver(shard, lane))
            self._measure_age(int(time.time() * 1000) - batch.records[-1].arrival_ms)
            self._advance(shard, batch.next_position)

    def _advance(self, shard: str, position: int) -> None:
        """Goes on to a position, before which the stream need keep nothing for this mapping."""
        self._positions[shard] = position
        self.streams.checkpoint(self.source, self.uuid, shard, position)

    def _measure_age(self, age_ms: int) -> None:
        self.context.metrics.put(
            "AWS/Lambda",
            "IteratorAge",
            max(0, age_ms),
            unit="Milliseconds",
            dimensions={"FunctionName": self.function.name},
        )

    async def _deliver(
        self, shard: str, records: Sequence[StreamRecord], attempts: int = 0
    ) -> None:
        """Delivers records in order until the function took them or a limit is exceeded."""
        settings = {**DEFAULTS, **self.settings}
        retries = int(settings["MaximumRetryAttempts"])
        throttles = 0
        while records:
            records = await self._without_expired(shard, records, attempts)
            if not records:
                return
            try:
                result = await self.function.invoke(self._event(shard, records))
            except ThrottledError:
                throttles += 1
                self.last_result = "PROBLEM: Function call was throttled"
                await asyncio.sleep(_backoff_s(throttles))
                continue
            remaining = _remaining(records, result, settings)
            self.delivered += len(records) - len(remaining)
            if not remaining:
                self.last_result = "OK"
                return
            self.last_result = "PROBLEM: Function call failed"
            if result.error is None and len(remaining) < len(records):
                # A checkpoint: what comes before it is done.
                records = remaining
            attempts += 1
            if retries != -1 and attempts > retries:
                await self._give_up(shard, records, "RetryAttemptsExhausted", attempts, result)
                return
            if settings["BisectBatchOnFunctionError"] and len(records) > 1:
                middle = len(records) // 2
                # Splitting a batch does not count as a retry.
                await self._deliver(shard, records[:middle], attempts - 1)
                await self._deliver(shard, records[middle:], attempts - 1)
                return
            await asyncio.sleep(_backoff_s(attempts))

    async def _without_expired(
        self, shard: str, records: Sequence[StreamRecord], attempts: int
    ) -> Sequence[StreamRecord]:
        max_age_s = int({**DEFAULTS, **self.settings}["MaximumRecordAgeInSeconds"])
        if max_age_s == -1:
            return records
        oldest_ms = int(time.time() * 1000) - max_age_s * 1000
        expired = [record for record in records if record.arrival_ms < oldest_ms]
        if expired:
            await self._give_up(shard, expired, "RecordAgeExceeded", attempts, None)
        return [record for record in records if record.arrival_ms >= oldest_ms]

    def _event(self, shard: str, records: Sequence[StreamRecord]) -> bytes:
        account, region = self.context.account_id, self.context.region
        role = self.function.settings.get("Role") or f"arn:aws:iam::{account}:role/none"
        return orjson.dumps(
            {
                "Records": [
                    {
                        "kinesis": {
                            "kinesisSchemaVersion": "1.0",
                            "partitionKey": record.partition_key,
                            "sequenceNumber": record.sequence_number,
                            "data": record.data,
                            "approximateArrivalTimestamp": record.arrival_ms / 1000,
                        },
                        "eventSource": "aws:kinesis",
                        "eventVersion": "1.0",
                        "eventID": f"{shard}:{record.sequence_number}",
                        "eventName": "aws:kinesis:record",
                        "invokeIdentityArn": role,
                        "awsRegion": region,
                        "eventSourceARN": self.source,
                    }
                    for record in records
                ]
            }
        )

    async def _give_up(
        self,
        shard: str,
        records: Sequence[StreamRecord],
        condition: str,
        attempts: int,
        result: Result | None,
    ) -> None:
        """Sends the document about records that are skipped to the on-failure destination."""
        self.given_up += len(records)
        destination = (self.settings.get("DestinationConfig") or {}).get("OnFailure") or {}
        target = destination.get("Destination")
        log.warning(
            "mapping %s skips %d records of %s: %s", self.uuid, len(records), shard, condition
        )
        if not target:
            return
        document = json.dumps(self._document(shard, records, condition, attempts, result))
        for attempt in range(1, 1_000):
            try:
                await self._send(target, document)
            except Exception as error:  # noqa: BLE001 - nothing may be lost: it is tried again
                self.last_result = f"PROBLEM: on-failure destination: {error}"
                log.warning("mapping %s: %s", self.uuid, self.last_result)
                await asyncio.sleep(_backoff_s(attempt))
            else:
                return

    async def _send(self, target: str, document: str) -> None:
        service, name = target.split(":")[2], target.rpartition(":")[2]
        if service == "sqs":
            sqs = await self.context.client("sqs")
            url = (await sqs.get_queue_url(QueueName=name))["QueueUrl"]
            await sqs.send_message(QueueUrl=url, MessageBody=document)
        else:
            sns = await self.context.client("sns")
            await sns.publish(TopicArn=target, Message=document)

    def _document(
        self,
        shard: str,
        records: Sequence[StreamRecord],
        condition: str,
        attempts: int,
        result: Result | None,
    ) -> dict[str, Any]:
        document: dict[str, Any] = {
            "requestContext": {
                "requestId": result.request_id if result else str(uuid.uuid4()),
                "functionArn": self.function.arn,
                "condition": condition,
                "approximateInvokeCount": attempts,
            },
            "version": "1.0",
            "timestamp": _iso(time.time()),
            "KinesisBatchInfo": {
                "shardId": shard,
                "startSequenceNumber": records[0].sequence_number,
                "endSequenceNumber": records[-1].sequence_number,
                "approximateArrivalOfFirstRecord": _iso(records[0].arrival_ms / 1000),
                "approximateArrivalOfLastRecord": _iso(records[-1].arrival_ms / 1000),
                "batchSize": len(records),
                "streamArn": self.source,
            },
        }
        if result is not None:
            document["responseContext"] = {
                "statusCode": 200,
                "executedVersion": "$LATEST",
                "functionError": result.error,
            }
        return document


def _remaining(
    records: Sequence[StreamRecord], result: Result, settings: dict[str, Any]
) -> Sequence[StreamRecord]:
    """The records that the function did not take: from the lowest reported failure on."""
    if result.error is not None:
        return records
    if "ReportBatchItemFailures" not in (settings["FunctionResponseTypes"] or ()):
        return ()
    try:
        answer = orjson.loads(result.payload or b"null")
    except orjson.JSONDecodeError:
        return records
    if answer is None or answer == {}:
        return ()
    failures = answer.get("batchItemFailures") if isinstance(answer, dict) else None
    if failures is None:
        return () if isinstance(answer, dict) and "batchItemFailures" in answer else records
    if not failures:
        return ()
    index = {record.sequence_number: at for at, record in enumerate(records)}
    try:
        first = min(index[failure["itemIdentifier"]] for failure in failures)
    except (KeyError, TypeError):
        # An identifier that is none of ours: the whole batch counts as failed.
        return records
    return records[first:]


def _backoff_s(attempt: int) -> float:
    low, high = BACKOFF_S
    longest = min(high, low * float(2 ** min(attempt, 10)))
    return random.uniform(0.5, 1) * longest  # noqa: S311 - jitter


def _iso(epoch_s: float) -> str:
    moment = dt.datetime.fromtimestamp(epoch_s, dt.UTC)
    return moment.strftime("%Y-%m-%dT%H:%M:%S.") + f"{moment.microsecond // 1000:03d}Z"
