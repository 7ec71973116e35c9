"""The rows of Timestream tables, in DuckDB in memory.

Two DuckDB tables hold one Timestream table. One has its records: `time`, the number of a series and a
typed column for each measure, added when first written. The other has its series: `measure_name` and a
text column for each dimension. A query over both is answered several times as fast as one over records
that repeat their texts. Writes are buffered as columns and appended in bulk, at the latest before
the next query. All calls of DuckDB are made by one thread of their own, so that they never hold up the
event loop.
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
EXPIRE_ROWS = 20_000
_NEVER_NS = 2**63 - 1

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
_ARRAY_CODES = {"DOUBLE": "d", "BIGINT": "q", "TIMESTAMP_NS": "q"}
ROW = "__row"
SERIES = "__series"
BASE_COLUMNS = {"time": "TIMESTAMP_NS", "measure_name": "VARCHAR"}

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
    """Rows of one shape that DuckDB does not have yet, as columns.

    Attributes:
        rows: Their numbers.
        times: In nanoseconds since the epoch.
        series: The numbers of their series.
        values: A column for each of the shape's.
    """

    shape: Shape
    values: list[Any]
    rows: array[int] = field(default_factory=lambda: array("q"))
    times: array[int] = field(default_factory=lambda: array("q"))
    series: array[int] = field(default_factory=lambda: array("q"))

    @classmethod
    def of(cls, shape: Shape, columns: dict[str, str]) -> Buffered:
        """No rows yet; `columns` are the table's, with their SQL types."""
        codes = [_ARRAY_CODES.get(columns[column]) for column in shape.columns]
        return cls(shape, [array(code) if code else [] for code in codes])


@dataclass(slots=True)
class Batch:
    """What goes to DuckDB at once."""

    columns: dict[str, str]
    labels: list[str]
    buffers: list[Buffered]
    series: list[Series]
    replaced: list[int]
    first_row: int


