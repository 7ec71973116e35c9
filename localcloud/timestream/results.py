"""Results of queries as Timestream's API has them: types of columns, and rows of values.

A time series is a list of rows of `time` and `value`, and told as one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pyarrow as pa

from localcloud.http import AwsError
from localcloud.timestream.texts import (
    double_text,
    interval_text,
    months_text,
    time_text,
    timestamp_text,
)

if TYPE_CHECKING:
    from collections.abc import Callable

Json = dict[str, Any]
NULL: Json = {"NullValue": True}
_DAY_NS = 86_400_000_000_000
_SERIES = ["time", "value"]
_SCALARS: tuple[tuple[Callable[[pa.DataType], bool], str], ...] = (
    (pa.types.is_boolean, "BOOLEAN"),
    (pa.types.is_int64, "BIGINT"),
    (pa.types.is_uint64, "BIGINT"),
    (pa.types.is_decimal, "BIGINT"),
    (pa.types.is_integer, "INTEGER"),
    (pa.types.is_floating, "DOUBLE"),
    (pa.types.is_timestamp, "TIMESTAMP"),
    (pa.types.is_date, "DATE"),
    (pa.types.is_time, "TIME"),
    (pa.types.is_null, "UNKNOWN"),
    (pa.types.is_string, "VARCHAR"),
    (pa.types.is_large_string, "VARCHAR"),
    (pa.types.is_interval, "INTERVAL_DAY_TO_SECOND"),
)


def column_type(kind: pa.DataType) -> Json:
    """The API's Type of a column.

    Raises:
        AwsError: ValidationException: there is no such type.
    """
    if is_list(kind):
        inner = kind.value_type
        if _is_series(inner):
            value = column_type(inner.field(1).type)
            return {"TimeSeriesMeasureValueColumnInfo": {"Type": value}}
        return {"ArrayColumnInfo": {"Type": column_type(inner)}}
    if pa.types.is_struct(kind):
        return {"RowColumnInfo": [_field(one) for one in kind]}
    if pa.types.is_decimal(kind) and kind.scale:
        return {"ScalarType": "DOUBLE"}
    for test, name in _SCALARS:
        if test(kind):
            return {"ScalarType": name}
    raise AwsError("ValidationException", f"results of type {kind} are not served locally")


def _field(one: pa.Field) -> Json:
    kind = column_type(one.type)
    # DuckDB names what a row leaves without a name.
    return {"Type": kind} if one.name.startswith("element") else {"Name": one.name, "Type": kind}


def column_info(table: pa.Table) -> list[Json]:
    """The API's ColumnInfo of each column; an interval of months is told by its values."""
    columns = []
    for name, column in zip(table.schema.names, table.columns, strict=True):
        kind = column_type(column.type)
        if pa.types.is_interval(column.type) and any(
            value is not None and value[0] for value in column.to_pylist()
        ):
            kind = {"ScalarType": "INTERVAL_YEAR_TO_MONTH"}
        columns.append({"Name": name, "Type": kind})
    return columns


def rows_of(table: pa.Table) -> list[Json]:
    """The API's rows of a table."""
    columns = [_data(column.combine_chunks()) for column in table.columns]
    return [{"Data": list(row)} for row in zip(*columns, strict=True)]


def is_list(kind: pa.DataType) -> bool:
    """Whether a type is an array, or a time series."""
    return bool(pa.types.is_list(kind) or pa.types.is_large_list(kind))


def _is_series(kind: pa.DataType) -> bool:
    return (
        pa.types.is_struct(kind)
        and [one.name for one in kind] == _SERIES
        and pa.types.is_timestamp(kind.field(0).type)
    )


def _data(column: pa.Array) -> list[Json]:
    """The API's Datum of each value of a column."""
    if isinstance(column, pa.ChunkedArray):
        column = pa.concat_arrays(column.chunks) if column.num_chunks else pa.array([], column.type)
    kind = column.type
    if is_list(kind):
        return _lists(column)
    if pa.types.is_struct(kind):
        fields = [_data(column.field(at)) for at in range(kind.num_fields)]
        valid = column.is_valid().to_pylist()
        return [
            {"RowValue": {"Data": list(row)}} if there else NULL
            for there, row in zip(valid, zip(*fields, strict=True), strict=True)
        ]
    return [NULL if text is None else {"ScalarValue": text} for text in scalar_texts(column)]


def _lists(column: pa.Array) -> list[Json]:
    series = _is_series(column.type.value_type)
    offsets = column.offsets.to_pylist()
    values = column.values
    if series:
        times = scalar_texts(values.field(0))
        points = [
            {"Time": time, "Value": value}
            for time, value in zip(times, _data(values.field(1)), strict=True)
        ]
    else:
        points = _data(values)
    name = "TimeSeriesValue" if series else "ArrayValue"
    valid = column.is_valid().to_pylist()
    return [
        {name: points[start:end]} if there else NULL
        for there, start, end in zip(valid, offsets[:-1], offsets[1:], strict=True)
    ]


def scalar_texts(column: pa.Array) -> list[str | None]:
    """The text of each value of a column of scalars."""
    kind = column.type
    if pa.types.is_timestamp(kind):
        values = column.cast(pa.timestamp("ns", tz=kind.tz)).cast(pa.int64()).to_pylist()
        return [None if value is None else timestamp_text(value) for value in values]
    text: Callable[[Any], str] = _text
    if pa.types.is_floating(kind):
        text = double_text
    elif pa.types.is_decimal(kind):
        text = _float_of_decimal if kind.scale else _integer
    elif pa.types.is_time(kind):
        text = time_text
    elif pa.types.is_interval(kind):
        text = _interval
    return [None if value is None else text(value) for value in column.to_pylist()]


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)


def _float_of_decimal(value: Any) -> str:
    return double_text(float(value))


def _integer(value: Any) -> str:
    number = int(value)
    if not -(2**63) <= number < 2**63:
        raise AwsError("QueryExecutionException", f"bigint overflow: {number}")
    return str(number)


def _interval(value: Any) -> str:
    months, days, nanoseconds = value
    return months_text(months) if months else interval_text(days * _DAY_NS + nanoseconds)
