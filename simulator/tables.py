"""Files of numbers that a scenario replays: CSV or Parquet, read by column and known by their hash."""

from __future__ import annotations

import hashlib
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet as pq
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, model_validator

if TYPE_CHECKING:
    from collections.abc import Sequence

Floats = NDArray[np.float64]


class FromFile(BaseModel):
    """What has its numbers from a file beside the scenario.

    Attributes:
        file: CSV with a header, or Parquet; a relative path counts from the scenario's folder.
        sha256: Of the file. A saved run has it, so that a file that changed is noticed.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    file: str
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")] | None = None

    @model_validator(mode="before")
    @classmethod
    def _locate(cls, value: Any, info: ValidationInfo) -> Any:
        return locate(value, info)


def locate(value: Any, info: ValidationInfo) -> Any:
    """What is written of a `FromFile`, with the whole path and the hash of the file.

    Raises:
        ValueError: the file cannot be read, or is not what it was.
    """
    if not isinstance(value, dict) or not isinstance(value.get("file"), str):
        return value
    folder = Path((info.context or {}).get("folder", "."))
    path = (folder / value["file"]).resolve()
    found = digest(path)
    if value.get("sha256") not in {None, found}:
        raise ValueError(f"file: {path} is not what it was: its SHA-256 is {found}")
    return {**value, "file": str(path), "sha256": found}


def digest(path: Path) -> str:
    """SHA-256 of a file's content.

    Raises:
        ValueError: it cannot be read.
    """
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        raise ValueError(f"file: cannot read {path}: {error.strerror}") from None


@lru_cache(maxsize=64)
def columns(path: str, sha256: str | None, names: tuple[str, ...]) -> tuple[Floats, ...]:  # noqa: ARG001
    """Columns of a file as numbers, shape (rows,) each; times become seconds from the first.

    Args:
        path: The file.
        sha256: Of its content, so that it is read again where that has changed.
        names: Names of the columns.

    Raises:
        ValueError: the file has no such columns, or something in them is no number.
    """
    table = _read(path, names)
    if not table.num_rows:
        raise ValueError(f"file: {path} has no rows")
    return tuple(_numbers(path, name, table.column(name)) for name in names)


def _read(path: str, names: Sequence[str]) -> pa.Table:
    try:
        if path.endswith((".parquet", ".pq")):
            there = pq.read_schema(path).names
            table = pq.read_table(path, columns=[name for name in names if name in there])
        else:
            table = pyarrow.csv.read_csv(path)
            there = table.column_names
    except (pa.ArrowException, OSError) as error:
        raise ValueError(f"file: {path} is neither CSV nor Parquet: {error}") from None
    missing = [name for name in names if name not in there]
    if missing:
        raise ValueError(f"file: {path} has no column {missing[0]!r}: it has {', '.join(there)}")
    return table


def _numbers(path: str, name: str, column: pa.ChunkedArray) -> Floats:
    kind = column.type
    if pa.types.is_timestamp(kind) or pa.types.is_date(kind):
        moments = pc.cast(pc.cast(column, pa.timestamp("ns")), pa.int64())
        column = pc.divide(pc.cast(pc.subtract(moments, moments[0]), pa.float64()), 1e9)
    elif not (pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind)):
        raise ValueError(f"file: column {name!r} of {path} holds {kind}: numbers are needed")
    numbers: Floats = (
        pc.cast(column, pa.float64(), safe=False).to_numpy(zero_copy_only=False).astype(np.float64)
    )
    bad = np.flatnonzero(~np.isfinite(numbers))
    if len(bad):
        raise ValueError(f"file: column {name!r} of {path} has no number in row {int(bad[0]) + 1}")
    return numbers
