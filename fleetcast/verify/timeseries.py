"""What landed in Timestream, compared with the truth in two levels.

First one row per device: a count, the range of seq and a checksum, computed by Timestream; a
device whose row is as it must be has every reading exactly as it was sent. Rows are read only of
devices that differ, or that have readings whose landing is left open.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from fleetcast.verify.exceptions import Exceptions
from fleetcast.verify.history import UNKNOWN
from fleetcast.verify.truth import MODULUS, SEQ_MODULUS, Bools, Ints, kept_ms
from fleetcast.verify.verdict import Landed

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable, Sequence

    from fleetcast.verify.compared import Compared
    from fleetcast.verify.truth import TrueRow, Truth
    from stack.outputs import StackOutputs

# Devices in one query for rows: the text of a query may have 256 KiB.
DEVICES_PER_QUERY = 500
# Every query of times looks through all of a run, so there should be few; names are short.
DEVICES_TIMED = 8_000
STORE = "timeseries"
_OWN_COLUMNS = {"time", "measure_name", "device", "class", "site", "run", "seq",
                "arrived_ms", "processed_ms"}  # fmt: skip


@dataclass(frozen=True, slots=True)
class LandedRow:
    """A row of the table. `extra` names signals that the scenario does not have."""

    device: str
    kind: str | None
    site: str | None
    seq: int
    ts_ms: int
    signals: dict[str, float]
    extra: bool
    late: bool


@dataclass(frozen=True, slots=True)
class DeviceTotals:
    """What Timestream says of one device, class and site. A missing value is None."""

    device: str
    kind: str | None
    site: str | None
    count: int
    first_seq: int | None
    last_seq: int | None
    checksum: int | None
    extra: int
    late: int


class TimeSeriesReader:
    """Asks Timestream about one run.

    Args:
        client: A `timestream-query` client.
        outputs: Which table.
        run_id: Which run.
        deadline_ms: Rows written after it are late, epoch milliseconds.

    Attributes:
        deadline_ms: As above.
        strangers: Whether rows of devices that are none of the run's may be among its rows.
    """

    strangers = False

    def __init__(self, client: Any, outputs: StackOutputs, run_id: str, deadline_ms: int) -> None:
        self._client = client
        self._table = f"{name_of(outputs.timeseries_database)}.{name_of(outputs.timeseries_table)}"
        self._where = f"run = {text_of(run_id)}"
        self._ms = "to_milliseconds(time)"
        self.deadline_ms = deadline_ms

    @property
    def _late(self) -> str:
        return f"processed_ms > {self.deadline_ms}"

    async def count(self) -> tuple[int, int | None]:
        """Rows of the run, and when the first of their readings arrived in the stream, epoch ms."""
        columns = await self._columns()
        if "run" not in columns:
            return 0, None
        first = "min(arrived_ms)" if "arrived_ms" in columns else "NULL"
        sql = f"SELECT count(*), {first} FROM {self._table} WHERE {self._where}"  # noqa: S608 - quoted
        row = await anext(self._rows(sql))
        return int(row[0] or 0), _whole(row[1])

    async def latency_ms(self) -> dict[str, float]:
        """From a reading's timestamp to its row: p50, p95, p99 and max; empty without rows."""
        if "run" not in await self._columns():
            return {}
        age = f"processed_ms - {self._ms}"
        percentiles = ", ".join(f"approx_percentile({age}, {p})" for p in ("0.5", "0.95", "0.99"))
        sql = f"SELECT {percentiles}, max({age}) FROM {self._table} WHERE {self._where}"  # noqa: S608
        row = await anext(self._rows(sql))
        if row[0] is None:
            return {}
        return {n: float(v or 0) for n, v in zip(("p50", "p95", "p99", "max"), row, strict=True)}

    async def times(
        self, devices: Sequence[str] | None
    ) -> AsyncIterator[tuple[str, int, float, float]]:
        """(device, seq, arrived, written) of rows; epoch milliseconds, NaN where there is none.

        Args:
            devices: Of which; None is of all.
        """
        columns = await self._columns()
        if not {"run", "seq", "processed_ms"} <= columns:
            return
        arrived = "arrived_ms" if "arrived_ms" in columns else "NULL"
        # One query of no list where all are wanted, else one for each list.
        lists: Sequence[Sequence[str]] = [()]
        if devices is not None:
            lists = [
                devices[first : first + DEVICES_TIMED]
                for first in range(0, len(devices), DEVICES_TIMED)
            ]
        for some in lists:
            among = f" AND device IN ({', '.join(map(text_of, some))})" if some else ""
            sql = (
                f"SELECT device, seq, {arrived}, processed_ms FROM {self._table} "  # noqa: S608 - quoted
                f"WHERE {self._where}{among}"
            )
            async for device, seq, arrived_ms, written_ms in self._rows(sql):
                if device is not None and seq is not None:
                    yield device, int(seq), _time_ms(arrived_ms), _time_ms(written_ms)

    async def totals(self, signals: Sequence[tuple[str, int]]) -> list[DeviceTotals]:
        """One row per device, class and site.

        Args:
            signals: (name, decimals) in the order in which the checksum takes them.
        """
        columns = await self._columns()
        if "run" not in columns:
            return []
        extra = " + ".join(
            f"count({name_of(column)})" for column in self._foreign(columns, signals)
        )
        sql = (
            f"SELECT device, class, site, count(*), min(seq), max(seq), "  # noqa: S608 - quoted
            f"sum({_checksum(signals, columns, self._ms)}), {extra or '0'}, "
            f"sum(CASE WHEN {self._late} THEN 1 ELSE 0 END) "
            f"FROM {self._table} WHERE {self._where} GROUP BY device, class, site"
        )
        return [
            DeviceTotals(
                str(row[0]), row[1], row[2], int(row[3] or 0), _whole(row[4]), _whole(row[5]),
                _whole(row[6]), int(row[7] or 0), int(row[8] or 0),
            )
            async for row in self._rows(sql)
        ]  # fmt: skip

    async def rows(
        self, devices: Sequence[str], signals: Sequence[tuple[str, int]]
    ) -> AsyncIterator[LandedRow]:
        """All rows of some devices."""
        columns = await self._columns()
        if "run" not in columns:
            return
        there = [name for name, _ in signals if name in columns]
        foreign = self._foreign(columns, signals)
        selected = ", ".join(
            ["device", "class", "site", "seq", self._ms,
             f"CASE WHEN {self._late} THEN 1 ELSE 0 END",
             *map(name_of, there), *map(name_of, foreign)]
        )  # fmt: skip
        for first in range(0, len(devices), DEVICES_PER_QUERY):
            some = ", ".join(map(text_of, devices[first : first + DEVICES_PER_QUERY]))
            sql = (
                f"SELECT {selected} FROM {self._table} "  # noqa: S608 - quoted
                f"WHERE {self._where} AND device IN ({some})"
            )
            async for row in self._rows(sql):
                values = row[6 : 6 + len(there)]
                yield LandedRow(
                    str(row[0]),
                    row[1],
                    row[2],
                    int(row[3]) if row[3] is not None else -1,
                    int(row[4] or 0),
                    {n: float(v) for n, v in zip(there, values, strict=True) if v is not None},
                    extra=any(value is not None for value in row[6 + len(there) :]),
                    late=row[5] == "1",
                )

    def _foreign(self, columns: set[str], signals: Sequence[tuple[str, int]]) -> list[str]:
        """Columns of signals that the scenario does not have."""
        return sorted(columns - _OWN_COLUMNS - {name for name, _ in signals})

    async def _columns(self) -> set[str]:
        """The table's columns; Timestream learns them from what is written."""
        return {str(row[0]) async for row in self._rows(f"DESCRIBE {self._table}")}

    def _rows(self, sql: str) -> AsyncIterator[list[str | None]]:
        return rows_of(self._client, sql)


