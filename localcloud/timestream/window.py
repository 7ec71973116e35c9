"""Which times a table takes, and the units in which they are told."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from localcloud.timestream.partition import required_dimension
from localcloud.timestream.store import now_ns

if TYPE_CHECKING:
    from localcloud.timestream.catalog import Table

FUTURE_NS = 15 * 60 * 1_000_000_000
HOUR_NS = 3600 * 1_000_000_000
DAY_NS = 24 * HOUR_NS
UNITS_NS = {
    "SECONDS": 1_000_000_000,
    "MILLISECONDS": 1_000_000,
    "MICROSECONDS": 1_000,
    "NANOSECONDS": 1,
}


@dataclass(frozen=True, slots=True)
class Window:
    """What a table takes at a moment.

    Attributes:
        oldest_ns: The first time that is taken.
        newest_ns: The first time that is not taken any more.
        memory_ns: From this time on records go to the memory store.
        required: The dimension that each record must have.
    """

    oldest_ns: int
    newest_ns: int
    memory_ns: int
    required: str | None

    @classmethod
    def of(cls, table: Table) -> Window:
        """The window of a table now."""
        now = now_ns()
        memory = oldest = now - table.memory_hours * HOUR_NS
        if table.magnetic_writes.get("EnableMagneticStoreWrites"):
            oldest = min(oldest, now - table.magnetic_days * DAY_NS)
        return cls(oldest, now + FUTURE_NS, memory, required_dimension(table.schema))
