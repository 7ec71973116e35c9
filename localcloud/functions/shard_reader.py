"""Reads one shard for an event source mapping and deals its records out to lanes.

A lane delivers its batches one after the other; all records of a partition key are in one lane, so
that their order holds, and no lane waits for another. The checkpoint is the lowest position that
some lane has not finished: what lies before it is never delivered again.
"""

from __future__ import annotations

import asyncio
import math
import time
import zlib
from collections import deque
from dataclasses import dataclass, field
from itertools import compress
from typing import TYPE_CHECKING

from localcloud.functions.kinesis_event import MAX_EVENT_BYTES, Item
from localcloud.functions.windows import Window

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from localcloud.functions.filters import RecordFilter
    from localcloud.seams import StreamBatch, StreamSource

POLL_S = 1.0
# While a batch gathers, how long reading waits for the records that it lacks, and how long before
# the batch leaves it reads what there is.
GATHER_S = 0.25
LAST_READ_S = 0.02
# How far the fastest lane may be ahead of the slowest.
MAX_AHEAD = 100_000
MAX_READ_RECORDS = 10_000
MAX_READ_BYTES = 10 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Reading:
    """How a shard is read; the mapping's settings, resolved.

    Attributes:
        source: ARN of the stream.
        shard: The shard.
        lanes: Parallelization factor.
        batch_size: Most records of a batch.
        batching_s: How long a batch that is not full waits for more.
        window_s: Length of tumbling windows; 0 for none.
        records: Which records are delivered.
        encode: Gives records the form that they have in events.
        refusal: Why the stream may not be read at the moment; None where it may.
        refused: Is told of that.
    """

    source: str
    shard: str
    lanes: int
    batch_size: int
    batching_s: float
    window_s: int
    records: RecordFilter
    encode: Callable[[StreamBatch], list[Item]]
    refusal: Callable[[], str | None]
    refused: Callable[[str], None]


@dataclass(slots=True)
class Lane:
    """Records that wait, and the position of the first one that is being delivered.

    Attributes:
        leaves_s: Monotonic time at which the batch that gathers leaves, full or not.
    """

    waiting: deque[Item] = field(default_factory=deque)
    size: int = 0
    doing: int | None = None
    changed: asyncio.Event = field(default_factory=asyncio.Event)
    window: Window | None = None
    leaves_s: float | None = None

    def extend(self, items: Sequence[Item]) -> None:
        """Takes records that wait from now on."""
        self.waiting.extend(items)
        self.size += sum([len(item.text) for item in items]) + len(items)

    @property
    def lowest(self) -> int | None:
        """The lowest position that is not finished; None where there is none."""
        if self.doing is not None:
            return self.doing
        return self.waiting[0].position if self.waiting else None