@dataclass(slots=True, eq=False)
class TableStore:
    """One table: its columns with their SQL types, its series, and rows not yet in DuckDB.

    Of a row only its version and a hash of its values are kept here, by its number: a time that
    is written again is decided on by these. `known` finds a series by its measure name and its dimensions
    in an order in which they were given. No record is older than `oldest_ns`.
    """

    columns: dict[str, str] = field(default_factory=lambda: dict(BASE_COLUMNS))
    dimensions: dict[str, None] = field(default_factory=dict)
    measures: dict[str, dict[str, str]] = field(default_factory=dict)
    dimension_sets: dict[Pairs, Pairs] = field(default_factory=dict)
    shapes: dict[Pairs, Shape] = field(default_factory=dict)
    series: dict[tuple[str, Pairs], Series] = field(default_factory=dict)
    by_number: list[Series] = field(default_factory=list)
    known: dict[str, dict[Pairs, Series]] = field(default_factory=dict)
    versions: array[int] = field(default_factory=lambda: array("q"))
    fingerprints: array[int] = field(default_factory=lambda: array("q"))
    buffers: dict[Shape, Buffered] = field(default_factory=dict)
    buffered: int = 0
    replaced: list[int] = field(default_factory=list)
    first_buffered: int = 0
    oldest_ns: int = _NEVER_NS
    series_taken: int = 0
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

    def claim(self, series: list[Series], times: list[int]) -> int | None:
        """Gives a row to each record of these series and times; the number of the first, or None.

        None where a series has a time already, or twice in these; then nothing is changed.
        """
        first = number = len(self.versions)
        for one, time_ns in zip(series, times, strict=True):
            if one.rows.setdefault(time_ns, number) != number:
                claimed = number - first
                for had, had_ns in zip(series[:claimed], times[:claimed], strict=True):
                    del had.rows[had_ns]
                return None
            number += 1
        return first

    def labels(self) -> list[str]:
        """The columns that are of series: the measure name and the dimensions."""
        return ["measure_name", *self.dimensions]

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
        for stored in (name, series_of(name)):
            self._thread.submit(self._connection.execute, f'DROP TABLE IF EXISTS "{stored}"')

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
        self.extend(
            table, shape, [number], [series], [time_ns], [version], [[value] for value in values]
        )

    def extend(  # noqa: PLR0917 - the fields of records
        self,
        table: TableStore,
        shape: Shape,
        rows: list[int],
        series: list[Series],
        times: list[int],
        versions: list[int],
        columns: list[list[Any]],
    ) -> None:
        """Stores records of one shape that have their rows: a column for each of the shape's."""
        buffer = table.buffers.get(shape)
        if buffer is None:
            buffer = table.buffers[shape] = Buffered.of(shape, table.columns)
        buffer.rows.extend(rows)
        buffer.times.extend(times)
        buffer.series.extend([one.number for one in series])
        for held, column in zip(buffer.values, columns, strict=True):
            held.extend(column)
        table.buffered += len(rows)
        table.oldest_ns = min(table.oldest_ns, *times)
        keeper = self.keepers.get(table)
        if keeper is not None:
            records = zip(series, times, versions, zip(*columns, strict=True), strict=True)
            for one, time_ns, version, values in records:
                keeper.add(table, one, shape, time_ns, version, list(values))

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
        if table.oldest_ns >= before_ns:
            return
        # What comes in meanwhile counts anew.
        table.oldest_ns, oldest_ns = _NEVER_NS, _NEVER_NS
        gone, seen = False, 0
        for series in list(table.by_number):
            old = [time_ns for time_ns in series.rows if time_ns < before_ns]
            table.replaced.extend(series.rows.pop(time_ns) for time_ns in old)
            oldest_ns = min(oldest_ns, min(series.rows, default=_NEVER_NS))
            gone = gone or bool(old)
            seen += len(old) + len(series.rows)
            if seen >= EXPIRE_ROWS:
                # Everyone else on the loop gets their turn.
                await asyncio.sleep(0)
                seen = 0
        table.oldest_ns = min(table.oldest_ns, oldest_ns)
        if gone and self.tables.get(name) is table:
            await self._in_thread(self._flush, name, self._take(table))

    async def _in_thread(self, function: Any, *arguments: Any) -> Any:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._thread, function, *arguments)

    @staticmethod
    def _take(table: TableStore) -> Batch:
        """What DuckDB does not have yet; the table starts new buffers."""
        batch = Batch(
            dict(table.columns),
            table.labels(),
            list(table.buffers.values()),
            table.by_number[table.series_taken :],
            table.replaced,
            table.first_buffered,
        )
        table.buffers, table.buffered, table.replaced = {}, 0, []
        table.first_buffered = len(table.versions)
        table.series_taken = len(table.by_number)
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
        table.flushed_columns = batch.columns

    def _append(self, name: str, table: TableStore, batch: Batch) -> None:
        columns = batch.columns
        run = self._connection.execute
        if not table.flushed_columns:
            run(f'CREATE TABLE "{name}" ({ROW} BIGINT, {SERIES} BIGINT, time TIMESTAMP_NS)')
            run(f'CREATE TABLE "{series_of(name)}" ({SERIES} BIGINT, measure_name VARCHAR)')
        for column in columns.keys() - table.flushed_columns.keys() - BASE_COLUMNS.keys():
            stored = series_of(name) if column in batch.labels else name
            run(f'ALTER TABLE "{stored}" ADD COLUMN {quoted(column)} {columns[column]}')
        if batch.series:
            self._insert(series_of(name), _series_of(batch.series, batch.labels))
        doomed = [row for row in batch.replaced if row < batch.first_row]
        if doomed:
            self._connection.register(
                "doomed_rows", pa.table({"row": pa.array(doomed, pa.int64())})
            )
            run(f'DELETE FROM "{name}" WHERE {ROW} IN (SELECT "row" FROM doomed_rows)')  # noqa: S608
            self._connection.unregister("doomed_rows")
        never = np.array([row for row in batch.replaced if row >= batch.first_row], dtype=np.int64)
        for buffer in batch.buffers:
            self._insert(name, _rows_of(buffer, columns, never))

    def _insert(self, name: str, rows: pa.Table) -> None:
        self._connection.register("new_rows", rows)
        self._connection.execute(f'INSERT INTO "{name}" BY NAME SELECT * FROM new_rows')  # noqa: S608
        self._connection.unregister("new_rows")


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


def now_ns() -> int:
    """The time in nanoseconds since the epoch."""
    return time.time_ns()