async def rows_of(client: Any, sql: str) -> AsyncIterator[list[str | None]]:
    """The rows that Timestream answers a query with, as texts."""
    async for page in client.get_paginator("query").paginate(QueryString=sql):
        for row in page["Rows"]:
            yield [datum.get("ScalarValue") for datum in row["Data"]]


async def reconcile(
    truth: Truth,
    quarantined: Bools,
    reader: TimeSeriesReader,
    exceptions: Exceptions | None = None,
) -> Landed:
    """What the time series holds of a run.

    Args:
        truth: What was sent.
        quarantined: Readings that were refused and kept, by number; they are not lost.
        reader: Answers for Timestream.
        exceptions: Is told which readings are not as they should be.
    """
    signals = truth.signals(truth.asked.series)
    totals = await reader.totals(signals)
    expected = _expected(truth, quarantined)
    fleet = truth.fleet
    settled: set[int] = set()
    unique = late = 0
    differing: set[str] = set()
    known = {fleet.device_ids[device]: device for device in range(len(fleet.device_ids))}
    for told in totals:
        device = known.get(told.device, -1)
        if device >= 0 and _agrees(told, device, truth, expected):
            settled.add(device)
            unique += told.count
            late += told.late
        elif device >= 0 or not reader.strangers:
            differing.add(told.device)
    # A device that has a second row, of another class or site, is in both.
    for name in differing:
        device = known.get(name, -1)
        if device in settled:
            settled.discard(device)
            unique -= int(expected.count[device])
    open_devices = [
        device
        for device in np.flatnonzero(expected.needed | expected.open).tolist()
        if device not in settled
    ]
    names = sorted(differing | {fleet.device_ids[device] for device in open_devices})
    if not names:
        return Landed(unique=unique, late=late)
    rows = [row async for row in reader.rows(names, signals)]
    mine = [known[name] for name in names if name in known]
    found = Exceptions() if exceptions is None else exceptions
    return _by_row(truth, quarantined, mine, rows, Landed(unique=unique, late=late), found)


@dataclass(frozen=True, slots=True)
class _Expected:
    """By device number: what must be there. `open` are devices with readings of unknown outcome."""

    count: Ints
    first_seq: Ints
    last_seq: Ints
    checksum: Ints
    needed: Bools
    open: Bools


