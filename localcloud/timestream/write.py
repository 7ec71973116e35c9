"""WriteRecords: what is accepted, what is rejected and why.

Follows the API reference of WriteRecords and RejectedRecord, and "Quotas in Timestream". A call is
read as a whole before any of it is stored, so that a malformed one leaves nothing behind. What is
the same for many records, their dimensions and the names and types of their measures, is checked
when it is first seen; afterwards it is looked up.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from localcloud.http import AwsError
from localcloud.timestream import alike
from localcloud.timestream.columns import MAX_RECORDS
from localcloud.timestream.store import SQL_TYPES, Shape, Store, TableStore
from localcloud.timestream.values import (
    MAX_VALUE_BYTES,
    MAX_VERSION,
    Rejected,
    check_kind,
    integer,
    value,
)
from localcloud.timestream.window import UNITS_NS, Window

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from localcloud.timestream.catalog import Table
    from localcloud.timestream.columns import Call

MAX_DIMENSIONS = 128
MAX_NAME = 256
RESERVED = {"time", "measure_name", "measure_value", "ts_non_existent_col"}

Pairs = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Ingested:
    """Counts of one call; `reported` are rejections of which a report tells afterwards."""

    memory: int
    magnetic: int
    rejected: list[dict[str, Any]]
    reported: list[dict[str, Any]]


@dataclass(slots=True)
class _Decoded:
    """A record as it was given: well-formed, and not compared with the table yet."""

    time_ns: int
    version: int
    name: str
    dimensions: Pairs
    measures: Pairs
    values: list[Any]


def write_records(store: Store, table: Table, body: Mapping[str, Any]) -> Ingested:
    """Stores the records of a call that are valid; tells the others with their reasons.

    Raises:
        AwsError: ValidationException, where the call as a whole is malformed; nothing is stored.
    """
    records = body["Records"]
    if not isinstance(records, list) or not 1 <= len(records) <= MAX_RECORDS:
        raise AwsError(
            "ValidationException",
            "1 validation error detected: Value at 'records' failed to satisfy constraint: "
            f"Member must have length less than or equal to {MAX_RECORDS}",
        )
    common = body.get("CommonAttributes") or {}
    common_dimensions = common.get("Dimensions") or ()
    window = Window.of(table)
    data = store.tables[table.storage]
    stored = alike.take(store, data, window, common, records)
    if stored is not None:
        return Ingested(stored, len(records) - stored, [], [])
    decoded = [_read(data, window, common, common_dimensions, given) for given in records]
    rejected, reported = [], []
    reports = bool(table.magnetic_writes.get("MagneticStoreRejectedDataLocation"))
    memory = 0
    for index, record in enumerate(decoded):
        try:
            if isinstance(record, Rejected):
                raise record
            _store(store, data, record)
            memory += record.time_ns >= window.memory_ns
        except Rejected as why:
            entry: dict[str, Any] = {"RecordIndex": index, "Reason": why.why}
            if why.existing_version is not None:
                entry["ExistingVersion"] = why.existing_version
                # What the magnetic store has is compared after the call was answered.
                if reports and isinstance(record, _Decoded) and record.time_ns < window.memory_ns:
                    reported.append({**entry, "Record": {**common, **records[index]}})
                    continue
            rejected.append(entry)
    return Ingested(memory, len(records) - len(rejected) - memory, rejected, reported)


def write_call(store: Store, table: Table, call: Call) -> Ingested | None:
    """Stores all records of a call that was taken apart; or none, and gives None."""
    window, data = Window.of(table), store.tables[table.storage]
    stored = alike.take_call(store, data, window, call)
    return None if stored is None else Ingested(stored, len(call.times) - stored, [], [])


def _read(
    data: TableStore,
    window: Window,
    common: Mapping[str, Any],
    common_dimensions: Sequence[Mapping[str, Any]],
    given: Mapping[str, Any],
) -> _Decoded | Rejected:
    """A record, or why it is rejected."""
    try:
        dimensions = [*common_dimensions, *(given.get("Dimensions") or ())]
        return _decode(data, window, {**common, **given}, dimensions)
    except Rejected as why:
        return why


def _decode(
    data: TableStore,
    window: Window,
    record: Mapping[str, Any],
    dimensions: Sequence[Mapping[str, Any]],
) -> _Decoded:
    time_ns = _time_ns(record)
    if not window.oldest_ns <= time_ns < window.newest_ns:
        raise Rejected(
            "The record timestamp is outside the time range "
            f"[{window.oldest_ns // 1_000_000}, {window.newest_ns // 1_000_000}) "
            "of the data ingestion window."
        )
    pairs = _dimensions(data, dimensions)
    if window.required and all(name != window.required for name, _ in pairs):
        raise Rejected(
            f"The record has no dimension {window.required}, which the table's partition key requires."
        )
    name = record.get("MeasureName")
    if not isinstance(name, str) or not 1 <= len(name) <= MAX_NAME:
        raise Rejected("The measure name must have 1 to 256 characters.")
    measures, values = _measures(data, record, name)
    version = record.get("Version", 1)
    if not isinstance(version, int) or version < 1:
        raise Rejected("The version must be a positive integer.")
    if version > MAX_VERSION:
        raise AwsError("SerializationException", f"Version {version} is not a long.")
    return _Decoded(time_ns, version, name, pairs, measures, values)


def _store(store: Store, data: TableStore, record: _Decoded) -> None:
    """Stores one record.

    Raises:
        Rejected: it does not fit the table, or what the table has of its time.
    """
    shape = data.shapes.get(record.measures)
    series = data.series.get((record.name, record.dimensions))
    if shape is None:
        _check_measures(data, record)
        shape = Shape.of(record.measures)
    if series is None:
        _check_dimensions(data, record.dimensions)
        _check_fresh(data, [name for name, _ in record.dimensions])
    values = [record.values[at] for at in shape.order]
    fingerprint = hash((shape.token, *values))
    row = None if series is None else series.rows.get(record.time_ns)
    if row is not None:
        existing, version = data.versions[row], record.version
        if version == existing and fingerprint == data.fingerprints[row]:
            return
        if version < existing:
            raise Rejected(
                f"The record version {version} is lower than the existing version {existing}. "
                "A higher version is required to update the measure value.",
                existing,
            )
        if version == existing:
            raise Rejected(
                "A record already exists with the same time, dimensions, measure name, and record "
                "version. A unique record or a higher record version is required to update the "
                "measure value.",
                existing,
            )
    if series is None:
        series = data.add_series(record.name, record.dimensions)
    data.add_shape(record.measures, shape, record.name)
    store.insert(data, series, shape, record.time_ns, record.version, fingerprint, values)


def _check_measures(data: TableStore, record: _Decoded) -> None:
    """Whether measures that are new in this composition fit the table's columns."""
    for column, kind in record.measures:
        known = data.columns.get(column)
        if column in data.dimensions or (known is not None and known != SQL_TYPES[kind]):
            raise Rejected(
                f"The measure {column} has type {kind}, and exists in the table with another type."
            )
    # Dimensions that are new come into the table with them.
    _check_dimensions(data, record.dimensions)
    _check_fresh(data, [name for name, _ in (*record.dimensions, *record.measures)])


