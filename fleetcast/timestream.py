"""Asking Timestream from the command line: pages of rows, written as they come.

Values keep the text forms of Timestream, so that no digit of a nanosecond or a double is lost; in
JSON, numbers and booleans are what they are, and arrays, rows and time series are nested.
"""

from __future__ import annotations

import csv
import io
import json
import math
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any

from fleetcast.errors import TargetError, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from fleetcast.target import Target

_NUMBERS = {"BIGINT": int, "INTEGER": int, "DOUBLE": float}
# Rows of a table that are looked at for the widths of its columns.
TABLE_ROWS = 1000


class Writer(ABC):
    """What becomes of rows: `columns` first, then `rows` for each page, `end` at last."""

    def __init__(self, say: Callable[[str], None]) -> None:
        self._say = say
        self._columns: Sequence[dict[str, Any]] = ()
        self.count = 0

    def columns(self, columns: Sequence[dict[str, Any]]) -> None:
        """Takes the API's ColumnInfo."""
        self._columns = columns

    def rows(self, rows: Sequence[dict[str, Any]]) -> None:
        """Takes the API's rows of a page."""
        self.count += len(rows)
        kinds = [column["Type"] for column in self._columns]
        self._write(
            [
                [value(kind, datum) for kind, datum in zip(kinds, row["Data"], strict=True)]
                for row in rows
            ]
        )

    @abstractmethod
    def _write(self, rows: list[list[Any]]) -> None:
        """Takes rows as values."""

    def end(self) -> None:  # noqa: B027 - most have nothing left to do
        """Comes after the last page."""

    def _names(self) -> list[str]:
        return [str(column.get("Name", "")) for column in self._columns]


class JsonLines(Writer):
    """An object for each row. Doubles that JSON has no number for are texts."""

    def _write(self, rows: list[list[Any]]) -> None:
        names = self._names()
        for row in rows:
            self._say(json.dumps(dict(zip(names, row, strict=True)), ensure_ascii=False))


class Csv(Writer):
    """A line of names, then a line for each row; NULL is empty, nested values are JSON."""

    def columns(self, columns: Sequence[dict[str, Any]]) -> None:
        """See `Writer`."""
        super().columns(columns)
        self._line(self._names())

    def _write(self, rows: list[list[Any]]) -> None:
        for row in rows:
            self._line([text(one) for one in row])

    def _line(self, cells: Sequence[str]) -> None:
        line = io.StringIO()
        csv.writer(line, lineterminator="").writerow(cells)
        self._say(line.getvalue())


class Table(Writer):
    """Columns below each other, numbers to the right, and the count of rows at the end."""

    def __init__(self, say: Callable[[str], None]) -> None:
        super().__init__(say)
        self._waiting: list[list[Any]] = []
        self._widths: list[int] | None = None

    def _write(self, rows: list[list[Any]]) -> None:
        self._waiting += rows
        if self._widths is not None or len(self._waiting) >= TABLE_ROWS:
            self._flush()

    def end(self) -> None:
        """See `Writer`."""
        self._flush()
        self._say(f"({self.count:,} {'row' if self.count == 1 else 'rows'})")

    def _flush(self) -> None:
        cells = [["NULL" if one is None else text(one) for one in row] for row in self._waiting]
        self._waiting = []
        names = self._names()
        if self._widths is None:
            self._widths = [max(map(len, column)) for column in zip(names, *cells, strict=True)]
            self._say(self._line(names))
            self._say("  ".join("-" * width for width in self._widths))
        for row in cells:
            self._say(self._line(row))

    def _line(self, cells: Sequence[str]) -> str:
        right = [column["Type"].get("ScalarType") in _NUMBERS for column in self._columns]
        return "  ".join(
            cell.rjust(width) if number else cell.ljust(width)
            for cell, width, number in zip(cells, self._widths or (), right, strict=True)
        ).rstrip()


WRITERS: dict[str, Callable[[Callable[[str], None]], Writer]] = {
    "table": Table, "csv": Csv, "json": JsonLines,
}  # fmt: skip


async def ask(target: Target, sql: str, writer: Writer, limit: int | None = None) -> None:
    """Runs a query and gives its rows to a writer, page by page.

    Args:
        target: Where to.
        sql: The query.
        writer: What becomes of the rows.
        limit: Ends after this many rows.

    Raises:
        UsageError: Timestream refused the query.
        TargetError: Timestream cannot be reached, or failed.
    """
    from botocore.exceptions import BotoCoreError, ClientError  # noqa: PLC0415 - keeps --help fast

    token: str | None = None
    told = False
    try:
        async with target.client("timestream-query", read_timeout=180) as client:
            while True:
                more = {"NextToken": token} if token else {}
                answer = await client.query(QueryString=sql, **more)
                token = answer.get("NextToken")
                rows = answer["Rows"]
                # Without columns the query is still on its way.
                if not told and (answer["ColumnInfo"] or not token):
                    told = True
                    writer.columns(answer["ColumnInfo"])
                if told:
                    left = len(rows) if limit is None else limit - writer.count
                    writer.rows(rows[:left])
                if not token:
                    break
                if limit is not None and writer.count >= limit:
                    await client.cancel_query(QueryId=answer["QueryId"])
                    break
    except ClientError as error:
        said = error.response["Error"]
        line = " ".join(str(said.get("Message", "")).split())
        if said.get("Code") in {"ValidationException", "ConflictException"}:
            raise UsageError(f"the query was refused: {line}") from error
        raise TargetError(f"Timestream on {target.name}: {said.get('Code')}: {line}") from error
    except BotoCoreError as error:
        hint = " (fleetcast cloud start)" if target.name == "local" else ""
        raise TargetError(f"Timestream on {target.name} cannot be asked: {error}{hint}") from error
    writer.end()


def value(kind: dict[str, Any], datum: dict[str, Any]) -> Any:
    """A value of the API: None, int, float, bool, text, list or dict.

    Doubles without a number in JSON (`NaN`, `Infinity`) stay texts.
    """
    if datum.get("NullValue"):
        return None
    if "ArrayValue" in datum:
        inner = kind["ArrayColumnInfo"]["Type"]
        return [value(inner, one) for one in datum["ArrayValue"]]
    if "TimeSeriesValue" in datum:
        inner = kind["TimeSeriesMeasureValueColumnInfo"]["Type"]
        return [
            {"time": point["Time"], "value": value(inner, point["Value"])}
            for point in datum["TimeSeriesValue"]
        ]
    if "RowValue" in datum:
        fields = zip(kind["RowColumnInfo"], datum["RowValue"]["Data"], strict=True)
        return {
            field.get("Name") or f"field{at}": value(field["Type"], one)
            for at, (field, one) in enumerate(fields)
        }
    scalar = datum["ScalarValue"]
    name = kind.get("ScalarType")
    if name == "BOOLEAN":
        return scalar == "true"
    if name in _NUMBERS:
        number = _NUMBERS[name](scalar)
        return number if math.isfinite(number) else scalar
    return scalar


def text(one: Any) -> str:
    """A value in a table or in CSV."""
    if one is None:
        return ""
    if isinstance(one, bool):
        return "true" if one else "false"
    if isinstance(one, list | dict):
        return json.dumps(one, ensure_ascii=False)
    return str(one)
