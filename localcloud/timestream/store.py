"""The rows of Timestream tables, in DuckDB in memory.

One DuckDB table holds one Timestream table: `time` and `measure_name`, a text column for each
dimension and a typed column for each measure, added when first written. Writes are buffered as
rows and appended in bulk, at the latest before the next query. All calls of DuckDB are made by one
thread of their own, so that they never hold up the event loop.
"""

from __future__ import annotations

import asyncio
import time
from array import array
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

import duckdb
import numpy as np
import pyarrow as pa

from localcloud.timestream import macros

if TYPE_CHECKING:
    from numpy.typing import NDArray

FLUSH_ROWS = 20_000
MEMORY_LIMIT = "4GB"
EXPIRE_SERIES = 64

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

Pairs = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True, eq=False)
class Shape:
    """Which measures a record has.

    Attributes:
        token: The same for the same columns, other for others; within one process.
        columns: Their columns, sorted by name.
        order: Where each of them stands in a record that was given.
    """

    token: int
    columns: tuple[str, ...]
    order: tuple[int, ...]

    @classmethod
    def of(cls, measures: Pairs) -> Shape:
        """The shape of a record with these (column, type) pairs."""
        order = sorted(range(len(measures)), key=lambda at: measures[at])
        columns = tuple(measures[at][0] for at in order)
        return cls(
            hash(columns),
            columns,
            tuple(order),
        )


@dataclass(slots=True)
class Series:
    """Records of one measure name and one set of dimensions.

    Attributes:
        number: Its number in the table.
        labels: `measure_name` and the dimensions, by column.
        rows: Row number by time in nanoseconds.
    """

    number: int
    labels: dict[str, str]
    rows: dict[int, int] = field(default_factory=dict)


@dataclass(slots=True)
class Buffered:
    """Rows of one shape that DuckDB does not have yet, as columns."""

    shape: Shape
    rows: list[int] = field(default_factory=list)
    times: list[int] = field(default_factory=list)
    series: list[int] = field(default_factory=list)
    values: list[list[Any]] = field(default_factory=list)


@dataclass(slots=True)
class Batch:
    """What goes to DuckDB at once."""

    columns: dict[str, str]
    buffers: list[Buffered]
    replaced: list[int]
    first_row: int


@dataclass(slots=True, eq=False)
class TableStore:
    """One table: its columns with their SQL types, its series, and rows not yet in DuckDB.

    Of a row only its version and a hash of its values are kept here, by its number: a time that
    is written again is decided on by these.
    """

    columns: dict[str, str] = field(default_factory=lambda: dict(BASE_COLUMNS))
    dimensions: dict[str, None] = field(default_factory=dict)
    measures: dict[str, dict[str, str]] = field(default_factory=dict)
    dimension_sets: dict[Pairs, Pairs] = field(default_factory=dict)
    shapes: dict[Pairs, Shape] = field(default_factory=dict)
    series: dict[tuple[str, Pairs], Series] = field(default_factory=dict)
    by_number: list[Series] = field(default_factory=list)
    versions: array[int] = field(default_factory=lambda: array("q"))
    fingerprints: array[int] = field(default_factory=lambda: array("q"))
    buffers: dict[Shape, Buffered] = field(default_factory=dict)
    buffered: int = 0
    replaced: list[int] = field(default_factory=list)
    first_buffered: int = 0
    flushed_columns: dict[str, str] = field(default_factory=dict)
    _told: set[tuple[str, Shape]] = field(default_factory=set)

    def add_series(self, name: str, dimensions: Pairs) -> Series:
        """A new series; its dimensions become columns."""
        for dimension, _ in dimensions:
            self.dimensions.setdefault(dimension)
            self.columns.setdefault(dimension, "VARCHAR")
        series = Series(len(self.by_number), {"measure_name": name, **dict(dimensions)})
        self.by_number.append(series)
        self.series[name, dimensions] = series
        return series

    def add_shape(self, measures: Pairs, shape: Shape, name: str) -> None:
        """Makes the measures of a shape columns, and tells them under a measure name."""
        if (name, shape) in self._told:
            return
        self._told.add((name, shape))
        self.shapes[measures] = shape
        self.measures.setdefault(name, {}).update(measures)
        for column, kind in measures:
            self.columns.setdefault(column, SQL_TYPES[kind])

    def count(self) -> int:
        """Records held."""
        return sum(len(series.rows) for series in self.by_number)


class Keeper(Protocol):
    """Who keeps the records of a table."""

    def add(
        self, table: TableStore, series: Series, shape: Shape, time_ns: int, version: int,
        values: list[Any],
    ) -> None:  # fmt: skip
        """Notes a record that is stored."""