def _check_dimensions(data: TableStore, dimensions: Pairs) -> None:
    for dimension, _ in dimensions:
        if dimension in data.columns and dimension not in data.dimensions:
            raise Rejected(f"The dimension {dimension} exists in the table as a measure.")


def _check_fresh(data: TableStore, names: list[str]) -> None:
    """SQL takes names without regard to case, so no two columns may differ in that alone."""
    new = [name for name in names if name not in data.columns]
    taken = {column.lower() for column in data.columns} if new else set()
    for name in new:
        if name.lower() in taken:
            raise Rejected(f"The name {name} is taken by another column of the table.")
        taken.add(name.lower())


def _time_ns(record: Mapping[str, Any]) -> int:
    unit = record.get("TimeUnit") or "MILLISECONDS"
    if unit not in UNITS_NS:
        raise AwsError("ValidationException", f"TimeUnit {unit!r} is unknown")
    time = integer(str(record.get("Time", "")))
    if time is None:
        raise Rejected("The record time is not a number.")
    return time * UNITS_NS[unit]


def _dimensions(data: TableStore, given: Sequence[Mapping[str, Any]]) -> Pairs:
    """The dimensions by name, checked; those that the table has were checked before."""
    try:
        pairs = tuple([(dimension["Name"], dimension["Value"]) for dimension in given])
        known = data.dimension_sets.get(pairs)
    except (KeyError, TypeError):
        known = None
    if known is None:
        pairs, known = _checked_dimensions(given)
        data.dimension_sets[pairs] = known
    return known


