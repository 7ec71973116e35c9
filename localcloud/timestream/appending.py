"""Batches of rows on their way into DuckDB: all of a batch, or nothing."""

from __future__ import annotations

import contextlib
from array import array
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import duckdb
import numpy as np
import pyarrow as pa

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from localcloud.timestream.store import Buffered, Series

ROW = "__row"
SERIES = "__series"
BASE_COLUMNS = {"time": "TIMESTAMP_NS", "measure_name": "VARCHAR"}
_ARROW_TYPES = {
    "DOUBLE": pa.float64(),
    "BIGINT": pa.int64(),
    "VARCHAR": pa.string(),
    "BOOLEAN": pa.bool_(),
    "TIMESTAMP_NS": pa.timestamp("ns"),
}


@dataclass(frozen=True, slots=True)
class Batch:
    """What goes to DuckDB at once.

    Attributes:
        columns: The table's, with their SQL types.
        labels: Those of them that are of series.
        buffers: Rows.
        series: Series that are new.
        replaced: The numbers of rows that are to go.
        first_row: Rows from this number on are in no earlier batch.
    """

    columns: dict[str, str]
    labels: list[str]
    buffers: list[Buffered]
    series: list[Series]
    replaced: list[int]
    first_row: int

    def __len__(self) -> int:
        """How many rows it has."""
        return sum(len(buffer.rows) for buffer in self.buffers)


def append(
    connection: duckdb.DuckDBPyConnection, name: str, batch: Batch, had: dict[str, str]
) -> None:
    """Puts a batch into the stored tables of a Timestream table, which are made with the first.

    Args:
        connection: No transaction is open on it.
        name: The stored table that has the records.
        batch: What is put.
        had: The columns that are there, none before the first batch.

    Raises:
        duckdb.Error: nothing of it was put.
    """
    # Readers see a row that takes another's place at the moment that one is gone.
    try:
        connection.execute("BEGIN")
        _append(connection, name, batch, had)
        connection.execute("COMMIT")
    except Exception:
        # Some failures end the transaction themselves.
        with contextlib.suppress(duckdb.Error):
            connection.execute("ROLLBACK")
        raise


def _append(
    connection: duckdb.DuckDBPyConnection, name: str, batch: Batch, had: dict[str, str]
) -> None:
    columns, run = batch.columns, connection.execute
    if not had:
        run(f'CREATE TABLE "{name}" ({ROW} BIGINT, {SERIES} BIGINT, time TIMESTAMP_NS)')
        run(f'CREATE TABLE "{series_of(name)}" ({SERIES} BIGINT, measure_name VARCHAR)')
    for column in columns.keys() - had.keys() - BASE_COLUMNS.keys():
        stored = series_of(name) if column in batch.labels else name
        run(f'ALTER TABLE "{stored}" ADD COLUMN {quoted(column)} {columns[column]}')
    if batch.series:
        _insert(connection, series_of(name), _series_of(batch.series, batch.labels))
    doomed = [row for row in batch.replaced if row < batch.first_row]
    if doomed:
        connection.register("doomed_rows", pa.table({"row": pa.array(doomed, pa.int64())}))
        run(f'DELETE FROM "{name}" WHERE {ROW} IN (SELECT "row" FROM doomed_rows)')  # noqa: S608
        connection.unregister("doomed_rows")
    never = np.array([row for row in batch.replaced if row >= batch.first_row], dtype=np.int64)
    for buffer in batch.buffers:
        _insert(connection, name, _rows_of(buffer, columns, never))


def _insert(connection: duckdb.DuckDBPyConnection, name: str, rows: pa.Table) -> None:
    connection.register("new_rows", rows)
    connection.execute(f'INSERT INTO "{name}" BY NAME SELECT * FROM new_rows')  # noqa: S608
    connection.unregister("new_rows")


def _series_of(series: list[Series], labels: list[str]) -> pa.Table:
    """Series as a table."""
    arrays: dict[str, pa.Array] = {SERIES: pa.array([one.number for one in series], pa.int64())}
    for label in labels:
        arrays[label] = pa.array([one.labels.get(label) for one in series], pa.string())
    return pa.table(arrays)


def _rows_of(buffer: Buffered, columns: dict[str, str], never: NDArray[np.int64]) -> pa.Table:
    """Buffered rows as a table, but for those that were replaced before they came to DuckDB."""
    arrays: dict[str, pa.Array] = {
        ROW: _array(buffer.rows, "BIGINT"),
        SERIES: _array(buffer.series, "BIGINT"),
        "time": _array(buffer.times, "TIMESTAMP_NS"),
    }
    for column, values in zip(buffer.shape.columns, buffer.values, strict=True):
        arrays[column] = _array(values, columns[column])
    rows = pa.table(arrays)
    if len(never):
        rows = rows.filter(pa.array(~np.isin(np.frombuffer(buffer.rows, np.int64), never)))
    return rows


def _array(values: Any, kind: str) -> pa.Array:
    """Values of an SQL type as Arrow has them; those that are held as an array are not copied."""
    if not isinstance(values, array):
        return pa.array(values, _ARROW_TYPES[kind])
    numbers = np.frombuffer(values, np.float64 if values.typecode == "d" else np.int64)
    return pa.array(numbers).view(_ARROW_TYPES[kind])


def series_of(name: str) -> str:
    """The stored table that has the series of another."""
    return f"{name}_series"


def quoted(identifier: str) -> str:
    """An identifier as SQL has it."""
    return '"' + identifier.replace('"', '""') + '"'
