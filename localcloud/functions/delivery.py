"""What becomes of a batch of an event source mapping: invoked, retried, split, or given up.

Follows "Configuring error handling" and "Retain discarded batch records" of the Lambda developer
guide. Every record of a batch is taken by the function or told to the on-failure destination.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
import uuid
from collections import deque
from typing import TYPE_CHECKING, Any

from localcloud.functions.destinations import Destinations, iso
from localcloud.functions.function import ThrottledError
from localcloud.functions.kinesis_event import Item, event, remaining
from localcloud.functions.windows import Window
from localcloud.http import AwsError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from localcloud.functions.mapping import EventSourceMapping
    from localcloud.functions.runtime import Result
    from localcloud.functions.shard_reader import Lane, ShardReader

log = logging.getLogger(__name__)

BACKOFF_S = (0.2, 10.0)


class Delivery:
    """Delivers batches with the settings that a mapping had when it was made.

    Args:
        mapping: Whose.
        settings: Its settings, with defaults.
    """

    def __init__(self, mapping: EventSourceMapping, settings: dict[str, Any]) -> None:
        self._mapping = mapping
        self._destinations = Destinations(mapping.context)
        self._retries = int(settings["MaximumRetryAttempts"])
        self._max_age_s = int(settings["MaximumRecordAgeInSeconds"])
        self._bisect = bool(settings["BisectBatchOnFunctionError"])
        self._partial = "ReportBatchItemFailures" in (settings["FunctionResponseTypes"] or ())
        on_failure = (settings["DestinationConfig"] or {}).get("OnFailure") or {}
        self._on_failure: str | None = on_failure.get("Destination")

    async def deliver(self, reader: ShardReader, lane: Lane, items: Sequence[Item]) -> None:
        """Delivers a batch to its end; without items, the last invocation of the open window."""
        if not items:
            await self._close_window(reader, lane, early=False)
            return
        shard = reader.how.shard
        # Parts in order; the number is how many attempts have failed.
        parts: deque[tuple[Sequence[Item], int]] = deque([(items, 0)])
        throttles = 0
        while parts:
            part, attempts = parts.popleft()
            part = await self._without_expired(shard, part, attempts)
            if not part:
                continue
            lane.doing = part[0].position
            reader.checkpoint()
            result, stopping = await self._invoke(event(part, self._members(lane, shard)))
            if result is None:
                # It never ran: no failure of the batch, which only its age ends.
                throttles += 1
                parts.appendleft((part, attempts))
                await asyncio.sleep(_backoff_s(throttles))
                continue
            throttles = 0
            left = remaining(part, result, partial=self._partial, stateful=lane.window is not None)
            self._took(lane, part, len(part) - len(left), result)
            if left:
                lane.doing = left[0].position
            if stopping:
                self._stop(reader, lane, left, parts)
            if not left:
                await self._after_window_overflow(reader, lane)
                continue
            self._mapping.last_result = "PROBLEM: Function call failed"
            attempts += 1
            if self._retries != -1 and attempts > self._retries:
                await self._give_up(shard, left, "RetryAttemptsExhausted", attempts, result)
            elif self._bisect and len(left) == len(part) > 1:
                # Splitting does not count as a retry. A partial answer has split the batch already.
                middle = len(left) // 2
                parts.extendleft([(left[middle:], attempts - 1), (left[:middle], attempts - 1)])
            else:
                parts.appendleft((left, attempts))
                await asyncio.sleep(_backoff_s(attempts))

    def _took(self, lane: Lane, part: Sequence[Item], taken: int, result: Result) -> None:
        mapping = self._mapping
        mapping.delivered += taken
        mapping.count("InvokedEventCount", len(part))
        mapping.count("FailedInvokeEventCount", len(part) - taken)
        mapping.measure_age(int(time.time() * 1000) - part[-1].arrival_ms)
        if taken:
            if taken == len(part):
                mapping.last_result = "OK"
            if lane.window is not None:
                lane.window.take_state(result.payload)

    def _stop(
        self,
        reader: ShardReader,
        lane: Lane,
        left: Sequence[Item],
        parts: deque[tuple[Sequence[Item], int]],
    ) -> None:
        """Keeps what the last invocation achieved before the mapping changes."""
        if not left:
            lane.doing = parts[0][0][0].position if parts else None
        reader.checkpoint()
        raise asyncio.CancelledError

    def _members(self, lane: Lane, shard: str) -> dict[str, Any] | None:
        if lane.window is None:
            return None
        return lane.window.members(shard, self._mapping.source, final=False, early=False)

    async def _invoke(self, body: bytes) -> tuple[Result | None, bool]:
        """(how the invocation ended, None where it never began; whether to stop afterwards)."""
        mapping = self._mapping
        invocation = asyncio.ensure_future(self._run(body))
        stopping = False
        try:
            try:
                return await asyncio.shield(invocation), False
            except asyncio.CancelledError:
                if not mapping.draining:
                    invocation.cancel()
                    await asyncio.wait({invocation})
                    raise
                stopping = True
                return await invocation, True
        except AwsError as error:
            if stopping:
                raise asyncio.CancelledError from None
            throttled = isinstance(error, ThrottledError)
            why = "Function call was throttled" if throttled else error.message
            mapping.last_result = f"PROBLEM: {why}"
            return None, False

    async def _run(self, body: bytes) -> Result:
        """Invokes the function, unless a fault on Lambda's Invoke is in the way."""
        function = self._mapping.function
        await self._mapping.context.faults.admit("lambda", "Invoke", function.name)
        return await function.invoke(body)

    async def _close_window(self, reader: ShardReader, lane: Lane, *, early: bool) -> None:
        """Invokes for the last time in a window, until that succeeds; drops its state then."""
        window = lane.window
        if window is None:
            return
        members = window.members(reader.how.shard, self._mapping.source, final=True, early=early)
        attempts = 0
        while True:
            result, stopping = await self._invoke(event((), members))
            succeeded = result is not None and result.error is None
            if succeeded:
                lane.window = Window(window.start_ms, window.end_ms) if early else None
                reader.checkpoint()
            if stopping:
                raise asyncio.CancelledError
            if succeeded:
                return
            if result is not None:
                self._mapping.last_result = "PROBLEM: Function call failed"
            attempts += 1
            await asyncio.sleep(_backoff_s(attempts))

    async def _after_window_overflow(self, reader: ShardReader, lane: Lane) -> None:
        if lane.window is not None and lane.window.overflows:
            await self._close_window(reader, lane, early=True)

    async def _without_expired(
        self, shard: str, part: Sequence[Item], attempts: int
    ) -> Sequence[Item]:
        mapping = self._mapping
        # What the stream itself no longer holds has expired, whatever the mapping allows.
        horizon = mapping.streams.position(mapping.source, shard, "TRIM_HORIZON")
        oldest_ms = 0
        if self._max_age_s != -1:
            oldest_ms = int(time.time() * 1000) - self._max_age_s * 1000
        # Neither positions nor times go back within a shard.
        if part[0].arrival_ms >= oldest_ms and part[0].position >= horizon:
            return part
        expired = [item for item in part if item.arrival_ms < oldest_ms or item.position < horizon]
        await self._give_up(shard, expired, "RecordAgeExceeded", attempts, None)
        return part[len(expired) :]

    async def _give_up(
        self,
        shard: str,
        items: Sequence[Item],
        condition: str,
        attempts: int,
        result: Result | None,
    ) -> None:
        """Tells the on-failure destination about records that are skipped."""
        mapping = self._mapping
        log.warning(
            "mapping %s skips %d records of %s: %s", mapping.uuid, len(items), shard, condition
        )
        if self._on_failure:
            await self._send(shard, items, _document(mapping, shard, items, condition, attempts,
                                                     result))  # fmt: skip
            mapping.count("OnFailureDestinationDeliveredEventCount", len(items))
        else:
            mapping.count("DroppedEventCount", len(items))
        mapping.given_up += len(items)

    async def _send(self, shard: str, items: Sequence[Item], document: dict[str, Any]) -> None:
        mapping = self._mapping
        attempt = 0
        while True:
            try:
                with mapping.context.access.acting(mapping.function.acting):
                    await self._destinations.send(
                        str(self._on_failure),
                        document,
                        folder=f"{mapping.uuid}/{shard}",
                        payload=event(items),
                    )
            except Exception as error:  # noqa: BLE001 - nothing may be lost: it is tried again
                attempt += 1
                mapping.last_result = f"PROBLEM: on-failure destination: {error}"
                log.warning("mapping %s: %s", mapping.uuid, mapping.last_result)
                mapping.context.metrics.put(
                    "AWS/Lambda",
                    "DestinationDeliveryFailures",
                    1,
                    unit="Count",
                    dimensions={"FunctionName": mapping.function.name},
                )
                await asyncio.sleep(_backoff_s(attempt))
            else:
                return


