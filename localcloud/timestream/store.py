"""The rows of Timestream tables, in DuckDB in memory.

One DuckDB table holds one Timestream table: `time` and `measure_name`, a text column for each
dimension and a typed column for each measure, added when first written. Writes are buffered as
rows and appended in bulk, at the latest before the next query. All calls of DuckDB are made by one
thread of their own, so that they never hold up the event loop.
"""

from __future__ import annotations

import asyncio
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import duckdb
import pyarrow as pa

FLUSH_ROWS = 20_000
MEMORY_LIMIT = "4GB"

SQL_TYPES = {
    "DOUBLE": "DOUBLE",
    "BIGINT": "BIGINT",
    "VARCHAR": "VARCHAR",
    "BOOLEAN": "BOOLEAN",
    "TIMESTAMP": "TIMESTAMP_NS",
}
_ARROW_TYPES = {
    "DOUBLE": pa.float64(),
    "BIGINT": pa.int64(),
    "VARCHAR": pa.string(),
    "BOOLEAN": pa.bool_(),
    "TIMESTAMP_NS": pa.timestamp("ns"),
}
ROW = "__row"
BASE_COLUMNS = {ROW: "BIGINT", "time": "TIMESTAMP_NS", "measure_name": "VARCHAR"}

Key = tuple[Any, ...]


@dataclass(slots=True)
class Stored:
    """What is remembered of a record to decide on the next one with its key."""

    row: int
    version: int
    values: int


@dataclass(slots=True)
class TableStore:
    """One table: columns with their SQL types, rows not yet in DuckDB, and the index of keys."""

    columns: dict[str, str] = field(default_factory=lambda: dict(BASE_COLUMNS))
    dimensions: dict[str, None] = field(default_factory=dict)
    measures: dict[str, dict[str, str]] = field(default_factory=dict)
    pending: dict[int, dict[str, Any]] = field(default_factory=dict)
    replaced: list[int] = field(default_factory=list)
    index: dict[Key, Stored] = field(default_factory=dict)
    next_row: int = 0
    flushed_columns: dict[str, str] = field(default_factory=dict)


class Store:
    """All tables and the one connection to DuckDB."""

    def __init__(self) -> None:
        self._connection = duckdb.connect(
            ":memory:",
            # Integers divide to integers, as in Timestream.
            config={"threads": "2", "memory_limit": MEMORY_LIMIT, "integer_division": "true"},
        )
        # No query reaches the machine's files or network, and none can change that.
        self._connection.execute("SET enable_external_access = false")
        self._connection.execute("SET lock_configuration = true")
        self._thread = ThreadPoolExecutor(1, "timestream")
        self.tables: dict[str, TableStore] = {}

    def close(self) -> None:
        """Ends the thread and forgets everything."""
        self._thread.shutdown(wait=True, cancel_futures=True)
        self._connection.close()

    def create(self, name: str) -> None:
        """Makes an empty table."""
        self.tables[name] = TableStore()

    def drop(self, name: str) -> None:
        """Forgets a table."""
        del self.tables[name]
        self._thread.submit(self._connection.execute, f'DROP TABLE IF EXISTS "{name}"')

    def rows(self) -> int:
        """Records held, over all tables."""
        return sum(len(table.index) for table in self.tables.values())

    def insert(
        self, table: TableStore, key: Key, version: int, values: int, row: dict[str, Any]
    ) -> None:
        """Stores a record, in place of an older one with its key."""
        old = table.index.get(key)
        if old is not None and table.pending.pop(old.row, None) is None:
            table.replaced.append(old.row)
        number = table.next_row
        table.next_row += 1
        row[ROW] = number
        table.pending[number] = row
        table.index[key] = Stored(number, version, values)

    async def flush_if_full(self, name: str) -> None:
        """Appends the buffered rows where there are many."""
        if len(self.tables[name].pending) >= FLUSH_ROWS:
            await self._in_thread(self._flush, name, self._take(self.tables[name]))

    async def query(self, sql: str, names: list[str], timeout_s: float) -> pa.Table:
        """The result of DuckDB SQL that reads the tables `names`.

        Raises:
            duckdb.Error: the SQL failed, or was interrupted after `timeout_s`.
        """
        batches = [(name, self._take(self.tables[name])) for name in names]

        def run() -> pa.Table:
            for name, batch in batches:
                self._flush(name, batch)
            return self._connection.sql(sql).to_arrow_table()

        future = asyncio.get_running_loop().run_in_executor(self._thread, run)
        try:
            return await asyncio.wait_for(asyncio.shield(future), timeout_s)
        except TimeoutError:
            self._connection.interrupt()
            return await future

    async def expire(self, name: str, before_ns: int) -> None:
        """Deletes records whose time is before `before_ns`."""
        table = self.tables[name]
        gone = [key for key in table.index if key[0] < before_ns]
        for key in gone:
            stored = table.index.pop(key)
            if table.pending.pop(stored.row, None) is None:
                table.replaced.append(stored.row)
        if gone:
            await self._in_thread(self._flush, name, self._take(table))

    async def _in_thread(self, function: Any, *arguments: Any) -> Any:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._thread, function, *arguments)

    @staticmethod
    def _take(table: TableStore) -> tuple[dict[str, str], list[dict[str, Any]], list[int]]:
        """The columns, the buffered rows and the rows to delete; the table starts new buffers."""
        rows, table.pending = list(table.pending.values()), {}
        replaced, table.replaced = table.replaced, []
        return dict(table.columns), rows, replaced

    def _flush(
        self, name: str, batch: tuple[dict[str, str], list[dict[str, Any]], list[int]]
    ) -> None:
        columns, rows, replaced = batch
        table = self.tables.get(name)
        if table is None:
            return
        run = self._connection.execute
        if not table.flushed_columns:
            described = ", ".join(f"{quoted(column)} {kind}" for column, kind in columns.items())
            run(f'CREATE TABLE "{name}" ({described})')
        else:
            for column in columns.keys() - table.flushed_columns.keys():
                run(f'ALTER TABLE "{name}" ADD COLUMN {quoted(column)} {columns[column]}')
        # Columns keep the order in which DuckDB got them.
        table.flushed_columns = {
            **table.flushed_columns,
            **{
                column: columns[column] for column in columns if column not in table.flushed_columns
            },
        }
        if replaced:
            doomed = pa.table({"doomed": pa.array(replaced, pa.int64())})
            self._connection.register("doomed_rows", doomed)
            run(f'DELETE FROM "{name}" WHERE {ROW} IN (SELECT doomed FROM doomed_rows)')  # noqa: S608
            self._connection.unregister("doomed_rows")
        if rows:
            arrays = {
                column: pa.array([row.get(column) for row in rows], _ARROW_TYPES[kind])
                for column, kind in columns.items()
            }
            self._connection.register("new_rows", pa.table(arrays))
            run(f'INSERT INTO "{name}" BY NAME SELECT * FROM new_rows')  # noqa: S608
            self._connection.unregister("new_rows")


def quoted(identifier: str) -> str:
    """An identifier as SQL has it."""
    return '"' + identifier.replace('"', '""') + '"'


def now_ns() -> int:
    """The time in nanoseconds since the epoch."""
    return time.time_ns()
