"""One shard: its records, its limits, and who waits for it.

Limits follow "Quotas and limits" of the Kinesis developer guide: 1 MiB/s and 1,000 records/s in,
2 MiB/s and 5 GetRecords calls/s out. Each is a token bucket that holds one second's worth.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from localcloud.seams import StreamBatch, StreamRecord

if TYPE_CHECKING:
    from collections.abc import Callable

MIB = 1024 * 1024
WRITE_BYTES_PER_S = MIB
WRITE_RECORDS_PER_S = 1000
READ_BYTES_PER_S = 2 * MIB
READ_CALLS_PER_S = 5
MAX_HASH_KEY = 2**128 - 1
_INDEX_DIGITS = 34


class TokenBucket:
    """Tokens that refill at `rate_per_s` up to one second's worth."""

    __slots__ = ("_clock", "_rate", "_then", "tokens")

    def __init__(self, rate_per_s: float, clock: Callable[[], float]) -> None:
        self._rate = rate_per_s
        self._clock = clock
        self._then = clock()
        self.tokens = float(rate_per_s)

    def refill(self) -> None:
        """Adds what has accrued since the last call."""
        now = self._clock()
        self.tokens = min(self._rate, self.tokens + (now - self._then) * self._rate)
        self._then = now


@dataclass(slots=True)
class Shard:
    """A hash range and its records. Positions count records ever put, so they outlive expiry."""

    shard_id: str
    number: int
    start_hash: int
    end_hash: int
    created_ms: int
    parent: str | None = None
    adjacent_parent: str | None = None
    clock: Callable[[], float] = time.monotonic
    closed: bool = False
    first_position: int = 0
    bytes_held: int = 0
    records: deque[StreamRecord] = field(default_factory=deque)
    write_bytes: TokenBucket = field(init=False)
    write_records: TokenBucket = field(init=False)
    read_bytes: TokenBucket = field(init=False)
    read_calls: TokenBucket = field(init=False)
    _waiting: list[asyncio.Future[None]] = field(default_factory=list)
    _prefix: str = ""

    def __post_init__(self) -> None:
        self.write_bytes = TokenBucket(WRITE_BYTES_PER_S, self.clock)
        self.write_records = TokenBucket(WRITE_RECORDS_PER_S, self.clock)
        self.read_bytes = TokenBucket(READ_BYTES_PER_S, self.clock)
        self.read_calls = TokenBucket(READ_CALLS_PER_S, self.clock)
        # 56 digits like AWS's, ordered as numbers and as text; the tail is the position.
        self._prefix = f"496{self.created_ms:013d}{self.number:06d}"

    @property
    def end_position(self) -> int:
        """The position after the newest record."""
        return self.first_position + len(self.records)

    @property
    def first_sequence_number(self) -> str:
        """The sequence number at position 0."""
        return self.sequence_number(0)

    def sequence_number(self, position: int) -> str:
        """The sequence number of the record at `position`."""
        return f"{self._prefix}{position:0{_INDEX_DIGITS}d}"

    def position_of(self, sequence_number: str) -> int | None:
        """The position that a sequence number of this shard stands for; None for another's."""
        if not sequence_number.startswith(self._prefix) or not sequence_number.isdigit():
            return None
        return int(sequence_number[len(self._prefix) :])

    def admit(self, size: int) -> bool:
        """Takes `size` bytes and one record from the write limits, where they allow it."""
        if self.write_records.tokens < 1 or self.write_bytes.tokens < size:
            return False
        self.write_records.tokens -= 1
        self.write_bytes.tokens -= size
        return True

    def append(self, partition_key: str, data: str, arrival_ms: int, hash_key: str | None) -> str:
        """Stores a record; returns its sequence number. The caller calls `wake` afterwards."""
        number = self.sequence_number(self.end_position)
        self.records.append(StreamRecord(number, partition_key, data, arrival_ms, hash_key))
        self.bytes_held += len(data) + len(partition_key)
        return number

    def wake(self) -> None:
        """Wakes everyone who waits for a record."""
        waiting, self._waiting = self._waiting, []
        for future in waiting:
            if not future.done():
                future.set_result(None)

    async def wait(self, position: int, timeout_s: float) -> bool:
        """Waits for a record at `position`, or for the shard's end; False on time-out."""
        loop = asyncio.get_running_loop()
        give_up_s = loop.time() + timeout_s
        while self.end_position <= position and not self.closed:
            future = loop.create_future()
            self._waiting.append(future)
            try:
                await asyncio.wait_for(future, give_up_s - loop.time())
            except TimeoutError:
                if future in self._waiting:
                    self._waiting.remove(future)
                return False
        return True

    def trim(self, before_ms: int) -> int:
        """Drops records that arrived before `before_ms`; returns how many."""
        dropped = 0
        while self.records and self.records[0].arrival_ms < before_ms:
            record = self.records.popleft()
            self.bytes_held -= len(record.data) + len(record.partition_key)
            dropped += 1
        self.first_position += dropped
        return dropped

    def position_at_time(self, timestamp_ms: float) -> int:
        """The position of the first record at or after `timestamp_ms`."""
        low, high = 0, len(self.records)
        while low < high:
            middle = (low + high) // 2
            if self.records[middle].arrival_ms < timestamp_ms:
                low = middle + 1
            else:
                high = middle
        return self.first_position + low

    def read(self, position: int, limit: int, max_bytes: int) -> StreamBatch:
        """Up to `limit` records of up to `max_bytes` of base64 text (at least one record)."""
        start = max(position, self.first_position)
        offset = start - self.first_position
        records: list[StreamRecord] = []
        size = 0
        for index in range(offset, min(offset + limit, len(self.records))):
            record = self.records[index]
            size += len(record.data)
            if records and size > max_bytes:
                break
            records.append(record)
        next_position = start + len(records)
        behind_ms = 0
        if next_position < self.end_position:
            oldest = self.records[next_position - self.first_position]
            behind_ms = max(0, int(time.time() * 1000) - oldest.arrival_ms)
        ended = self.closed and next_position >= self.end_position
        return StreamBatch(records, next_position, behind_ms, ended)