def _document(
    mapping: EventSourceMapping,
    shard: str,
    items: Sequence[Item],
    condition: str,
    attempts: int,
    result: Result | None,
) -> dict[str, Any]:
    first, last = items[0], items[-1]
    document: dict[str, Any] = {
        "requestContext": {
            "requestId": result.request_id if result else str(uuid.uuid4()),
            "functionArn": mapping.function.arn,
            "condition": condition,
            "approximateInvokeCount": attempts,
        },
        "version": "1.0",
        "timestamp": iso(time.time()),
        "KinesisBatchInfo": {
            "shardId": shard,
            "startSequenceNumber": first.sequence_number,
            "endSequenceNumber": last.sequence_number,
            "approximateArrivalOfFirstRecord": iso(first.arrival_ms / 1000),
            "approximateArrivalOfLastRecord": iso(last.arrival_ms / 1000),
            "batchSize": len(items),
            "streamArn": mapping.source,
        },
    }
    if result is not None:
        document["responseContext"] = {
            "statusCode": 200,
            "executedVersion": "$LATEST",
            "functionError": result.error,
        }
    return document


def _backoff_s(attempt: int) -> float:
    low, high = BACKOFF_S
    longest = min(high, low * float(2 ** min(attempt, 10)))
    return random.uniform(0.5, 1) * longest  # noqa: S311 - jitter
