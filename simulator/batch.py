"""Readings on their way, as columns: what leaves, and what became of it.

One batch goes from the engine through a transport to the ledger without an object for each
reading: the numbers are one structured array, the payloads and partition keys are columns of text
of the same length and order.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from simulator.columns import Column, of_bytes, of_texts

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from simulator.fleet import Block, Fleet

# Outcomes as numbers in `ROW`; the words are the ledger's.
UNKNOWN, ACKED, FAILED = 0, 1, 2

ROW = np.dtype(
    [
        ("k", "i8"),
        ("device", "i8"),
        ("seq", "i8"),
        ("ts_ms", "i8"),
        # When the rate says it is due, and when it is scheduled: later, where a fault delays it.
        ("due_ns", "i8"),
        ("scheduled_ns", "i8"),
        # Epoch nanoseconds; 0 where it did not come to that.
        ("sent_ns", "i8"),
        ("acked_ns", "i8"),
        ("attempts", "i4"),
        ("fault", "u1"),
        # How often the device sends it: 0 is never, 2 and more are duplicates.
        ("sends", "i1"),
        ("outcome", "u1"),
        # An attempt ended without an answer: whatever comes later, it may have landed.
        ("maybe", "?"),
    ]
)
Rows = NDArray[Any]


@dataclass(slots=True, eq=False)
class Batch:
    """Some readings in the order in which they leave.

    Attributes:
        rows: Numbers of dtype `ROW`, shape (n,).
        payloads: What is sent of each.
        keys: Partition keys.
        largest: No reading of the batch has more bytes, payload and key together.
        shards: Where each landed, where the target told.
        sequence_numbers: As what each landed, where the target told.
        own_keys: Whether every key is its device's name.
        groups: How many readings, one after the other, make a record each; None is one by one.
        records: Each one as it stands in a request, where a transport made that.
    """

    rows: Rows
    payloads: Column[bytes]
    keys: Column[str]
    largest: int
    shards: Column[str | None] | None = None
    sequence_numbers: Column[str | None] | None = None
    own_keys: bool = False
    groups: NDArray[np.int64] | None = None
    records: Column[bytes] | None = None

    def __len__(self) -> int:
        return len(self.payloads)

    @property
    def size(self) -> int:
        """Bytes of its payloads."""
        return int(self.payloads.sizes.sum())

    def part(self, first: int, last: int) -> Batch:
        """The readings [first, last); shares its rows with this batch."""
        chosen = slice(first, last)
        return Batch(
            self.rows[chosen],
            self.payloads[chosen],
            self.keys[chosen],
            self.largest,
            self.shards and self.shards[chosen],
            self.sequence_numbers and self.sequence_numbers[chosen],
            self.own_keys,
            records=self.records and self.records[chosen],
        )

    def take(self, chosen: NDArray[np.intp]) -> Batch:
        """The readings at these places, in that order; a copy."""
        return Batch(
            # Far faster than rows[chosen], which goes through the fields of each.
            self.rows.take(chosen),
            self.payloads.take(chosen),
            self.keys.take(chosen),
            self.largest,
            self.shards and self.shards.take(chosen),
            self.sequence_numbers and self.sequence_numbers.take(chosen),
            self.own_keys,
            records=self.records and self.records.take(chosen),
        )

    @staticmethod
    def joined(batches: Sequence[Batch]) -> Batch:
        """Batches one after the other, as one. Where they landed is not kept."""
        if len(batches) == 1 and batches[0].groups is None:
            return batches[0]
        records = [batch.records for batch in batches]
        return Batch(
            joined_rows(batches),
            Column.joined([batch.payloads for batch in batches]),
            Column.joined([batch.keys for batch in batches]),
            max((batch.largest for batch in batches), default=0),
            own_keys=all(batch.own_keys for batch in batches),
            records=None if None in records else Column.joined(records),  # type: ignore[arg-type]
        )

    def fail(self) -> None:
        """Sets the outcome of readings that were surely not taken; some may have landed before."""
        self.rows["outcome"] = np.where(self.rows["maybe"], UNKNOWN, FAILED)


def joined_rows(batches: Sequence[Batch]) -> Rows:
    """The rows of batches one after the other; as bytes, for numpy would go through the fields."""
    whole = f"V{ROW.itemsize}"
    return np.concatenate([batch.rows.view(whole) for batch in batches]).view(ROW)


def batch_of(fleet: Fleet, block: Block, payloads: Iterable[bytes]) -> Batch:
    """A block of a fleet with its payloads, on its way."""
    rows = np.zeros(len(block), dtype=ROW)
    rows["k"] = block.k
    rows["device"] = block.device_index
    rows["seq"] = block.seq
    rows["ts_ms"] = block.ts_ms
    rows["due_ns"] = rows["scheduled_ns"] = scheduled_ns(fleet.run.start_ms, block.scheduled_s)
    if block.delay_s is not None:
        later_s = block.scheduled_s + block.delay_s
        rows["scheduled_ns"] = scheduled_ns(fleet.run.start_ms, later_s)
    rows["fault"] = block.fault
    rows["sends"] = 1 if block.sends is None else block.sends
    own_keys = block.partition_key is None
    keys: Column[str] = (
        Column(fleet.names_of(block.device_index))
        if block.partition_key is None
        else of_texts(block.partition_key)
    )
    texts = of_bytes(payloads)
    return Batch(rows, texts, keys, texts.largest + keys.largest, own_keys=own_keys)


def scheduled_ns(start_ms: int, scheduled_s: NDArray[np.float64]) -> NDArray[np.int64]:
    """Seconds of the schedule as epoch nanoseconds; shape as given."""
    return start_ms * 1_000_000 + np.rint(scheduled_s * 1e9).astype(np.int64)
