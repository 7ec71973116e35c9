"""How a run's readings left, from its ledger: attempts, and how fast they were acknowledged."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from fleetcast.verify.quantiles import Floats, named
from simulator import ledger

if TYPE_CHECKING:
    from pathlib import Path

_COLUMNS = ("k", "scheduled_ns", "sent_ns", "acked_ns", "attempts")


@dataclass(frozen=True, slots=True)
class Sending:
    """How readings left. Arrays of shape (acknowledged,), in no order.

    Attributes:
        retried: Readings that were tried more than once.
        due_s: When each was due, seconds from the run's start.
        acked_ms: From when it was due until it was acknowledged.
        answer_ms: p50, p95, p99 and max from a reading's first attempt until it was acknowledged.
    """

    retried: int
    due_s: Floats
    acked_ms: Floats
    answer_ms: dict[str, float]


def read(run_dir: Path, start_ms: int) -> Sending:
    """Reads a ledger.

    Raises:
        UsageError: there is none, or it is not readable.
    """
    retried, parts = 0, [np.zeros((3, 0))]
    for table in ledger.tables(run_dir, _COLUMNS):
        retried += int((table.column("attempts").to_numpy() > 1).sum())
        acked = table.filter(pc.is_valid(table.column("acked_ns")))
        parts.append(np.stack([_ms(acked.column(name), start_ms) for name in _COLUMNS[1:4]]))
    due, sent, acked_at = np.concatenate(parts, axis=1)
    return Sending(retried, due / 1000, acked_at - due, named(acked_at - sent))


def _ms(column: pa.ChunkedArray, start_ms: int) -> Floats:
    since: Floats = pc.subtract(column, start_ms * 1_000_000).to_numpy().astype(np.float64) / 1e6
    return since
