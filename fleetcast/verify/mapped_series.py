"""What landed in a table of others: its columns are given the names of ours within the query.

So the comparison is the same, and Timestream computes the same totals, over a subquery.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from fleetcast.pipeline.model import UNIT_MS
from fleetcast.verify.timeseries import TimeSeriesReader, name_of, rows_of, text_of
from simulator.fleet import DEVICE_PREFIX

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from fleetcast.pipeline.model import TimeSeries
    from fleetcast.verify.truth import Truth


@dataclass(frozen=True, slots=True)
class Layout:
    """A table as its readings are asked for.

    Attributes:
        sql: What stands behind FROM.
        types: Columns to their types, in lower case; dimensions alone before anything was written.
    """

    sql: str
    types: dict[str, str]

    @classmethod
    async def of(cls, client: Any, place: TimeSeries) -> Layout:
        """The layout of a pipeline's table; one with a row for each measure gets one for each reading.

        Args:
            client: A `timestream-query` client.
            place: The table.
        """
        table = f"{name_of(place.database)}.{name_of(place.table)}"
        told = [row async for row in rows_of(client, f"DESCRIBE {table}")]
        if place.records == "multi":
            return cls(table, {str(row[0]): str(row[1]).lower() for row in told})
        keys = [str(row[0]) for row in told if row[2] == "DIMENSION"]
        types = {"time": "timestamp", **dict.fromkeys(keys, "varchar")}
        wanted = set(place.columns.names().values()) - types.keys()
        chosen = [name_of(key) for key in ("time", *keys)]
        columns = list(chosen)
        async for row in rows_of(client, f"SHOW MEASURES FROM {table}"):
            name, kind = str(row[0]), str(row[1]).lower()
            if name in wanted and kind != "multi":
                types[name] = kind
                value = f"CASE WHEN measure_name = {text_of(name)} THEN measure_value::{kind} END"
                columns.append(f"max({value}) AS {name_of(name)}")
        sql = f"SELECT {', '.join(columns)} FROM {table} GROUP BY {', '.join(chosen)}"  # noqa: S608
        return cls(f"({sql})", types)


class MappedSeriesReader(TimeSeriesReader):
    """Asks Timestream about one run in a table with columns of its own.

    Args:
        client: A `timestream-query` client.
        place: The table, and which column is what.
        truth: What was sent.
        deadline_ms: Rows written after it are late, epoch milliseconds.
    """

    def __init__(self, client: Any, place: TimeSeries, truth: Truth, deadline_ms: int) -> None:
        self._client = client
        self._place = place
        self._names = place.columns.names()
        self._forms = place.columns.forms()
        self._run = truth.run
        self._end_ms = truth.run.start_ms + round(truth.scenario.profile.duration_s * 1000)
        self._table = ""
        self.strangers = "run" not in self._names
        # The subquery has chosen the run's rows; where there is no run, real devices are beside ours.
        self._where = f"device LIKE '{DEVICE_PREFIX}%'" if self.strangers else "device IS NOT NULL"
        self.deadline_ms = deadline_ms
        self._ms = "ms"

    async def count(self) -> tuple[int, int | None]:
        """Different readings of the run; rows of others and copies are not among them."""
        if "run" not in await self._columns():
            return 0, None
        sql = (
            f"SELECT count(*) FROM (SELECT device, seq FROM {self._table} "  # noqa: S608 - quoted
            f"WHERE {self._where} AND device LIKE '{DEVICE_PREFIX}%' GROUP BY device, seq)"
        )
        return int((await anext(self._rows(sql)))[0] or 0), None

    async def times(
        self, devices: Sequence[str] | None
    ) -> AsyncIterator[tuple[str, int, float, float]]:
        """See `TimeSeriesReader`; none where the table does not keep when rows were written."""
        if "written" in self._names:
            async for row in super().times(devices):
                yield row

    @property
    def timed(self) -> bool:
        """Whether the table keeps when a reading was taken and when its row was written."""
        return {"time", "written"} <= self._names.keys()

    async def latency_ms(self) -> dict[str, float]:
        """See `TimeSeriesReader`; empty where the table does not keep both times."""
        return await super().latency_ms() if self.timed else {}

    async def _columns(self) -> set[str]:
        """Which of our columns the table can answer; none before it has what tells readings."""
        layout = await Layout.of(self._client, self._place)
        types = layout.types
        needed = [
            place for field, place in self._names.items() if field in {"device", "sequence", "run"}
        ]
        if not all(place in types for place in needed):
            return set()
        self._table = self._subquery(layout)
        measures = self._place.columns.measures
        there = {signal for signal, column in measures.items() if column in types}
        return {"run", "device", "class", "site", "seq", "processed_ms", *there}

    def _foreign(self, columns: set[str], signals: Sequence[tuple[str, int]]) -> list[str]:
        """None: a table of others has columns of its own."""
        del columns, signals
        return []

    def _subquery(self, layout: Layout) -> str:
        types = layout.types
        ms = self._millis("time", types)
        columns = {
            # A row without a device is a stranger's.
            "device": f"COALESCE({self._as_text('device', types)}, '')",
            "seq": self._number("sequence") if "sequence" in self._names else ms,
            "ms": ms,
            "class": self._as_text("class", types),
            "site": self._as_text("site", types),
            "processed_ms": self._millis("written", types, unit_ms=1),
        }
        for signal, column in self._place.columns.measures.items():
            if column in types:
                columns[signal] = f"TRY_CAST({name_of(column)} AS DOUBLE)"
        selected = ", ".join(f"{sql} AS {name_of(name)}" for name, sql in columns.items())
        return f"(SELECT {selected} FROM {layout.sql} WHERE {self._chosen(ms, types)})"  # noqa: S608

    def _chosen(self, ms: str, types: dict[str, str]) -> str:
        """Which rows are the run's."""
        if "run" in self._names:
            return f"{self._as_text('run', types)} = {text_of(self._run.id)}"
        unit_ms = UNIT_MS[self._place.columns.time_unit]
        first_ms = self._run.start_ms - self._run.start_ms % unit_ms
        if types.get(self._names["time"], "").startswith("timestamp"):
            # Bare, so that Timestream reads the partitions of these times and no others.
            return (
                f"{name_of(self._names['time'])} BETWEEN from_milliseconds({first_ms}) "
                f"AND from_milliseconds({self._end_ms})"
            )
        return f"{ms} BETWEEN {first_ms} AND {self._end_ms}"

    def _column(self, field: str) -> str:
        """A field's column, or its part of the id."""
        column = name_of(self._names[field])
        form = self._forms.get(field)
        return column if form is None else f"regexp_extract({column}, {text_of(form)}, 1)"

    def _number(self, field: str) -> str:
        return f"TRY_CAST({self._column(field)} AS BIGINT)"

    def _as_text(self, field: str, types: dict[str, str]) -> str:
        kind = types.get(self._names.get(field, ""))
        if kind is None:
            return "CAST(NULL AS VARCHAR)"
        return (
            self._column(field) if kind == "varchar" else f"CAST({self._column(field)} AS VARCHAR)"
        )

    def _millis(self, field: str, types: dict[str, str], unit_ms: int | None = None) -> str:
        """A column with a time or a number as epoch milliseconds, to the unit in which it is kept."""
        kind = types.get(self._names.get(field, ""))
        if kind is None:
            return "0"
        unit_ms = unit_ms or UNIT_MS[self._place.columns.time_unit]
        if not kind.startswith("timestamp"):
            number = self._number(field)
            return number if unit_ms == 1 else f"{number} * {unit_ms}"
        ms = f"to_milliseconds({self._column(field)})"
        return ms if unit_ms == 1 else f"({ms} - mod({ms}, {unit_ms}))"