def _checked_dimensions(given: Sequence[Mapping[str, Any]]) -> tuple[Pairs, Pairs]:
    """The dimensions as they were given, and sorted by name."""
    dimensions: dict[str, str] = {}
    for dimension in given:
        name, value = dimension.get("Name"), dimension.get("Value")
        if not isinstance(name, str) or not 1 <= len(name) <= MAX_NAME:
            raise Rejected("A dimension name must have 1 to 256 characters.")
        if not isinstance(value, str) or not value:
            raise Rejected(f"The dimension {name} has an empty value.")
        if len(value.encode()) > MAX_VALUE_BYTES:
            raise Rejected(f"The dimension {name} exceeds {MAX_VALUE_BYTES} bytes.")
        if name in RESERVED or name.startswith(("ts_", "measure_value", "__")):
            raise Rejected(f"The dimension name {name} is reserved.")
        if name in dimensions:
            raise Rejected(f"The dimension {name} is given twice.")
        dimensions[name] = value
    if not dimensions:
        raise Rejected("At least one dimension is required for a record.")
    if len(dimensions) > MAX_DIMENSIONS:
        raise Rejected(f"A record has at most {MAX_DIMENSIONS} dimensions.")
    return tuple(dimensions.items()), tuple(sorted(dimensions.items()))


def _measures(data: TableStore, record: Mapping[str, Any], name: str) -> tuple[Pairs, list[Any]]:
    """(column, Timestream type) of each measure, and the values."""
    kind = record.get("MeasureValueType") or "DOUBLE"
    if kind != "MULTI":
        if record.get("MeasureValues"):
            raise AwsError("ValidationException", "MeasureValues are for type MULTI only")
        single = value(name, kind, record.get("MeasureValue"))
        return ((f"measure_value::{kind.lower()}", kind),), [single]
    given = record.get("MeasureValues")
    if not given or record.get("MeasureValue") is not None:
        raise AwsError("ValidationException", "type MULTI needs MeasureValues and no MeasureValue")
    try:
        pairs = tuple([(one["Name"], one["Type"]) for one in given])
        known = pairs in data.shapes
    except (KeyError, TypeError):
        known = False
    if not known:
        pairs = _checked_measures(given)
    return pairs, [value(one["Name"], one["Type"], one.get("Value")) for one in given]


def _checked_measures(given: Sequence[Mapping[str, Any]]) -> Pairs:
    kinds: dict[str, str] = {}
    for one in given:
        column, kind = one.get("Name"), one.get("Type")
        if not isinstance(column, str) or not 1 <= len(column) <= MAX_NAME:
            raise Rejected("A measure name must have 1 to 256 characters.")
        if column in RESERVED or column.startswith(("ts_", "measure_value", "__")):
            raise Rejected(f"The measure name {column} is reserved.")
        if column in kinds:
            raise Rejected(f"The measure {column} is given twice.")
        check_kind(column, kind)
        kinds[column] = str(kind)
    return tuple(kinds.items())
