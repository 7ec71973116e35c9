"""One shard: its records, its limits, and who waits for it.

Limits follow "Quotas and limits" of the Kinesis developer guide: 1 MiB/s and 1,000 records/s in,
2 MiB/s and 5 GetRecords calls/s out, each with one second's worth at once.
"""

from __future__ import annotations

import asyncio
from bisect import bisect_right
from dataclasses import dataclass, field

from localcloud.kinesis.limits import MIB, Clock, TokenBucket
from localcloud.kinesis.segment import Accepted, Page, Segment
from localcloud.seams import StreamBatch, StreamRecord

WRITE_BYTES_PER_S = MIB
WRITE_RECORDS_PER_S = 1000
READ_BYTES_PER_S = 2 * MIB
READ_CALLS_PER_S = 5
ITERATOR_CALLS_PER_S = 5
MAX_HASH_KEY = 2**128 - 1
# The last 14 of 56 digits. One below the first record's is left for "before the first record".
_FIRST_NUMBER = 10**13 + 1
_NUMBER_DIGITS = 14


@dataclass(slots=True)
class Tally:
    """What happened to a shard since its shard-level metrics were last published."""

    in_bytes: int = 0
    in_records: int = 0
    out_bytes: int = 0
    out_records: int = 0
    write_throttled: int = 0
    read_throttled: int = 0
    age_ms: int | None = None