def _expected(truth: Truth, quarantined: Bools) -> _Expected:
    devices = truth.scenario.fleet.devices
    must = truth.must_land & ~quarantined
    kept = truth.asked.series
    device, seq = truth.device_of, kept_ms(truth.ts_ms, kept) if kept.by_time else truth.seq_of
    count = np.bincount(device[must], minlength=devices).astype(np.int64)
    first = np.full(devices, np.iinfo(np.int64).max, dtype=np.int64)
    last = np.full(devices, -1, dtype=np.int64)
    checksum = np.zeros(devices, dtype=np.int64)
    np.minimum.at(first, device[must], seq[must])
    np.maximum.at(last, device[must], seq[must])
    np.add.at(checksum, device[must], truth.checksum[must])
    unknown = np.zeros(devices, dtype=np.bool_)
    unknown[device[truth.left_open]] = True
    return _Expected(count, first, last, checksum, count > 0, unknown)


def _agrees(told: DeviceTotals, device: int, truth: Truth, expected: _Expected) -> bool:
    return (
        not expected.open[device]
        and (told.kind == truth.fleet.class_name(device) or not truth.asked.series.kind)
        and (told.site == truth.fleet.site_name(device) or not truth.asked.series.site)
        and told.count == expected.count[device]
        and told.first_seq == expected.first_seq[device]
        and told.last_seq == expected.last_seq[device]
        and told.checksum == expected.checksum[device]
        and not told.extra
    )


def _by_row(
    truth: Truth,
    quarantined: Bools,
    devices: Sequence[int],
    rows: Iterable[LandedRow],
    settled: Landed,
    found: Exceptions,
) -> Landed:
    """Compares rows of some devices one by one, and adds to what is settled."""
    true = {row.k: row for row in truth.rows(devices)}
    times: dict[int, int] = {}
    phantom = corrupted = late = 0
    kept, may_land = truth.asked.series, truth.may_land
    for row in rows:
        k = truth.landed_number(row.device, row.seq, kept)
        if k not in true or not may_land[k]:
            phantom += 1
            if k in true:
                found.add(STORE, "phantom", [k], _told(row))
            else:
                found.stranger(STORE, row.device, row.seq, _told(row))
            continue
        times[k] = times.get(k, 0) + 1
        if truth.outcome[k] == UNKNOWN:
            found.unknown_rows.add(k)
        if times[k] > 1:
            found.add(STORE, "duplicated", [k], _told(row))
        # What a pipeline makes of a broken payload that it takes is its own.
        if not truth.refusal[k] and not _same(row, true[k], kept):
            corrupted += 1
            found.add(STORE, "corrupted", [k], _told(row))
        if row.late:
            late += 1
            found.add(STORE, "late", [k], _told(row))
    chosen = np.zeros(truth.scenario.fleet.devices, dtype=np.bool_)
    chosen[list(devices)] = True
    must = np.flatnonzero(truth.must_land & ~quarantined & chosen[truth.device_of])
    lost = [k for k in must.tolist() if k not in times]
    found.add(STORE, "lost", lost)
    return Landed(
        unique=settled.unique + len(times),
        duplicated=sum(times.values()) - len(times),
        lost=len(lost),
        phantom=phantom,
        corrupted=corrupted,
        late=settled.late + late,
    )


def _told(row: LandedRow) -> str:
    """A row as it is told in an exception."""
    return f"{row.ts_ms} {row.kind} {row.site} {row.signals}"


def _same(row: LandedRow, true: TrueRow, kept: Compared) -> bool:
    signals = true.signals
    if kept.signals is not None:
        signals = {name: value for name, value in signals.items() if name in kept.signals}
    return (
        row.ts_ms == (true.ts_ms - true.ts_ms % kept.unit_ms if kept.unit_ms else 0)
        and (row.kind == true.kind or not kept.kind)
        and (row.site == true.site or not kept.site)
        and row.signals == signals
        and not row.extra
    )


def _checksum(signals: Sequence[tuple[str, int]], columns: set[str], ms: str) -> str:
    """`truth.checksums` in Timestream's SQL."""
    content = f"mod({ms}, {MODULUS})"
    for index, (name, decimals) in enumerate(signals):
        if name in columns:
            scaled = f"CAST(round({name_of(name)} * {10**decimals}) AS BIGINT)"
            content += (
                f" + CASE WHEN {name_of(name)} IS NULL THEN 0 ELSE "
                f"{2 * index + 3} * ({MODULUS} + mod({scaled}, {MODULUS})) END"
            )
    return f"({content}) * (mod(seq, {SEQ_MODULUS}) + 1)"


def name_of(name: str) -> str:
    """A name as SQL quotes it."""
    return '"' + name.replace('"', '""') + '"'


def text_of(value: str) -> str:
    """A text as SQL quotes it."""
    return "'" + value.replace("'", "''") + "'"


def _time_ms(value: str | None) -> float:
    return math.nan if value is None else float(value)


def _whole(value: str | None) -> int | None:
    return None if value is None else int(value)
