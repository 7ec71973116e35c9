"""Into a Kinesis stream by PutRecords: batched, bounded in flight, tried again, never dropped.

Outcomes follow Jepsen's names. A reading is `acked` when Kinesis returned its sequence number,
`failed` when it was surely not taken (refused until the attempts were used up, or never sent), and
`unknown` when a request ended without an answer: it may have landed or not.
"""

from __future__ import annotations

import asyncio
import contextlib
import heapq
import itertools
import random
import time
from collections import deque
from typing import TYPE_CHECKING, Self

import numpy as np

from fleetcast.errors import TargetError
from simulator.batch import ACKED, UNKNOWN, Batch
from simulator.fleet import MAX_BLOCK
from simulator.transports import Traffic
from simulator.transports.bodies import aggregated_body, plain_body, record_texts
from simulator.transports.putrecords import (
    NeverConnectedError,
    NoAnswerError,
    PutRecords,
    RefusedError,
)
from simulator.transports.shards import ShardMap
from simulator.transports.turns import Turns
from simulator.transports.window import Window

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from fleetcast.target import Target
    from simulator.transports import Done
    from simulator.transports.answers import Answer

MAX_RECORDS = 500
MAX_BYTES = 5 * 1024 * 1024
# Less than a tick of the schedule: what one releases goes out together, and hardly later.
LINGER_S = 0.002
# More readings come together in a record when they wait; the producer library waits 0.1 s.
AGGREGATE_LINGER_S = 0.05
# Of more readings that wait for a slow target, payloads are memory enough.
KEPT_READY = 50_000
REQUESTS = 24
ATTEMPTS = 12
BACKOFF_S = (0.05, 5.0)
THROTTLED = "ProvisionedThroughputExceededException"
# Kinesis says of these that trying again may help; the rest of its errors are final.
RETRIED = {
    THROTTLED, "InternalFailure", "InternalFailureException",
    "ServiceUnavailable", "ThrottlingException", "KMSThrottlingException", "LimitExceededException",
    "500", "502", "503", "504",
}  # fmt: skip
_TOO_MUCH = {THROTTLED, "ThrottlingException", "LimitExceededException"}