@dataclass(slots=True, eq=False)
class Shard:
    """A hash range and its records. Positions count records ever put, so they outlive expiry.

    Attributes:
        read_position: Position up to which someone has read, whoever it was.
        closed_ms: When it was closed; None while it is open.
    """

    shard_id: str
    number: int
    start_hash: int
    end_hash: int
    created_ms: int
    parent: str | None = None
    adjacent_parent: str | None = None
    clock: Clock = field(default_factory=Clock)
    max_record_bytes: int = MIB
    closed_ms: int | None = None
    first_position: int = 0
    end_position: int = 0
    read_position: int = 0
    bytes_held: int = 0
    last_ms: int = 0
    tally: Tally = field(default_factory=Tally)
    write_bytes: TokenBucket = field(init=False)
    write_records: TokenBucket = field(init=False)
    burst_bytes: TokenBucket | None = None
    read_bytes: TokenBucket = field(init=False)
    read_calls: TokenBucket = field(init=False)
    iterator_calls: TokenBucket = field(init=False)
    number_prefix: str = ""
    _segments: list[Segment] = field(default_factory=list)
    _starts: list[int] = field(default_factory=list)
    _waiting: list[tuple[int, asyncio.Future[None]]] = field(default_factory=list)

    def __post_init__(self) -> None:
        # 56 digits like AWS's, ordered as numbers and as text; the tail is the position.
        self.number_prefix = f"496{self.created_ms:013d}{self.number:06d}" + "0" * 20
        self.start_limits()

    def start_limits(self) -> None:
        """Makes the buckets anew, all of them full."""
        now_s = self.clock.monotonic_s()
        self.write_bytes = TokenBucket(WRITE_BYTES_PER_S, now_s)
        self.write_records = TokenBucket(WRITE_RECORDS_PER_S, now_s)
        self.read_bytes = TokenBucket(READ_BYTES_PER_S, now_s)
        self.read_calls = TokenBucket(READ_CALLS_PER_S, now_s)
        self.iterator_calls = TokenBucket(ITERATOR_CALLS_PER_S, now_s)
        self.allow_records_of(self.max_record_bytes)

    def allow_records_of(self, max_record_bytes: int) -> None:
        """Sets the largest record; above 1 MiB the shard has a tank that large records burst from.

        "Handle large records" of the developer guide: the tank holds one such record, refills at
        the shard's write rate, and what is taken from it is missing to the records that follow.
        """
        self.max_record_bytes = max_record_bytes
        self.burst_bytes = None
        if max_record_bytes > WRITE_BYTES_PER_S:
            self.burst_bytes = TokenBucket(
                WRITE_BYTES_PER_S, self.clock.monotonic_s(), max_record_bytes
            )

    @property
    def closed(self) -> bool:
        """Whether it takes no more records."""
        return self.closed_ms is not None

    @property
    def starting_sequence_number(self) -> str:
        """A sequence number just before that of its first record."""
        return self.sequence_number(-1)

    def sequence_number(self, position: int) -> str:
        """The sequence number of the record at `position`."""
        return f"{self.number_prefix}{self.first_number + position}"

    @property
    def first_number(self) -> int:
        """What comes after `number_prefix` for position 0."""
        return _FIRST_NUMBER

    def position_of(self, sequence_number: str) -> int | None:
        """The position that a sequence number of this shard stands for; None for another's."""
        tail = sequence_number.removeprefix(self.number_prefix)
        if len(tail) != _NUMBER_DIGITS or tail == sequence_number or not tail.isdecimal():
            return None
        return int(tail) - _FIRST_NUMBER

    # Writing

    def admit_all(self, count: int, size: int, now_s: float) -> bool:
        """Takes `count` records of `size` bytes together from the limits, if all of them fit."""
        records, size_left, burst = self.write_records, self.write_bytes, self.burst_bytes
        enough = records.refill(now_s) >= count
        enough = size_left.refill(now_s) >= size and enough
        if burst is not None:
            enough = burst.refill(now_s) >= size and enough
        if not enough:
            return False
        if burst is not None:
            burst.tokens -= size
        records.tokens -= count
        size_left.tokens -= size
        return True

    def admit(self, size: int) -> bool:
        """Takes one record from the limits, as of the last `admit_all`, if it fits."""
        burst = self.burst_bytes
        large = burst is not None and size > WRITE_BYTES_PER_S
        if self.write_records.tokens < 1 or (not large and self.write_bytes.tokens < size):
            return False
        if burst is not None:
            if burst.tokens < size:
                return False
            burst.tokens -= size
        self.write_records.tokens -= 1
        self.write_bytes.tokens = max(0.0, self.write_bytes.tokens - size)
        return True

    def append(self, accepted: Accepted) -> int:
        """Stores records that were admitted; returns the first one's position.

        Where the clock went back, they arrive at the last time.
        """
        position = self.end_position
        segments = self._segments
        segment = segments[-1] if segments else None
        if segment is None or segment.packed or segment.encryption_type != accepted.encryption_type:
            if segment is not None:
                segment.pack()
            segment = Segment(position, accepted.encryption_type)
            segments.append(segment)
            self._starts.append(position)
        self.last_ms = max(self.last_ms, accepted.arrival_ms)
        self.bytes_held += segment.extend(accepted, self.last_ms)
        self.end_position = position + len(accepted.datas)
        if segment.full:
            segment.pack()
        if self._waiting:
            self._wake_before(self.end_position)
        return position

    def stand_at(self, end: int, read: int) -> None:
        """Goes on behind records that are not held any more, from position `end`."""
        self.read_position = max(self.read_position, read)
        if end > self.end_position:
            # Nothing is held before a gap: the oldest go first.
            self.first_position = self.end_position = end

    def restore(self, accepted: Accepted, first: int) -> int:
        """Puts records back that were at position `first`; returns the bytes that they take."""
        if first < self.end_position:
            return 0
        self.stand_at(first, 0)
        before = self.bytes_held
        self.append(accepted)
        return self.bytes_held - before

    def close(self) -> None:
        """Closes it for writing; its readers see its end."""
        self.closed_ms = self.clock.epoch_ms()
        self.wake()

    # Waiting

    def wake(self) -> None:
        """Wakes everyone who waits for a record."""
        self._wake_before(None)

    def _wake_before(self, end: int | None) -> None:
        """Wakes who waits for a position before `end`; None wakes all."""
        waiting, self._waiting = self._waiting, []
        for position, future in waiting:
            if end is not None and position >= end:
                self._waiting.append((position, future))
            elif not future.done():
                future.set_result(None)

    async def wait(self, position: int, timeout_s: float) -> bool:
        """Waits for a record at `position`, or for the shard's end; False on time-out."""
        loop = asyncio.get_running_loop()
        give_up_s = loop.time() + timeout_s
        while self.end_position <= position and not self.closed:
            if not await self.changed(give_up_s - loop.time(), position):
                return False
        return True

    async def changed(self, timeout_s: float, position: int = -1) -> bool:
        """Waits for whatever wakes its readers next; False on time-out.

        Records that are put before `position` wake nobody.
        """
        future = asyncio.get_running_loop().create_future()
        entry = (position, future)
        self._waiting.append(entry)
        try:
            await asyncio.wait_for(future, timeout_s)
        except TimeoutError:
            return False
        finally:
            if entry in self._waiting:
                self._waiting.remove(entry)
        return True

    # Forgetting

    def trim(self, before_ms: int) -> int:
        """Drops records that arrived before `before_ms`; returns the bytes that became free."""
        freed = 0
        while self._segments:
            segment = self._segments[0]
            if segment.last_ms >= before_ms:
                index = segment.first_at(before_ms)
                self.first_position = max(self.first_position, segment.start + index)
                break
            freed += self.drop_oldest()
        return freed

    def oldest(self, before_position: int) -> int | None:
        """Arrival of the newest record of the oldest segment; None if it ends after a position."""
        if not self._segments or self._segments[0].end > before_position:
            return None
        return self._segments[0].last_ms

    def drop_oldest(self) -> int:
        """Drops the oldest segment; returns the bytes that became free."""
        segment = self._segments.pop(0)
        del self._starts[0]
        self.first_position = segment.end
        self.bytes_held -= segment.held_bytes
        return segment.held_bytes

    # Reading

    def position_at_time(self, timestamp_ms: float) -> int:
        """The position of the first record at or after `timestamp_ms`."""
        low, high = 0, len(self._segments)
        while low < high:
            middle = (low + high) // 2
            if self._segments[middle].last_ms < timestamp_ms:
                low = middle + 1
            else:
                high = middle
        if low == len(self._segments):
            return self.end_position
        segment = self._segments[low]
        return max(self.first_position, segment.start + segment.first_at(timestamp_ms))

    def read(self, position: int, limit: int, max_bytes: int) -> Page:
        """Up to `limit` records of up to `max_bytes` of data (at least one record)."""
        page = self._page(position, limit, max_bytes)
        self.read_position = max(self.read_position, page.next_position)
        return page

    def _page(self, position: int, limit: int, max_bytes: int) -> Page:
        page = Page(max(position, self.first_position))
        at = max(0, bisect_right(self._starts, page.position) - 1)
        left = limit
        while left > 0 and at < len(self._segments):
            segment = self._segments[at]
            index = page.next_position - segment.start
            taken = segment.copy_to(page, index, min(segment.count, index + left), max_bytes)
            left -= taken
            if index + taken < segment.count:
                break
            at += 1
        if at < len(self._segments):
            segment = self._segments[at]
            arrival_ms = segment.arrival_ms(page.next_position - segment.start)
            page.behind_ms = max(0, self.clock.epoch_ms() - arrival_ms)
        page.ended = self.closed and page.next_position >= self.end_position
        return page

    @property
    def records(self) -> list[StreamRecord]:
        """All that it holds, oldest first."""
        page = self._page(self.first_position, self.end_position, MAX_HASH_KEY)
        return self.batch_of(page).records()

    def batch_of(self, page: Page) -> StreamBatch:
        """What a read found, in the form that the engines take."""
        return StreamBatch(
            page.datas, page.keys, page.arrivals_ms, page.next_position, page.behind_ms,
            page.ended, self.number_prefix, _FIRST_NUMBER,
        )  # fmt: skip