class Store:
    """All tables and the one connection to DuckDB.

    Attributes:
        tables: By name.
        keepers: Who keeps the records of a table, by the table.
    """

    def __init__(self) -> None:
        self._connection = duckdb.connect(
            ":memory:",
            # Integers divide to integers, as in Timestream.
            config={"threads": "2", "memory_limit": MEMORY_LIMIT, "integer_division": "true"},
        )
        macros.register(self._connection)
        # No query reaches the machine's files or network, and none can change that.
        self._connection.execute("SET enable_external_access = false")
        self._connection.execute("SET lock_configuration = true")
        self._thread = ThreadPoolExecutor(1, "timestream")
        self.tables: dict[str, TableStore] = {}
        self.keepers: dict[TableStore, Keeper] = {}

    def close(self) -> None:
        """Ends the thread and forgets everything."""
        self._thread.shutdown(wait=True, cancel_futures=True)
        self._connection.close()

    def create(self, name: str) -> None:
        """Makes an empty table."""
        self.tables[name] = TableStore()

    def drop(self, name: str) -> None:
        """Forgets a table."""
        self.keepers.pop(self.tables.pop(name), None)
        self._thread.submit(self._connection.execute, f'DROP TABLE IF EXISTS "{name}"')

    def rows(self) -> int:
        """Records held, over all tables."""
        return sum(table.count() for table in self.tables.values())

    def insert(  # noqa: PLR0917 - the fields of a record
        self,
        table: TableStore,
        series: Series,
        shape: Shape,
        time_ns: int,
        version: int,
        fingerprint: int,
        values: list[Any],
    ) -> None:
        """Stores a record, in place of an older one of its series and time."""
        number = len(table.versions)
        table.versions.append(version)
        table.fingerprints.append(fingerprint)
        old = series.rows.get(time_ns)
        if old is not None:
            table.replaced.append(old)
        series.rows[time_ns] = number
        buffer = table.buffers.get(shape)
        if buffer is None:
            buffer = table.buffers[shape] = Buffered(shape)
        buffer.rows.append(number)
        buffer.times.append(time_ns)
        buffer.series.append(series.number)
        buffer.values.append(values)
        table.buffered += 1
        keeper = self.keepers.get(table)
        if keeper is not None:
            keeper.add(table, series, shape, time_ns, version, values)

    async def flush_if_full(self, name: str) -> None:
        """Appends the buffered rows where there are many."""
        if self.tables[name].buffered >= FLUSH_ROWS:
            await self._in_thread(self._flush, name, self._take(self.tables[name]))

    async def flush(self, names: list[str]) -> None:
        """Appends the buffered rows of tables, so that a reader finds them."""
        for name in names:
            # Also where nothing is left: what an earlier call took may still be on its way.
            await self._in_thread(self._flush, name, self._take(self.tables[name]))

    def reader(self) -> duckdb.DuckDBPyConnection:
        """A connection of its own to the same data, which another thread may use."""
        return self._connection.cursor()

    async def expire(self, name: str, before_ns: int) -> None:
        """Deletes records whose time is before `before_ns`."""
        table = self.tables[name]
        gone = False
        for at, series in enumerate(list(table.by_number)):
            old = [time_ns for time_ns in series.rows if time_ns < before_ns]
            table.replaced.extend(series.rows.pop(time_ns) for time_ns in old)
            gone = gone or bool(old)
            if at % EXPIRE_SERIES == 0:
                # Everyone else on the loop gets their turn.
                await asyncio.sleep(0)
        if gone and self.tables.get(name) is table:
            await self._in_thread(self._flush, name, self._take(table))

    async def _in_thread(self, function: Any, *arguments: Any) -> Any:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._thread, function, *arguments)

    @staticmethod
    def _take(table: TableStore) -> Batch:
        """What DuckDB does not have yet; the table starts new buffers."""
        batch = Batch(
            dict(table.columns), list(table.buffers.values()), table.replaced, table.first_buffered
        )
        table.buffers, table.buffered, table.replaced = {}, 0, []
        table.first_buffered = len(table.versions)
        return batch

    def _flush(self, name: str, batch: Batch) -> None:
        table = self.tables.get(name)
        if table is None:
            return
        if not batch.buffers and not batch.replaced and table.flushed_columns == batch.columns:
            return
        # Readers see a row that takes another's place at the moment that one is gone.
        self._connection.execute("BEGIN")
        try:
            self._append(name, table, batch)
        except Exception:
            self._connection.execute("ROLLBACK")
            raise
        self._connection.execute("COMMIT")

    def _append(self, name: str, table: TableStore, batch: Batch) -> None:
        columns = batch.columns
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
        doomed = [row for row in batch.replaced if row < batch.first_row]
        if doomed:
            self._connection.register(
                "doomed_rows", pa.table({"row": pa.array(doomed, pa.int64())})
            )
            run(f'DELETE FROM "{name}" WHERE {ROW} IN (SELECT "row" FROM doomed_rows)')  # noqa: S608
            self._connection.unregister("doomed_rows")
        never = np.array([row for row in batch.replaced if row >= batch.first_row], dtype=np.int64)
        for buffer in batch.buffers:
            self._connection.register("new_rows", _rows_of(buffer, table, columns, never))
            run(f'INSERT INTO "{name}" BY NAME SELECT * FROM new_rows')  # noqa: S608
            self._connection.unregister("new_rows")


def _rows_of(
    buffer: Buffered, table: TableStore, columns: dict[str, str], never: NDArray[np.int64]
) -> pa.Table:
    """Buffered rows as a table, but for those that were replaced before they came to DuckDB."""
    numbers, place = np.unique(np.array(buffer.series, dtype=np.int64), return_inverse=True)
    labels = [table.by_number[number].labels for number in numbers.tolist()]
    names = {name: None for label in labels for name in label}
    arrays: dict[str, pa.Array] = {
        ROW: pa.array(buffer.rows, pa.int64()),
        "time": pa.array(buffer.times, pa.timestamp("ns")),
    }
    for name in names:
        texts = pa.array([label.get(name) for label in labels], pa.string())
        arrays[name] = texts.take(pa.array(place))
    for column, values in zip(buffer.shape.columns, zip(*buffer.values, strict=True), strict=True):
        arrays[column] = pa.array(values, _ARROW_TYPES[columns[column]])
    rows = pa.table(arrays)
    if len(never):
        rows = rows.filter(pa.array(~np.isin(np.array(buffer.rows), never)))
    return rows


def quoted(identifier: str) -> str:
    """An identifier as SQL has it."""
    return '"' + identifier.replace('"', '""') + '"'


def now_ns() -> int:
    """The time in nanoseconds since the epoch."""
    return time.time_ns()
