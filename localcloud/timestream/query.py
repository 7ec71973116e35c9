"""Query: results in Timestream's text forms, and pages over a stable snapshot."""

from __future__ import annotations

import datetime as dt
import math
import re
import time
import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import duckdb
import pyarrow as pa

from localcloud.http import AwsError
from localcloud.timestream.dialect import parse
from localcloud.timestream.store import now_ns
from localcloud.timestream.translate import translate

if TYPE_CHECKING:
    from collections.abc import Callable

    from localcloud.timestream.catalog import Catalog
    from localcloud.timestream.store import Store

TIMEOUT_S = 60.0
MAX_ROWS = 1000
PAGE_BYTES = 1_000_000
SNAPSHOT_LIFE_S = 3600
MAX_SNAPSHOTS = 100
_SHOW = re.compile(
    r"^\s*(?:SHOW\s+(?P<what>DATABASES|TABLES|MEASURES)(?:\s+FROM\s+(?P<from>[^\s;]+))?"
    r"(?:\s+LIKE\s+'(?P<like>[^']*)')?|(?:DESCRIBE|DESC)\s+(?P<table>[^\s;]+))\s*;?\s*$",
    re.IGNORECASE,
)
_INTEGERS = (pa.types.is_integer, pa.types.is_decimal)


@dataclass(slots=True)
class Snapshot:
    """A result that is being paged through."""

    query_id: str
    sql: str
    columns: list[dict[str, Any]]
    rows: list[list[str | None]]
    made_s: float
    pages: int = 0


class QueryEngine:
    """Runs queries and keeps the snapshots of those that have more pages."""

    def __init__(self, catalog: Catalog, store: Store) -> None:
        self._catalog = catalog
        self._store = store
        self._snapshots: dict[str, Snapshot] = {}

    async def query(self, body: dict[str, Any]) -> dict[str, Any]:
        """Answers a Query request.

        Raises:
            AwsError: ValidationException, or QueryExecutionException where it took too long.
        """
        limit = int(body.get("MaxRows") or MAX_ROWS)
        if not 1 <= limit <= MAX_ROWS:
            raise AwsError("ValidationException", f"MaxRows must be from 1 to {MAX_ROWS}.")
        if body.get("NextToken"):
            return self._next_page(body, limit)
        sql = body["QueryString"]
        show = _SHOW.match(sql)
        columns, rows = self._show(show) if show else await self._select(sql)
        snapshot = Snapshot(uuid.uuid4().hex.upper(), sql, columns, rows, time.time())
        return self._page(snapshot, 0, limit)

    def cancel(self, body: dict[str, Any]) -> dict[str, Any]:
        """Answers a CancelQuery request."""
        if self._snapshots.pop(body["QueryId"], None) is None:
            raise AwsError("ValidationException", f"query {body['QueryId']} is not running.")
        return {"CancellationMessage": f"Query {body['QueryId']} has been cancelled."}

    async def _select(self, sql: str) -> tuple[list[dict[str, Any]], list[list[str | None]]]:
        translation = translate(parse(sql), self._catalog, self._store, now_ns())
        try:
            result = await self._store.query(translation.sql, translation.tables, TIMEOUT_S)
        except duckdb.InterruptException as error:
            raise AwsError(
                "QueryExecutionException", f"The query took longer than {TIMEOUT_S:.0f} s."
            ) from error
        except duckdb.Error as error:
            text = str(error).split("\n", 1)[0].removeprefix("Binder Error: ")
            if "Division by zero" in text:
                text = "Division by zero"
            raise AwsError("ValidationException", text) from error
        columns = [
            {"Name": name, "Type": {"ScalarType": _scalar_type(kind)}}
            for name, kind in zip(result.schema.names, result.schema.types, strict=True)
        ]
        texts = [_texts(column) for column in result.columns]
        return columns, [list(row) for row in zip(*texts, strict=True)]

    def _show(self, show: re.Match[str]) -> tuple[list[dict[str, Any]], list[list[str | None]]]:
        if show.group("table"):
            return self._describe(show.group("table"))
        what = show.group("what").upper()
        like = _like(show.group("like"))
        if what == "DATABASES":
            return _texts_table("Database", filter(like, sorted(self._catalog.databases)))
        source = show.group("from") or ""
        parts = [part.strip('"') for part in source.split(".")]
        if what == "TABLES":
            database = self._catalog.database(parts[0])
            return _texts_table("Table", filter(like, sorted(database.tables)))
        if len(parts) != 2:  # noqa: PLR2004 - database and table
            raise AwsError("ValidationException", 'write SHOW MEASURES FROM "database"."table"')
        table = self._catalog.table(parts[0], parts[1])
        measures = self._store.tables[table.storage].measures
        rows: list[list[str | None]] = [
            [name, "multi" if len(kinds) > 1 else next(iter(kinds.values())).lower()]
            for name, kinds in sorted(measures.items())
            if like(name)
        ]
        return _columns("measure_name", "data_type"), rows

    def _describe(self, source: str) -> tuple[list[dict[str, Any]], list[list[str | None]]]:
        parts = [part.strip('"') for part in source.split(".")]
        if len(parts) != 2:  # noqa: PLR2004 - database and table
            raise AwsError("ValidationException", 'write DESCRIBE "database"."table"')
        data = self._store.tables[self._catalog.table(parts[0], parts[1]).storage]
        rows: list[list[str | None]] = []
        for column, kind in data.columns.items():
            if column.startswith("__"):
                continue
            if column == "time":
                role = "TIMESTAMP"
            elif column == "measure_name":
                role = "MEASURE_NAME"
            else:
                role = "DIMENSION" if column in data.dimensions else "MEASURE_VALUE"
            rows.append([column, kind.lower().removesuffix("_ns"), role])
        return _columns("Column", "Type", "Timestream attribute type"), rows

    def _next_page(self, body: dict[str, Any], limit: int) -> dict[str, Any]:
        query_id, _, first = str(body["NextToken"]).partition("|")
        snapshot = self._snapshots.get(query_id)
        if snapshot is None or not first.isdigit():
            raise AwsError("ValidationException", "Invalid or expired NextToken.")
        if snapshot.sql != body.get("QueryString"):
            raise AwsError("ValidationException", "NextToken belongs to another QueryString.")
        return self._page(snapshot, int(first), limit)

    def _page(self, snapshot: Snapshot, first: int, limit: int) -> dict[str, Any]:
        rows: list[dict[str, Any]] = []
        size = 0
        for row in snapshot.rows[first : first + limit]:
            size += sum(len(text or "") + 20 for text in row)
            if rows and size > PAGE_BYTES:
                break
            rows.append(
                {
                    "Data": [
                        {"NullValue": True} if text is None else {"ScalarValue": text}
                        for text in row
                    ]
                }
            )
        end = first + len(rows)
        whole = len(snapshot.rows)
        answer: dict[str, Any] = {
            "QueryId": snapshot.query_id,
            "Rows": rows,
            "ColumnInfo": snapshot.columns,
            "QueryStatus": {
                "ProgressPercentage": 100.0 * end / whole if whole else 100.0,
                "CumulativeBytesScanned": 0,
                "CumulativeBytesMetered": 0,
            },
        }
        if end < whole:
            self._keep(snapshot)
            answer["NextToken"] = f"{snapshot.query_id}|{end}"
        else:
            self._snapshots.pop(snapshot.query_id, None)
        return answer

    def _keep(self, snapshot: Snapshot) -> None:
        now = time.time()
        self._snapshots[snapshot.query_id] = snapshot
        for query_id in list(self._snapshots):
            old = now - self._snapshots[query_id].made_s > SNAPSHOT_LIFE_S
            if old or len(self._snapshots) > MAX_SNAPSHOTS:
                del self._snapshots[query_id]


