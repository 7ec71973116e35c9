"""The files of an UNLOAD: results in CSV or Parquet, a manifest of them and their metadata.

As the developer guide's "UNLOAD concepts" and "Best practices for UNLOAD" have them. NULL is empty in CSV.
"""

from __future__ import annotations

import io
import math
import re
import uuid
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import orjson
import pyarrow as pa
from pyarrow import parquet

from localcloud.http import AwsError
from localcloud.timestream.results import column_info, is_list, scalar_texts
from localcloud.timestream.texts import double_text

if TYPE_CHECKING:
    from collections.abc import Iterator

    from localcloud.timestream.unload import Unload

MAX_PARTITIONS = 100
CHUNK_ROWS = 10_000
NO_VALUE = "__HIVE_DEFAULT_PARTITION__"
# What Hive and its readers escape in the name of a partition's folder.
_ESCAPED = re.compile(r"[\x00-\x1f\"#%'*/:=?\\\x7f{\[\]^]")


@dataclass(frozen=True, slots=True)
class Exported:
    """A file of results."""

    key: str
    body: bytes
    rows: int


class _Writer(Protocol):
    """Makes one file."""

    def add(self, rows: pa.Table) -> None:
        """Writes rows."""

    def size(self) -> int:
        """Bytes so far, about."""

    def end(self) -> bytes:
        """The whole file."""


class _Csv:
    def __init__(self, unload: Unload, schema: pa.Schema) -> None:
        self._unload = unload
        self._parts: list[bytes] = []
        self._size = 0
        self._zip = zlib.compressobj(wbits=31) if unload.gzip else None
        if unload.header:
            self._write(unload.delimiter.join(self._field(name) for name in schema.names) + "\n")

    def add(self, rows: pa.Table) -> None:
        columns = [
            ["" if text is None else self._field(text) for text in _texts(column)]
            for column in rows.columns
        ]
        lines = map(self._unload.delimiter.join, zip(*columns, strict=True))
        self._write("".join(f"{line}\n" for line in lines))

    def size(self) -> int:
        return self._size

    def end(self) -> bytes:
        if self._zip is not None:
            self._parts.append(self._zip.flush())
        return b"".join(self._parts)

    def _write(self, text: str) -> None:
        part = text.encode()
        if self._zip is not None:
            # Flushed, so that the size is known.
            part = self._zip.compress(part) + self._zip.flush(zlib.Z_SYNC_FLUSH)
        self._parts.append(part)
        self._size += len(part)

    def _field(self, text: str) -> str:
        escape = self._unload.escape
        quoted = self._unload.delimiter in text or "\n" in text or "\r" in text
        if escape in text:
            text = text.replace(escape, escape + escape)
        if '"' in text:
            text = text.replace('"', f'{escape}"')
        return f'"{text}"' if quoted else text


class _Parquet:
    def __init__(self, unload: Unload, schema: pa.Schema) -> None:
        self._sink = io.BytesIO()
        self._schema = _parquet_schema(schema)
        self._writer = parquet.ParquetWriter(
            self._sink, self._schema, compression="gzip" if unload.gzip else "none",
            use_deprecated_int96_timestamps=True,
        )  # fmt: skip

    def add(self, rows: pa.Table) -> None:
        try:
            columns = [
                pa.array(_texts(column), pa.string())
                if pa.types.is_interval(column.type)
                else column.cast(field.type)
                for column, field in zip(rows.columns, self._schema, strict=True)
            ]
        except pa.ArrowInvalid as error:
            # A sum is wider than the BIGINT that it is told as.
            raise AwsError("QueryExecutionException", f"bigint overflow: {error}") from error
        self._writer.write_table(pa.table(columns, schema=self._schema))

    def size(self) -> int:
        return self._sink.tell()

    def end(self) -> bytes:
        self._writer.close()
        return self._sink.getvalue()


def export(table: pa.Table, unload: Unload, query_id: str) -> list[Exported]:
    """The files of a result.

    Raises:
        AwsError: ValidationException: a column has a type that is not exported, or the columns of
            partitions are not the last ones, or there are too many partitions.
    """
    for info in column_info(table):
        if info["Type"].get("ScalarType") in {"TIME", "UNKNOWN"}:
            kind = info["Type"]["ScalarType"].lower()
            raise _invalid(f"the column {info['Name']} has type {kind}, which cannot be exported.")
    ending = ".parquet" if unload.parquet else ".gz" if unload.gzip else ".csv"
    files = []
    for folder, rows in _partitions(table, unload):
        for body, count in _files(rows, unload):
            key = f"{unload.folder}results/{folder}{query_id}_{uuid.uuid4()}{ending}"
            files.append(Exported(key, body, count))
    return files


def manifest(files: list[Exported], unload: Unload) -> bytes:
    """The manifest of files."""
    return orjson.dumps({
        "result_files": [
            {
                "url": f"s3://{unload.bucket}/{one.key}",
                "file_metadata": {
                    "content_length_in_bytes": len(one.body), "row_count": one.rows,
                },
            }
            for one in files
        ],
        "query_metadata": {
            "total_content_length_in_bytes": sum(len(one.body) for one in files),
            "total_row_count": sum(one.rows for one in files),
            "result_format": "PARQUET" if unload.parquet else "CSV",
            "result_version": "Amazon Timestream version 1.0.0",
        },
        "author": {"name": "Amazon Timestream", "manifest_file_version": "1.0"},
    })  # fmt: skip


