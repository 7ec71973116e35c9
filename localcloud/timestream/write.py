"""WriteRecords: what is accepted, what is rejected and why.

Follows the API reference of WriteRecords and RejectedRecord, and "Quotas in Timestream".
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from localcloud.http import AwsError
from localcloud.timestream.store import SQL_TYPES, Store, TableStore, now_ns

if TYPE_CHECKING:
    from collections.abc import Mapping

    from localcloud.timestream.catalog import Table

MAX_RECORDS = 100
MAX_DIMENSIONS = 128
MAX_NAME = 256
MAX_VALUE_BYTES = 2048
FUTURE_NS = 15 * 60 * 1_000_000_000
HOUR_NS = 3600 * 1_000_000_000
DAY_NS = 24 * HOUR_NS
UNITS_NS = {
    "SECONDS": 1_000_000_000,
    "MILLISECONDS": 1_000_000,
    "MICROSECONDS": 1_000,
    "NANOSECONDS": 1,
}
RESERVED = {"time", "measure_name", "measure_value", "ts_non_existent_col"}
_INTEGER = re.compile(r"^-?\d{1,19}$")


class _Rejected(Exception):  # noqa: N818 - it is not an error of the program
    def __init__(self, why: str, existing_version: int | None = None) -> None:
        super().__init__(why)
        self.why = why
        self.existing_version = existing_version


@dataclass(frozen=True, slots=True)
class Ingested:
    """Counts of one call."""

    memory: int
    magnetic: int
    rejected: list[dict[str, Any]]


def write_records(store: Store, table: Table, body: Mapping[str, Any]) -> Ingested:
    """Stores the records of a call that are valid; tells the others with their reasons.

    Raises:
        AwsError: ValidationException, where the call as a whole is malformed.
    """
    records = body["Records"]
    if not isinstance(records, list) or not 1 <= len(records) <= MAX_RECORDS:
        raise AwsError(
            "ValidationException",
            "1 validation error detected: Value at 'records' failed to satisfy constraint: "
            f"Member must have length less than or equal to {MAX_RECORDS}",
        )
    common = body.get("CommonAttributes") or {}
    common_dimensions = common.get("Dimensions") or []
    data = store.tables[table.storage]
    now = now_ns()
    rejected = []
    memory = magnetic = 0
    for index, given in enumerate(records):
        record = {**common, **given}
        record["Dimensions"] = [*common_dimensions, *(given.get("Dimensions") or [])]
        try:
            if _write_one(store, table, data, record, now):
                memory += 1
            else:
                magnetic += 1
        except _Rejected as why:
            entry: dict[str, Any] = {"RecordIndex": index, "Reason": why.why}
            if why.existing_version is not None:
                entry["ExistingVersion"] = why.existing_version
            rejected.append(entry)
    return Ingested(memory, magnetic, rejected)


def _write_one(
    store: Store, table: Table, data: TableStore, record: dict[str, Any], now: int
) -> bool:
    """Stores one record; True where its time is in the memory store's window."""
    time_ns = _time_ns(record)
    in_memory = _check_window(table, time_ns, now)
    dimensions = _dimensions(record)
    name = record.get("MeasureName")
    if not isinstance(name, str) or not 1 <= len(name) <= MAX_NAME:
        raise _Rejected("The measure name must have 1 to 256 characters.")
    measures = _measures(record, name)
    version = record.get("Version", 1)
    if not isinstance(version, int) or version < 1:
        raise _Rejected("The version must be a positive integer.")
    for column, (kind, _) in measures.items():
        known = data.columns.get(column)
        if column in data.dimensions or (known is not None and known != SQL_TYPES[kind]):
            raise _Rejected(
                f"The measure {column} has type {kind}, and exists in the table with another type."
            )
    for dimension in dimensions:
        if dimension in data.columns and dimension not in data.dimensions:
            raise _Rejected(f"The dimension {dimension} exists in the table as a measure.")
    _check_new_columns(data, [*dimensions, *measures])
    key = (time_ns, name, *sorted(dimensions.items()))
    fingerprint = hash(tuple(sorted(measures.items())))
    old = data.index.get(key)
    if old is not None:
        if version == old.version and fingerprint == old.values:
            return in_memory
        if version < old.version:
            raise _Rejected(
                f"The record version {version} is lower than the existing version {old.version}. "
                "A higher version is required to update the measure value.",
                old.version,
            )
        if version == old.version:
            raise _Rejected(
                "A record already exists with the same time, dimensions, measure name, and record "
                "version. A unique record or a higher record version is required to update the "
                "measure value.",
                old.version,
            )
    for dimension in dimensions:
        data.dimensions.setdefault(dimension)
        data.columns.setdefault(dimension, "VARCHAR")
    for column, (kind, _) in measures.items():
        data.columns.setdefault(column, SQL_TYPES[kind])
    data.measures.setdefault(name, {}).update({c: kind for c, (kind, _) in measures.items()})
    row: dict[str, Any] = {"time": time_ns, "measure_name": name, **dimensions}
    row.update({column: value for column, (_, value) in measures.items()})
    store.insert(data, key, version, fingerprint, row)
    return in_memory


