"""What the ledger says, in the columns that verification needs and no others.

A ledger of ten million rows takes gigabytes as it is written; here a row takes 33 bytes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from simulator import ledger

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]

NOT_SENT, ACKED, FAILED, UNKNOWN = range(4)
COLUMNS = ("k", "seq", "sent_ns", "acked_ns", "attempts", "outcome")
_OUTCOMES = pa.array([ledger.ACKED, ledger.FAILED, ledger.UNKNOWN])


@dataclass(frozen=True, slots=True)
class History:
    """The rows of a ledger, in no order; arrays of shape (rows,).

    Attributes:
        k: Numbers of the readings; a reading that was sent twice has two rows.
        seq: Their numbers within their devices.
        sent_ns: When each was first sent, epoch nanoseconds; 0 where it never was.
        acked_ns: When it was acknowledged, likewise.
        tried: Whether it was sent at all.
        outcome: ACKED, FAILED or UNKNOWN.
    """

    k: Ints
    seq: NDArray[np.int32]
    sent_ns: Ints
    acked_ns: Ints
    tried: Bools
    outcome: NDArray[np.uint8]

    def __len__(self) -> int:
        return len(self.k)

    @classmethod
    def of_run(cls, run_dir: Path) -> History:
        """The history of a run in its folder.

        Raises:
            UsageError: the folder has no ledger, or a part that is not readable.
        """
        return cls.of_tables(ledger.tables(run_dir, COLUMNS))

    @classmethod
    def of_tables(cls, tables: Iterable[pa.Table]) -> History:
        """The history that tables with `COLUMNS` tell."""
        parts = [_columns(table) for table in tables] or [_columns(ledger.SCHEMA.empty_table())]
        return cls(*(np.concatenate(column) for column in zip(*parts, strict=True)))

    def count(self, outcome: int) -> int:
        """How many rows have an outcome."""
        return int((self.outcome == outcome).sum())


def _columns(table: pa.Table) -> tuple[NDArray[np.generic], ...]:
    outcome = pc.index_in(table.column("outcome"), _OUTCOMES).to_numpy()
    return (
        table.column("k").to_numpy(),
        table.column("seq").to_numpy().astype(np.int32),
        *(_time(table.column(name)) for name in ("sent_ns", "acked_ns")),
        table.column("attempts").to_numpy() > 0,
        outcome.astype(np.uint8) + np.uint8(1),
    )


def _time(column: pa.ChunkedArray) -> NDArray[np.generic]:
    times: NDArray[np.generic] = pc.fill_null(column, 0).to_numpy()
    return times
