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
import contextlib
import logging
import time
from array import array
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Protocol

import duckdb

from localcloud.timestream import macros
from localcloud.timestream.appending import BASE_COLUMNS, Batch, append, series_of

log = logging.getLogger(__name__)

FLUSH_ROWS = 20_000
MAX_WAITING_ROWS = 1_000_000
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
_ARRAY_CODES = {"DOUBLE": "d", "BIGINT": "q", "TIMESTAMP_NS": "q"}

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


@dataclass(slots=True, eq=False)
class TableStore:
    """One table: its columns with their SQL types, its series, and rows not yet in DuckDB.

    These are in `buffers`, and from when they are to go there in `waiting`, until they are there.

    Of a row only its version and a hash of its values are kept here, by its number: a time that
    is written again is decided on by these. `known` finds a series by its measure name and its dimensions
    in an order in which they were given, and `written` by these and by the text of dimensions, where
    the name comes with the dimensions that are common to a call. No record is older than `oldest_ns`. `failure` is why DuckDB
    did not take the first batch that waits.
    """

    columns: dict[str, str] = field(default_factory=lambda: dict(BASE_COLUMNS))
    dimensions: dict[str, None] = field(default_factory=dict)
    measures: dict[str, dict[str, str]] = field(default_factory=dict)
    dimension_sets: dict[Pairs, Pairs] = field(default_factory=dict)
    shapes: dict[Pairs, Shape] = field(default_factory=dict)
    series: dict[tuple[str, Pairs], Series] = field(default_factory=dict)
    by_number: list[Series] = field(default_factory=list)
    known: dict[str, dict[Pairs, Series]] = field(default_factory=dict)
    written: dict[tuple[str, Pairs], dict[str, Series]] = field(default_factory=dict)
    versions: array[int] = field(default_factory=lambda: array("q"))
    fingerprints: array[int] = field(default_factory=lambda: array("q"))
    buffers: dict[Shape, Buffered] = field(default_factory=dict)
    buffered: int = 0
    replaced: list[int] = field(default_factory=list)
    first_buffered: int = 0
    oldest_ns: int = _NEVER_NS
    series_taken: int = 0
    flushed_columns: dict[str, str] = field(default_factory=dict)
    waiting: deque[Batch] = field(default_factory=deque)
    failure: str = ""
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

    def unflushed(self) -> int:
        """Rows that DuckDB does not have."""
        return self.buffered + sum(map(len, list(self.waiting)))


class NotFlushedError(Exception):
    """Rows of a table did not get into DuckDB; they are kept, and go there with the next flush."""


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
        failures: How often DuckDB did not take a batch.
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
        self.failures = 0

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
        """Appends the buffered rows where there are many; those that DuckDB does not take are kept."""
        if self.tables[name].buffered >= FLUSH_ROWS:
            with contextlib.suppress(NotFlushedError):
                await self._flush(name)

    async def flush(self, names: list[str]) -> None:
        """Appends the buffered rows of tables, so that a reader finds them.

        Raises:
            NotFlushedError: DuckDB did not take them.
        """
        for name in names:
            # Also where nothing is left: what an earlier call took may still be on its way.
            await self._flush(name)

    async def make_room(self, name: str) -> None:
        """Tries again to append where very much waits that DuckDB did not take.

        Raises:
            NotFlushedError: it still does not; nothing more should come.
        """
        table = self.tables[name]
        if table.failure and table.unflushed() >= MAX_WAITING_ROWS:
            await self._flush(name)

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
            await self._flush(name)

    async def _flush(self, name: str) -> None:
        table = self.tables[name]
        self._take(table)
        loop = asyncio.get_running_loop()
        await loop.run_in_executor(self._thread, self._append, name, table)

    @staticmethod
    def _take(table: TableStore) -> None:
        """Lets what DuckDB does not have yet wait for it; the table starts new buffers."""
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
        # Here, and not in the thread: a call of it that is cancelled loses nothing.
        if (
            batch.buffers
            or batch.series
            or batch.replaced
            or batch.columns != table.flushed_columns
        ):
            table.waiting.append(batch)

    def _append(self, name: str, table: TableStore) -> None:
        """Appends what waits, in the order in which it came: a row may take the place of one before."""
        while table.waiting and self.tables.get(name) is table:
            batch = table.waiting[0]
            try:
                append(self._connection, name, batch, table.flushed_columns)
            except Exception as error:
                self.failures += 1
                known, table.failure = table.failure, str(error).split("\n", 1)[0]
                told = f"{table.unflushed()} rows wait for DuckDB: {table.failure}"
                if known != table.failure:
                    log.exception("table %s: %s", name, told)
                raise NotFlushedError(told) from error
            table.flushed_columns = batch.columns
            table.waiting.popleft()
            table.failure = ""


def now_ns() -> int:
    """The time in nanoseconds since the epoch."""
    return time.time_ns()