def _check_new_columns(data: TableStore, names: list[str]) -> None:
    """SQL takes names without regard to case, so no two columns may differ in that alone."""
    new = [name for name in names if name not in data.columns]
    taken = {column.lower() for column in data.columns} if new else set()
    for name in new:
        if name.lower() in taken:
            raise _Rejected(f"The name {name} is taken by another column of the table.")
        taken.add(name.lower())


def _time_ns(record: Mapping[str, Any]) -> int:
    unit = record.get("TimeUnit") or "MILLISECONDS"
    if unit not in UNITS_NS:
        raise AwsError("ValidationException", f"TimeUnit {unit!r} is unknown")
    text = str(record.get("Time", ""))
    if not _INTEGER.match(text):
        raise _Rejected("The record time is not a number.")
    return int(text) * UNITS_NS[unit]


def _check_window(table: Table, time_ns: int, now: int) -> bool:
    oldest = now - table.memory_hours * HOUR_NS
    magnetic = bool(table.magnetic_writes.get("EnableMagneticStoreWrites"))
    if magnetic:
        oldest = min(oldest, now - table.magnetic_days * DAY_NS)
    newest = now + FUTURE_NS
    if not oldest <= time_ns < newest:
        raise _Rejected(
            "The record timestamp is outside the time range "
            f"[{oldest // 1_000_000}, {newest // 1_000_000}) of the data ingestion window."
        )
    return time_ns >= now - table.memory_hours * HOUR_NS


def _dimensions(record: Mapping[str, Any]) -> dict[str, str]:
    dimensions: dict[str, str] = {}
    for dimension in record["Dimensions"]:
        name, value = dimension.get("Name"), dimension.get("Value")
        if not isinstance(name, str) or not 1 <= len(name) <= MAX_NAME:
            raise _Rejected("A dimension name must have 1 to 256 characters.")
        if not isinstance(value, str) or not value:
            raise _Rejected(f"The dimension {name} has an empty value.")
        if len(value.encode()) > MAX_VALUE_BYTES:
            raise _Rejected(f"The dimension {name} exceeds {MAX_VALUE_BYTES} bytes.")
        if name in RESERVED or name.startswith(("ts_", "measure_value", "__")):
            raise _Rejected(f"The dimension name {name} is reserved.")
        if name in dimensions:
            raise _Rejected(f"The dimension {name} is given twice.")
        dimensions[name] = value
    if not dimensions:
        raise _Rejected("At least one dimension is required for a record.")
    if len(dimensions) > MAX_DIMENSIONS:
        raise _Rejected(f"A record has at most {MAX_DIMENSIONS} dimensions.")
    return dimensions


def _measures(record: Mapping[str, Any], name: str) -> dict[str, tuple[str, Any]]:
    """Column to (Timestream type, value)."""
    kind = record.get("MeasureValueType") or "DOUBLE"
    if kind != "MULTI":
        if record.get("MeasureValues"):
            raise AwsError("ValidationException", "MeasureValues are for type MULTI only")
        column = f"measure_value::{kind.lower()}"
        return {column: (kind, _value(name, kind, record.get("MeasureValue")))}
    values = record.get("MeasureValues")
    if not values or record.get("MeasureValue") is not None:
        raise AwsError("ValidationException", "type MULTI needs MeasureValues and no MeasureValue")
    measures: dict[str, tuple[str, Any]] = {}
    for value in values:
        column, kind = value.get("Name"), value.get("Type")
        if not isinstance(column, str) or not 1 <= len(column) <= MAX_NAME:
            raise _Rejected("A measure name must have 1 to 256 characters.")
        if column in RESERVED or column.startswith(("ts_", "measure_value", "__")):
            raise _Rejected(f"The measure name {column} is reserved.")
        if column in measures:
            raise _Rejected(f"The measure {column} is given twice.")
        measures[column] = (kind, _value(column, kind, value.get("Value")))
    return measures


def _value(name: str, kind: Any, text: Any) -> Any:
    if kind not in SQL_TYPES:
        raise AwsError("ValidationException", f"measure {name}: type {kind!r} is unknown")
    if not isinstance(text, str) or not text:
        raise _Rejected(f"The measure {name} has no value.")
    if kind == "VARCHAR":
        if len(text.encode()) > MAX_VALUE_BYTES:
            raise _Rejected(f"The measure {name} exceeds {MAX_VALUE_BYTES} bytes.")
        return text
    if kind == "BOOLEAN":
        if text.lower() not in {"true", "false"}:
            raise _Rejected(f"The measure {name} is not a valid BOOLEAN.")
        return text.lower() == "true"
    if kind == "DOUBLE":
        try:
            number = float(text)
        except ValueError:
            number = math.nan
        if not math.isfinite(number):
            raise _Rejected(f"The measure {name} is not a valid DOUBLE.")
        return number
    if not _INTEGER.match(text) or not -(2**63) <= int(text) < 2**63:
        raise _Rejected(f"The measure {name} is not a valid {kind}.")
    if kind != "TIMESTAMP":
        return int(text)
    # A TIMESTAMP measure is in milliseconds since the epoch.
    nanoseconds = int(text) * 1_000_000
    if not -(2**63) < nanoseconds < 2**63:
        raise _Rejected(f"The measure {name} is not a valid {kind}.")
    return nanoseconds