class ShardReader:
    """One shard of one mapping.

    Args:
        streams: Where it is read.
        how: See `Reading`.
        position: Where to begin.
        deliver: Delivers a batch of a lane to its end; it moves `lane.doing` as it goes, and calls
            `checkpoint` then.
        moved: Is told every new checkpoint.
        count: Is told (read, filtered out) records.
        idle: Is called when nothing arrived for a while.
        window: A tumbling window that was open at the checkpoint.
    """

    def __init__(
        self,
        streams: StreamSource,
        how: Reading,
        position: int,
        *,
        deliver: Callable[[ShardReader, Lane, Sequence[Item]], Awaitable[None]],
        moved: Callable[[int, Window | None], None],
        count: Callable[[int, int], None],
        idle: Callable[[], None],
        window: Window | None = None,
    ) -> None:
        self.how = how
        self._streams = streams
        self._position = position
        self._deliver = deliver
        self._moved = moved
        self._count = count
        self._idle = idle
        self._lanes = [Lane() for _ in range(how.lanes)]
        self._lanes[0].window = window
        self._ended = False
        self._room = asyncio.Event()

    async def run(self) -> None:
        """Returns when the shard is closed and all of it was delivered."""
        async with asyncio.TaskGroup() as group:
            for lane in self._lanes:
                group.create_task(self._serve(lane))
            await self._read()

    def checkpoint(self) -> None:
        """Tells the position before which everything is finished."""
        lowest = [lane.lowest for lane in self._lanes]
        position = min([self._position, *(at for at in lowest if at is not None)])
        self._moved(position, self._lanes[0].window)

    async def _read(self) -> None:
        how = self.how
        limit = min(how.batch_size * how.lanes, MAX_READ_RECORDS)
        while not self._ended:
            while self._full():
                self._room.clear()
                await self._room.wait()
            if not await self._arrived():
                self._wake()
                if all(lane.lowest is None for lane in self._lanes):
                    self._idle()
                continue
            refusal = how.refusal()
            if refusal is not None:
                how.refused(refusal)
                await asyncio.sleep(POLL_S)
                continue
            batch = self._streams.read(how.source, how.shard, self._position, limit, MAX_READ_BYTES)
            taken = self._deal(batch)
            self._position = batch.next_position
            self._ended = batch.shard_ended
            self._count(len(batch), len(batch) - taken)
            self.checkpoint()
            self._wake()

    async def _arrived(self) -> bool:
        """Waits for records; False where none came for a while.

        While batches gather it rather waits for all that they lack: a read for each record that is
        put costs more than the record does.
        """
        how = self.how
        if how.batching_s and not how.window_s and all(lane.waiting for lane in self._lanes):
            # Lanes that begin to gather do so now, and tell until when.
            await asyncio.sleep(0)
            lacking = sum(max(0, how.batch_size - len(lane.waiting)) for lane in self._lanes)
            leaves_s = min(lane.leaves_s or math.inf for lane in self._lanes)
            patience_s = min(GATHER_S, leaves_s - time.monotonic() - LAST_READ_S)
            last = self._position + lacking - 1
            if patience_s > 0 and await self._streams.wait(how.source, how.shard, last, patience_s):
                return True
        return await self._streams.wait(how.source, how.shard, self._position, POLL_S)

    def _deal(self, batch: StreamBatch) -> int:
        """Deals records out to the lanes; returns how many the filters took."""
        how = self.how
        items = how.encode(batch)
        keys = batch.keys
        if how.records:
            takes = [how.records.takes(one, how.shard, how.source) for one in batch.records()]
            items, keys = list(compress(items, takes)), list(compress(keys, takes))
        if how.lanes == 1:
            self._lanes[0].extend(items)
            return len(items)
        dealt: list[list[Item]] = [[] for _ in self._lanes]
        for item, key in zip(items, keys, strict=True):
            dealt[zlib.crc32(key.encode()) % how.lanes].append(item)
        for lane, part in zip(self._lanes, dealt, strict=True):
            lane.extend(part)
        return len(items)

    def _wake(self) -> None:
        for lane in self._lanes:
            lane.changed.set()

    def _full(self) -> bool:
        """Whether every lane has its next batch, or one is too far behind."""
        if all(self._has_batch(lane) for lane in self._lanes):
            return True
        lowest = [at for lane in self._lanes if (at := lane.lowest) is not None]
        return bool(lowest) and self._position - min(lowest) >= MAX_AHEAD

    def _has_batch(self, lane: Lane) -> bool:
        return len(lane.waiting) >= self.how.batch_size or lane.size >= MAX_EVENT_BYTES

    async def _serve(self, lane: Lane) -> None:
        while True:
            await self._something(lane)
            if lane.waiting:
                await self._gather(lane)
            if self._closes(lane):
                # The window's last invocation has no records.
                await self._finish(lane, ())
            elif lane.waiting:
                await self._finish(lane, self._take(lane))
            elif self._ended:
                return

    async def _finish(self, lane: Lane, items: Sequence[Item]) -> None:
        await self._deliver(self, lane, items)
        lane.doing = None
        self.checkpoint()
        self._room.set()

    async def _something(self, lane: Lane) -> None:
        """Waits until the lane has records, its window is over, or the shard has ended."""
        while not (lane.waiting or self._closes(lane) or self._ended):
            lane.changed.clear()
            await _wait(lane.changed, self._until_window_ends_s(lane))

    async def _gather(self, lane: Lane) -> None:
        """Waits for a full batch, as long as the batching window is."""
        lane.leaves_s = leaves_s = time.monotonic() + self.how.batching_s
        while not (self._has_batch(lane) or self._ended or self._next_window(lane)):
            left_s = leaves_s - time.monotonic()
            if left_s <= 0:
                break
            lane.changed.clear()
            await _wait(lane.changed, left_s)
        lane.leaves_s = None

    def _take(self, lane: Lane) -> list[Item]:
        window = self._window_of(lane.waiting[0])
        if window is None and lane.size < MAX_EVENT_BYTES:
            count = min(len(lane.waiting), self.how.batch_size)
            items = [lane.waiting.popleft() for _ in range(count)]
            lane.size -= sum([len(item.text) for item in items]) + count
        else:
            items = self._take_fitting(lane, window)
        lane.doing = items[0].position
        if window is not None and lane.window is None:
            lane.window = Window(window, window + self.how.window_s * 1000)
        self._room.set()
        return items

    def _take_fitting(self, lane: Lane, window: int | None) -> list[Item]:
        """The first records of one window that fit into an event."""
        items: list[Item] = []
        size = 0
        while lane.waiting and len(items) < self.how.batch_size:
            item = lane.waiting[0]
            size += len(item.text) + 1
            if items and (size > MAX_EVENT_BYTES or self._window_of(item) != window):
                break
            items.append(lane.waiting.popleft())
            lane.size -= len(item.text) + 1
        return items

    # Tumbling windows; the times of records never go back within a shard.

    def _window_of(self, item: Item) -> int | None:
        if not self.how.window_s:
            return None
        return item.arrival_ms - item.arrival_ms % (self.how.window_s * 1000)

    def _next_window(self, lane: Lane) -> bool:
        """Whether records of a later window than the open one wait."""
        window = lane.window
        return (
            window is not None
            and bool(lane.waiting)
            and lane.waiting[-1].arrival_ms >= window.end_ms
        )

    def _closes(self, lane: Lane) -> bool:
        """Whether the open window has got all of its records."""
        window = lane.window
        if window is None:
            return False
        if lane.waiting:
            return lane.waiting[0].arrival_ms >= window.end_ms
        return self._ended or (time.time() * 1000 >= window.end_ms and self._at_tip())

    def _at_tip(self) -> bool:
        how = self.how
        return self._streams.position(how.source, how.shard, "LATEST") <= self._position

    def _until_window_ends_s(self, lane: Lane) -> float | None:
        if lane.window is None:
            return None
        return max(0.01, lane.window.end_ms / 1000 - time.time())


async def _wait(event: asyncio.Event, timeout_s: float | None) -> None:
    try:
        async with asyncio.timeout(timeout_s):
            await event.wait()
    except TimeoutError:
        return