def metadata(table: pa.Table) -> bytes:
    """The metadata of a result: its columns, those of partitions among them."""
    author = {"Name": "Amazon Timestream", "MetadataFileVersion": "1.0"}
    return orjson.dumps({"ColumnInfo": column_info(table), "Author": author})


def _partitions(table: pa.Table, unload: Unload) -> Iterator[tuple[str, pa.Table]]:
    """Folders with the rows in them, without the columns that are in the folder's name."""
    by = list(unload.partitioned_by)
    if not by:
        yield "", table
        return
    names = table.schema.names
    if len(by) >= len(names) or names[-len(by) :] != by:
        raise _invalid(
            f"the columns of partitioned_by ({', '.join(by)}) must be the last columns of the query, "
            "in the same order, after another column."
        )
    columns = [_texts(column) for column in table.columns[-len(by) :]]
    places: dict[tuple[str | None, ...], list[int]] = {}
    for row, values in enumerate(zip(*columns, strict=True)):
        places.setdefault(values, []).append(row)
    if len(places) > MAX_PARTITIONS:
        raise _invalid(f"{len(places)} partitions are more than {MAX_PARTITIONS}.")
    rest = table.drop_columns(by)
    for values, rows in places.items():
        folders = [f"{name}={_folder(value)}/" for name, value in zip(by, values, strict=True)]
        yield "".join(folders), rest.take(pa.array(rows))


def _folder(value: str | None) -> str:
    if value is None or not value:
        return NO_VALUE
    if not value.isascii():
        raise _invalid(f"the value '{value}' of a partition has other characters than ASCII.")
    return _ESCAPED.sub(lambda found: f"%{ord(found.group()):02X}", value)


def _files(table: pa.Table, unload: Unload) -> Iterator[tuple[bytes, int]]:
    """Files of about the greatest size, with how many rows are in them; none without rows."""
    writer: _Writer | None = None
    count = 0
    for first in range(0, table.num_rows, CHUNK_ROWS):
        if writer is None:
            writer, count = (_Parquet if unload.parquet else _Csv)(unload, table.schema), 0
        rows = table.slice(first, CHUNK_ROWS)
        writer.add(rows)
        count += rows.num_rows
        if writer.size() >= unload.file_bytes:
            yield writer.end(), count
            writer = None
    if writer is not None:
        yield writer.end(), count


def _texts(column: pa.ChunkedArray) -> list[str | None]:
    """The text of each value; that of arrays, rows and time series is JSON."""
    kind = column.type
    if not is_list(kind) and not pa.types.is_struct(kind):
        return scalar_texts(column)
    values = _plain(column.combine_chunks())
    return [None if value is None else orjson.dumps(value).decode() for value in values]


def _plain(column: pa.Array) -> list[Any]:
    """What JSON has for each value."""
    if isinstance(column, pa.ChunkedArray):
        column = pa.concat_arrays(column.chunks) if column.num_chunks else pa.array([], column.type)
    kind = column.type
    valid = column.is_valid().to_pylist()
    if is_list(kind):
        inner, offsets = _plain(column.values), column.offsets.to_pylist()
        return [
            inner[start:end] if there else None
            for there, start, end in zip(valid, offsets[:-1], offsets[1:], strict=True)
        ]
    if pa.types.is_struct(kind):
        names = [one.name for one in kind]
        fields = [_plain(column.field(at)) for at in range(kind.num_fields)]
        return [
            dict(zip(names, row, strict=True)) if there else None
            for there, row in zip(valid, zip(*fields, strict=True), strict=True)
        ]
    if pa.types.is_boolean(kind) or pa.types.is_integer(kind):
        return list(column.to_pylist())
    if pa.types.is_floating(kind):
        # JSON has no number for Infinity and NaN.
        return [
            one if one is None or math.isfinite(one) else double_text(one)
            for one in column.to_pylist()
        ]
    return list(scalar_texts(column))


def _parquet_schema(schema: pa.Schema) -> pa.Schema:
    """The types that Parquet files have: of a sum its BIGINT, of an interval its text."""
    return pa.schema([pa.field(one.name, _parquet_type(one.type)) for one in schema])


def _parquet_type(kind: pa.DataType) -> pa.DataType:
    if is_list(kind):
        return pa.list_(_parquet_type(kind.value_type))
    if pa.types.is_struct(kind):
        return pa.struct([pa.field(one.name, _parquet_type(one.type)) for one in kind])
    if pa.types.is_decimal(kind):
        return pa.float64() if kind.scale else pa.int64()
    if pa.types.is_uint64(kind):
        return pa.int64()
    if pa.types.is_interval(kind):
        return pa.string()
    return kind


def _invalid(why: str) -> AwsError:
    return AwsError("ValidationException", f"UNLOAD: {why}")
