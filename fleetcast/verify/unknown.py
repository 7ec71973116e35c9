"""The readings of unknown outcome, one by one: after a kill they are what nobody was told of.

A request that ended without an answer may have been taken; so may what a process had on its way
when it died. Which of them landed is known when the stores have been read.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from fleetcast.verify.history import UNKNOWN

if TYPE_CHECKING:
    from collections.abc import Collection
    from pathlib import Path

    from fleetcast.verify.archive import ArchiveReader
    from fleetcast.verify.truth import Truth

FILE_NAME = "unknown.parquet"
STORES = ("timeseries", "archive")


def gather(truth: Truth, rows: Collection[int] | None, archive: ArchiveReader | None) -> pa.Table:
    """Readings of which no copy was acknowledged and one may have been taken, by rising k.

    Args:
        truth: What was sent.
        rows: Numbers of those that have a row in Timestream; None where nobody looked.
        archive: What S3 has; None likewise.

    Returns:
        Columns k, device, seq, and whether it is there for each of `STORES` that was looked at.
    """
    numbers = np.flatnonzero(truth.outcome == UNKNOWN)
    devices = pa.array(list(truth.fleet.device_ids), pa.string())
    columns = {
        "k": pa.array(numbers),
        "device": devices.take(pa.array(truth.fleet.devices_in_turn(numbers))),
        "seq": pa.array(numbers // truth.scenario.fleet.devices),
    }
    if rows is not None:
        columns["timeseries"] = pa.array(np.isin(numbers, np.fromiter(rows, np.int64)))
    if archive is not None:
        columns["archive"] = pa.array(archive.there[numbers])
    return pa.table(columns)


def landed(table: pa.Table) -> dict[str, int]:
    """How many of them are in each store; empty where there is none of unknown outcome."""
    if not table.num_rows:
        return {}
    looked_at = [store for store in STORES if store in table.column_names]
    return {store: int(table.column(store).to_numpy().sum()) for store in looked_at}


def save(run_dir: Path, table: pa.Table) -> None:
    """Writes them, whole or not at all; without any, there is no file."""
    path = run_dir / FILE_NAME
    if not table.num_rows:
        path.unlink(missing_ok=True)
        return
    temporary = path.with_suffix(".tmp")
    pq.write_table(table, temporary, compression="zstd")
    temporary.replace(path)
