"""The records of a table, kept in a log: what was stored, after all checks.

A segment tells each series and each shape before its first record, so that it can be read without
the ones before it, which are removed when their records are older than the retention.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import orjson

from localcloud.timestream.store import SQL_TYPES, Shape

if TYPE_CHECKING:
    from localcloud.durable.log import Log
    from localcloud.timestream.store import Pairs, Series, Store, TableStore

KIND = "tables"
_KINDS = {sql: kind for kind, sql in SQL_TYPES.items()}


@dataclass(slots=True)
class _Told:
    """What a segment has told already, and the newest time in it."""

    series: dict[int, int] = field(default_factory=dict)
    shapes: dict[tuple[str, ...], int] = field(default_factory=dict)


class KeptTable:
    """The log of one table.

    Args:
        log: Where it is.
    """

    def __init__(self, log: Log) -> None:
        self._log = log
        self._told = _Told()
        self._newest_ns: dict[int, int] = {}
        self._series: list[list[Any]] = []
        self._shapes: list[list[tuple[str, str]]] = []
        self._rows: list[tuple[int, int, int, int, list[Any]]] = []

    def add(
        self, table: TableStore, series: Series, shape: Shape, time_ns: int, version: int,
        values: list[Any],
    ) -> None:  # fmt: skip
        """Notes a record that is stored; `commit` writes it."""
        if not self._rows and self._log.full:
            self._told = _Told()
        told = self._told
        of_series = told.series.get(series.number)
        if of_series is None:
            of_series = told.series[series.number] = len(told.series)
            labels = [pair for pair in series.labels.items() if pair[0] != "measure_name"]
            self._series.append([series.labels["measure_name"], labels])
        of_shape = told.shapes.get(shape.columns)
        if of_shape is None:
            of_shape = told.shapes[shape.columns] = len(told.shapes)
            # In the order of the table's columns, which a query without names tells.
            kinds = [
                (column, _KINDS[kind])
                for column, kind in table.columns.items()
                if column in shape.columns
            ]
            self._shapes.append(kinds)
        self._rows.append((of_series, of_shape, time_ns, version, values))

    def commit(self) -> None:
        """Writes what was noted.

        Raises:
            NotKeptError: it could not be written.
        """
        if not self._rows:
            return
        rows, series, shapes = self._rows, self._series, self._shapes
        self._rows, self._series, self._shapes = [], [], []
        try:
            segment = self._log.append([orjson.dumps([series, shapes, rows])])
        except Exception:
            # What was to be told was not: the next record tells it in a segment of its own.
            self._log.abandon()
            raise
        newest_ns = max(row[2] for row in rows)
        self._newest_ns[segment] = max(newest_ns, self._newest_ns.get(segment, newest_ns))

    def expire(self, before_ns: int) -> None:
        """Removes segments all of whose records are before a time."""
        for segment in self._log.segments[:-1]:
            newest_ns = self._newest_ns.get(segment)
            if newest_ns is not None and newest_ns < before_ns:
                self._log.drop(segment)
                del self._newest_ns[segment]

    async def restore(self, store: Store, name: str) -> int:
        """Puts the records back into an empty table; returns how many there were.

        Raises:
            TargetError: the log is damaged.
        """
        table = store.tables[name]
        count, current = 0, None
        series: list[Series] = []
        shapes: list[tuple[Shape, Pairs]] = []
        for segment, entry in self._log.entries():
            if segment != current:
                current, series, shapes = segment, [], []
            new_series, new_shapes, rows = orjson.loads(entry)
            for measure_name, labels in new_series:
                dimensions = tuple((column, value) for column, value in labels)
                found = table.series.get((measure_name, dimensions))
                series.append(found or table.add_series(measure_name, dimensions))
            for kinds in new_shapes:
                measures = tuple((column, kind) for column, kind in kinds)
                shapes.append((table.shapes.get(measures) or Shape.of(measures), measures))
            for at, shape_at, time_ns, version, values in rows:
                one, (shape, measures) = series[at], shapes[shape_at]
                table.add_shape(measures, shape, one.labels["measure_name"])
                store.insert(
                    table, one, shape, time_ns, version, hash((shape.token, *values)), values
                )
            count += len(rows)
            newest_ns = max(row[2] for row in rows)
            self._newest_ns[segment] = max(newest_ns, self._newest_ns.get(segment, newest_ns))
            await store.flush_if_full(name)
        return count

    def close(self) -> None:
        """Ends writing."""
        self._log.close()