def _columns(*names: str) -> list[dict[str, Any]]:
    return [{"Name": name, "Type": {"ScalarType": "VARCHAR"}} for name in names]


def _texts_table(name: str, values: Any) -> tuple[list[dict[str, Any]], list[list[str | None]]]:
    return _columns(name), [[value] for value in values]


def _like(pattern: str | None) -> Callable[[str], bool]:
    if pattern is None:
        return lambda _: True
    shape = "".join(
        ".*" if char == "%" else "." if char == "_" else re.escape(char) for char in pattern
    )
    return lambda text: re.fullmatch(shape, text) is not None


def _scalar_type(kind: pa.DataType) -> str:
    if pa.types.is_boolean(kind):
        return "BOOLEAN"
    if pa.types.is_int32(kind) or pa.types.is_int16(kind) or pa.types.is_int8(kind):
        return "INTEGER"
    if any(test(kind) for test in _INTEGERS):
        return "BIGINT"
    if pa.types.is_floating(kind):
        return "DOUBLE"
    if pa.types.is_timestamp(kind):
        return "TIMESTAMP"
    if pa.types.is_date(kind):
        return "DATE"
    if pa.types.is_time(kind):
        return "TIME"
    if pa.types.is_null(kind):
        return "UNKNOWN"
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        return "VARCHAR"
    raise AwsError("ValidationException", f"results of type {kind} are not served locally")


def _texts(column: pa.ChunkedArray) -> list[str | None]:
    kind = column.type
    if pa.types.is_timestamp(kind):
        nanoseconds = column.cast(pa.timestamp("ns", tz=kind.tz)).cast(pa.int64()).to_pylist()
        return [None if value is None else timestamp_text(value) for value in nanoseconds]
    return [None if value is None else _text(value) for value in column.to_pylist()]


def timestamp_text(nanoseconds: int) -> str:
    """`2026-01-02 03:04:05.000000006`, Timestream's form of a TIMESTAMP."""
    seconds, rest = divmod(nanoseconds, 1_000_000_000)
    moment = dt.datetime(1970, 1, 1, tzinfo=dt.UTC) + dt.timedelta(seconds=seconds)
    return f"{moment:%Y-%m-%d %H:%M:%S}.{rest:09d}"


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return double_text(value)
    if isinstance(value, int) or (not isinstance(value, str) and hasattr(value, "as_tuple")):
        number = int(value)
        if not -(2**63) <= number < 2**63:
            raise AwsError("QueryExecutionException", f"bigint overflow: {number}")
        return str(number)
    return str(value)


def double_text(value: float) -> str:
    """A double as Java's Double.toString has it, which is what Timestream sends."""
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "Infinity" if value > 0 else "-Infinity"
    if value == 0 or 1e-3 <= abs(value) < 1e7:  # noqa: PLR2004 - Java's bounds
        text = format(value, ".17f") if "e" in repr(value) else repr(value)
        return text.rstrip("0") + "0" if text.rstrip("0").endswith(".") else text
    digits, exponent = f"{value!r}", 0
    if "e" in digits:
        digits, _, power = digits.partition("e")
        exponent = int(power)
    sign = "-" if digits.startswith("-") else ""
    whole, _, fraction = digits.lstrip("-").partition(".")
    significant = (whole + fraction).lstrip("0")
    exponent += len(whole) - 1 if whole != "0" else -(len(fraction) - len(fraction.lstrip("0"))) - 1
    significant = significant.rstrip("0") or "0"
    return f"{sign}{significant[0]}.{significant[1:] or '0'}E{exponent}"
