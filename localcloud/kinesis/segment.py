"""A run of records of one shard, packed when it is full, so that a record costs few bytes.

An open segment has a Python object for each record's data and key. A packed one has one bytes
object, one string and three arrays for all of them: 16 bytes for each record above what the
producer sent, and nothing that the garbage collector walks through.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left, bisect_right
from dataclasses import dataclass, field
from itertools import accumulate, repeat
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence

# Full at either. Small enough that dropping the oldest frees little that could have stayed.
FULL_RECORDS = 512
FULL_BYTES = 256 * 1024
# Of each packed record: the ends of its data and of its key, and when it arrived.
OVERHEAD_BYTES = 16


class Accepted(NamedTuple):
    """Records that one call put into one shard, in lists of equal length.

    Attributes:
        keys: Partition keys; empty where a producer gave none.
        datas: Data.
        size: Bytes of all data and keys.
        arrival_ms: When they arrived.
        encryption_type: Encryption of the stream then.
    """

    keys: Sequence[str]
    datas: Sequence[bytes]
    size: int
    arrival_ms: int
    encryption_type: str = "NONE"


@dataclass(slots=True)
class Page:
    """Records that a read found, in lists of equal length, and where to go on.

    Attributes:
        position: Position of the first of them.
        size: Bytes of their data.
        behind_ms: How old the next record is; 0 at the tip.
        ended: Whether the shard is closed and nothing comes after them.
    """

    position: int
    datas: list[bytes] = field(default_factory=list)
    keys: list[str] = field(default_factory=list)
    arrivals_ms: list[int] = field(default_factory=list)
    encryption_types: list[str] = field(default_factory=list)
    size: int = 0
    behind_ms: int = 0
    ended: bool = False

    @property
    def next_position(self) -> int:
        """Where to go on."""
        return self.position + len(self.datas)


class Segment:
    """Records from `start` on, in the order of their positions.

    Args:
        start: Position of the first record.
        encryption_type: Encryption of the stream when these records were put.
    """

    __slots__ = (
        "_arrivals", "_blob", "_data_ends", "_datas", "_key_ends", "_keys",
        "_packed_keys", "count", "encryption_type", "held_bytes", "packed", "start",
    )  # fmt: skip

    def __init__(self, start: int, encryption_type: str) -> None:
        self.start = start
        self.encryption_type = encryption_type
        self.count = 0
        self.held_bytes = 0
        self.packed = False
        self._datas: list[bytes] = []
        self._keys: list[str] = []
        self._arrivals = array("q")
        self._blob = b""
        self._data_ends = array("I")
        self._packed_keys = ""
        self._key_ends = array("I")

    @property
    def end(self) -> int:
        """The position after the last record."""
        return self.start + self.count

    @property
    def full(self) -> bool:
        """Whether it should take no more."""
        return self.count >= FULL_RECORDS or self.held_bytes >= FULL_BYTES

    @property
    def last_ms(self) -> int:
        """When the newest record arrived."""
        return self._arrivals[-1]

    def extend(self, accepted: Accepted, arrival_ms: int) -> int:
        """Takes records that arrived at `arrival_ms`; returns the bytes that they are counted as."""
        self._datas.extend(accepted.datas)
        self._keys.extend(accepted.keys)
        count = len(accepted.datas)
        self._arrivals.extend(repeat(arrival_ms, count))
        self.count += count
        added = accepted.size + count * OVERHEAD_BYTES
        self.held_bytes += added
        return added

    def pack(self) -> None:
        """Takes no more records, and makes what it has small."""
        if self.packed:
            return
        self.packed = True
        self._blob = b"".join(self._datas)
        self._data_ends = array("I", accumulate(map(len, self._datas)))
        self._packed_keys = "".join(self._keys)
        self._key_ends = array("I", accumulate(map(len, self._keys)))
        # An array that grew has room to spare.
        self._arrivals = array("q", self._arrivals)
        self._datas = []
        self._keys = []

    def copy_to(self, page: Page, first: int, last: int, max_bytes: int) -> int:
        """Adds the records from index `first` up to `last` to a page; returns how many.

        It stops before the page would exceed `max_bytes` of data, but not before its first record.
        """
        datas = self._datas_of(first, last)
        sizes = list(accumulate(map(len, datas), initial=page.size))[1:]
        fitting = bisect_right(sizes, max_bytes)
        if fitting == 0 and not page.datas:
            fitting = min(1, len(datas))
        if fitting == 0:
            return 0
        last = first + fitting
        page.size = sizes[fitting - 1]
        page.datas += datas[:fitting]
        page.keys += self._keys_of(first, last)
        page.arrivals_ms += self._arrivals[first:last]
        page.encryption_types += repeat(self.encryption_type, fitting)
        return fitting

    def _datas_of(self, first: int, last: int) -> list[bytes]:
        if not self.packed:
            return self._datas[first:last]
        ends, blob = self._data_ends, self._blob
        at = ends[first - 1] if first else 0
        found = []
        for end in ends[first:last]:
            found.append(blob[at:end])
            at = end
        return found

    def _keys_of(self, first: int, last: int) -> list[str]:
        if not self.packed:
            return self._keys[first:last]
        ends, keys = self._key_ends, self._packed_keys
        at = ends[first - 1] if first else 0
        found = []
        for end in ends[first:last]:
            found.append(keys[at:end])
            at = end
        return found

    def arrival_ms(self, index: int) -> int:
        """When it arrived."""
        return self._arrivals[index]

    def first_at(self, timestamp_ms: float) -> int:
        """The index of the first record that arrived at `timestamp_ms` or later."""
        return bisect_left(self._arrivals, timestamp_ms)