class KinesisTransport:
    """Sends to one stream.

    Args:
        target: Where the stream is.
        stream: Its name.
        done: Is told every reading when its outcome is decided.
        requests: Most PutRecords requests at a time; fewer while Kinesis throttles.
        attempts: Most times that a reading is sent.
        aggregate: Put many readings of a shard into one record, as the Kinesis Producer Library.
        strict: Keep the order of readings under one key, whatever is refused meanwhile: one of
            them is on its way at a time.
    """

    def __init__(
        self,
        target: Target,
        stream: str,
        done: Done,
        *,
        requests: int = REQUESTS,
        attempts: int = ATTEMPTS,
        aggregate: bool = False,
        strict: bool = False,
    ) -> None:
        self._aggregate = aggregate
        self._linger_s = AGGREGATE_LINGER_S if aggregate else LINGER_S
        # As many as a block of the fleet has: behind the schedule, blocks leave as they are.
        self._most = MAX_BLOCK if aggregate else MAX_RECORDS
        self._turns = Turns() if strict else None
        self._map: ShardMap | None = None
        self._mapping: asyncio.Task[None] | None = None
        self._stream = stream
        self._done = done
        self._attempts = attempts
        self._client = PutRecords(target, stream, requests)
        self._window = Window(requests)
        # (since when it waits, readings)
        self._queue: deque[tuple[float, Batch]] = deque()
        self._queued = 0
        # Readings that wait for one before them under the same key.
        self._held = 0
        # (when to try again, a number that is never equal, readings)
        self._again: list[tuple[float, int, Batch]] = []
        self._order = itertools.count()
        self._open = 0
        self._wake = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()
        self._pending: set[asyncio.Task[None]] = set()
        self._problem: BaseException | None = None
        self._dispatcher: asyncio.Task[None] | None = None
        self.traffic = Traffic(window=requests)
        self.shards = 0
        self._largest = MAX_BYTES

    async def __aenter__(self) -> Self:
        await self._client.__aenter__()
        summary = self._client.summary
        self.shards = summary["OpenShardCount"]
        self._largest = summary.get("MaxRecordSizeInKiB", 1024) * 1024
        if self._aggregate:
            try:
                await self._load_map()
            except BaseException:
                await self._client.__aexit__(None, None, None)
                raise
        self._dispatcher = asyncio.create_task(self._dispatch())
        self._dispatcher.add_done_callback(self._ended)
        return self

    async def _load_map(self) -> None:
        self._map = ShardMap(await self._client.shards())

    async def __aexit__(self, *_: object) -> None:
        tasks = [task for task in (self._dispatcher, self._mapping) if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._client.__aexit__(None, None, None)

    @property
    def in_flight(self) -> int:
        """See `Transport`."""
        return self._open - self.backlog

    @property
    def backlog(self) -> int:
        """See `Transport`."""
        return self._queued + self._held

    def ahead(self, batch: Batch) -> None:
        """See `Prepares`."""
        if self._map is None and self.backlog < KEPT_READY // 2:
            # Of a whole block: for what one tick of the schedule releases it costs twice as much.
            batch.records = record_texts(batch.payloads, batch.keys)

    def send(self, batch: Batch) -> None:
        """See `Transport`."""
        if not len(batch):
            return
        self._open += len(batch)
        self._idle.clear()
        if self._turns is None:
            self._enqueue(batch)
            return
        self._held += len(batch)
        for free in self._turns.take(batch):
            self._held -= len(free)
            self._enqueue(free)

    def _enqueue(self, batch: Batch) -> None:
        if self._queued > KEPT_READY:
            batch.records = None
        self._queue.append((time.monotonic(), batch))
        self._queued += len(batch)
        self._wake.set()

    async def drain(self) -> None:
        """See `Transport`."""
        await self._idle.wait()
        if self._problem is not None:
            raise self._problem

    async def abandon(self, grace_s: float) -> None:
        """See `Transport`."""
        if self._dispatcher is not None:
            self._dispatcher.cancel()
        if self._pending:
            await asyncio.wait(self._pending, timeout=grace_s)
        unsent = [batch for _, batch in self._queue]
        if self._turns is not None:
            unsent += self._turns.rest()
            self._turns, self._held = None, 0
        refused = [batch for _, _, batch in self._again]
        self._queue.clear()
        self._again.clear()
        self._queued = 0
        for batch in unsent:
            batch.fail()
        for batch in [*unsent, *refused]:
            self._finish(batch)
        tasks = list(self._pending)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _dispatch(self) -> None:
        """Cuts what waits into requests: when one is full, or a short time after its first."""
        loop = asyncio.get_running_loop()
        while True:
            wait_s = self._wait_s()
            if wait_s is None or wait_s > 0:
                self._wake.clear()
                timer = loop.call_later(wait_s, self._wake.set) if wait_s else None
                await self._wake.wait()
                if timer:
                    timer.cancel()
                continue
            await self._window.enter()
            task = asyncio.create_task(self._deliver(self._next_batch()))
            self._pending.add(task)
            task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        """A task that breaks off must not leave a run waiting for it for ever."""
        self._pending.discard(task)
        if not task.cancelled() and (problem := task.exception()) is not None:
            self._problem = problem
            self._idle.set()

    def _wait_s(self) -> float | None:
        """How long until a request should go out; None if there is nothing to send."""
        if self._queued >= self._most:
            return 0
        starts = []
        if self._queue:
            starts.append(self._queue[0][0] + self._linger_s)
        if self._again:
            starts.append(self._again[0][0])
        return min(starts) - time.monotonic() if starts else None

    def _next_batch(self) -> Batch:
        """What goes out next: first what was refused, as it is older."""
        parts: list[Batch] = []
        room, left = self._most, MAX_BYTES
        now_s = time.monotonic()
        while room and self._again and self._again[0][0] <= now_s:
            batch = heapq.heappop(self._again)[2]
            count, size = self._fitting(batch, room, left, first=not parts)
            if count < len(batch):
                rest = batch.part(count, len(batch))
                heapq.heappush(self._again, (0.0, next(self._order), rest))
            if count:
                parts.append(batch.part(0, count))
            room, left = room - count, left - size
            if count < len(batch):
                return Batch.joined(parts)
        while room and self._queue:
            since_s, batch = self._queue[0]
            if self._map is None and batch.records is None:
                # Of all that left together at once: for a request's worth it costs far more.
                batch.records = record_texts(batch.payloads, batch.keys)
            count, size = self._fitting(batch, room, left, first=not parts)
            if not count:
                break
            parts.append(batch.part(0, count))
            self._queued -= count
            room, left = room - count, left - size
            if count < len(batch):
                self._queue[0] = (since_s, batch.part(count, len(batch)))
                break
            self._queue.popleft()
        return Batch.joined(parts)

    def _fitting(self, batch: Batch, room: int, left: int, *, first: bool) -> tuple[int, int]:
        """How many of a batch's readings fit into a request, and at most how many bytes they are."""
        count = min(room, len(batch))
        most = batch.largest * count
        if most <= left and batch.largest <= self._largest:
            return count, most
        sizes = batch.payloads[:count].sizes + batch.keys[:count].sizes
        total = sizes.cumsum()
        fits = (total <= left) & (sizes <= self._largest)
        count = count if fits.all() else int(fits.argmin())
        if not count and first:
            # What is too large for the stream goes alone: a refusal takes no other with it.
            return 1, left
        return count, int(total[count - 1]) if count else 0

    async def _deliver(self, batch: Batch) -> None:
        """Sends a batch once; what should be tried again waits for its time."""
        try:
            again = await self._put(batch)
        except asyncio.CancelledError:
            # Cut off: what waits for an answer stays unknown.
            self._finish(batch)
            raise
        finally:
            self._window.leave()
            self.traffic.window = self._window.size
        if again is None:
            return
        spent = again.rows["attempts"] >= self._attempts
        if spent.any():
            self._finish(again.take(np.flatnonzero(spent)))
            again = again.take(np.flatnonzero(~spent))
        if len(again):
            low, high = BACKOFF_S
            attempt = int(again.rows["attempts"].max())
            wait_s = random.uniform(0, min(high, low * 2.0**attempt))  # noqa: S311 - jitter
            heapq.heappush(self._again, (time.monotonic() + wait_s, next(self._order), again))
            self._wake.set()

    async def _put(self, batch: Batch) -> Batch | None:
        """Sends once; finishes what is decided and returns what should be tried again."""
        if self._map is not None:
            batch = self._grouped(batch, self._map)
        rows, traffic = batch.rows, self.traffic
        traffic.retries += int(np.count_nonzero(rows["attempts"]))
        rows["sent_ns"][rows["sent_ns"] == 0] = time.time_ns()
        rows["attempts"] += 1
        rows["outcome"] = UNKNOWN
        records = len(batch)
        if batch.groups is None or self._map is None:
            texts = batch.records or record_texts(batch.payloads, batch.keys)
            body = plain_body(self._stream, texts)
        else:
            records = len(batch.groups)
            body = aggregated_body(self._stream, batch, batch.groups, self._map)
        traffic.requests += 1
        traffic.records += records
        traffic.bytes += len(body)
        try:
            return self._settle(batch, await self._client.put(body, records))
        except NeverConnectedError as error:
            traffic.failed(error)
            batch.fail()
            return batch
        except RefusedError as refused:
            traffic.failed(refused)
            self._window.answered(1.0 if refused.code in _TOO_MUCH else 0.0)
            batch.fail()
            if refused.code in RETRIED:
                return batch
            self._finish(batch)
            return None
        except NoAnswerError as error:
            # Sent, perhaps, and no answer: it may have landed. Trying again may duplicate it.
            traffic.failed(error)
            rows["maybe"] = True
            return batch

    def _grouped(self, batch: Batch, shards: ShardMap) -> Batch:
        """Readings grouped into records; what is too much for one request waits for the next."""
        batch = shards.grouped(batch)
        groups = batch.groups
        if groups is not None and len(groups) > MAX_RECORDS:
            first = int(groups[:MAX_RECORDS].sum())
            heapq.heappush(self._again, (0.0, next(self._order), batch.part(first, len(batch))))
            self._wake.set()
            batch = batch.part(0, first)
            batch.groups = groups[:MAX_RECORDS]
        return batch

    def _settle(self, batch: Batch, answer: Answer) -> Batch | None:
        acked_ns = time.time_ns()
        numbers, shards, codes = answer.numbers, answer.shards, answer.codes
        throttled = codes.count(THROTTLED)
        self.traffic.throttled += throttled
        self._window.answered(throttled / len(answer))
        if self._map is not None and not self._map.names.issuperset(shards.known):
            self._map_again()
        if batch.groups is not None:
            # Every reading of a record has that record's fate, shard and sequence number.
            record = np.repeat(np.arange(len(batch.groups)), batch.groups)
            numbers = numbers.take(record) if codes else numbers.repeated(record)
            shards = shards.take(record)
            codes = codes and [codes[place] for place in record.tolist()]
        batch.rows["acked_ns"] = acked_ns
        batch.rows["outcome"] = ACKED
        batch.shards, batch.sequence_numbers = shards, numbers
        if not codes:
            self._finish(batch)
            return None
        self.traffic.last_error = next((code for code in codes if code), "")
        there = numbers.there
        retried = np.array([code in RETRIED for code in codes]) & ~there
        refused, again = (
            self._refused(batch, places)
            for places in (np.flatnonzero(~there & ~retried), np.flatnonzero(retried))
        )
        self._finish(batch.take(np.flatnonzero(there)))
        self._finish(refused)
        return again if len(again) else None

    @staticmethod
    def _refused(batch: Batch, places: NDArray[np.intp]) -> Batch:
        part = batch.take(places)
        part.rows["acked_ns"] = 0
        part.shards = part.sequence_numbers = None
        part.fail()
        return part

    def _map_again(self) -> None:
        """The stream was resharded: asks for its shards once."""

        async def load() -> None:
            # Grouped by the shards of before, readings land all the same.
            with contextlib.suppress(TargetError):
                await self._load_map()

        if self._mapping is None or self._mapping.done():
            self._mapping = asyncio.create_task(load())

    def _finish(self, batch: Batch) -> None:
        if not len(batch):
            return
        self._open -= len(batch)
        if self._turns is not None:
            for free in self._turns.next_of(batch):
                self._held -= len(free)
                self._enqueue(free)
        self._done(batch)
        if not self._open:
            self._idle.set()
