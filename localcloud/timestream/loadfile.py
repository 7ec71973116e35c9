"""A CSV file of a batch load as records, and what is wrong with it, by lines.

As the developer guide's "Data model mappings for batch load" and "Using batch load error reports" have it.
"""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from localcloud.http import AwsError
from localcloud.timestream.mapping import measures

if TYPE_CHECKING:
    from collections.abc import Iterator

Json = dict[str, Any]
Lines = tuple[int, int]

_SEPARATORS = {",", "|", ";", "\t", " "}
_QUOTES = {'"', "'"}


class FileError(Exception):
    """A file cannot be loaded as a whole."""


@dataclass(frozen=True, slots=True)
class Parsed:
    """A row: its lines in the file, counted from 1, and its records; or why it has none."""

    lines: Lines
    records: list[Json]
    why: str = ""


def check_settings(source: Json) -> None:
    """Checks a DataSourceConfiguration's CSV settings.

    Raises:
        AwsError: ValidationException.
    """
    settings = source.get("CsvConfiguration") or {}
    if settings.get("ColumnSeparator", ",") not in _SEPARATORS:
        raise _invalid("ColumnSeparator must be a comma, pipe, semicolon, tab or blank.")
    if settings.get("QuoteChar", '"') not in _QUOTES:
        raise _invalid("QuoteChar must be a single or a double quote.")


def check_model(model: Json) -> None:
    """Checks a DataModel.

    Raises:
        AwsError: ValidationException.
    """
    multi, mixed = model.get("MultiMeasureMappings"), model.get("MixedMeasureMappings")
    if not model.get("TimeColumn"):
        raise _invalid("DataModel needs a TimeColumn.")
    if not model.get("DimensionMappings"):
        raise _invalid("DataModel needs DimensionMappings.")
    if bool(multi) == bool(mixed):
        raise _invalid("DataModel needs either MultiMeasureMappings or MixedMeasureMappings.")
    named = bool(model.get("MeasureNameColumn"))
    if multi and not (named or multi.get("TargetMultiMeasureName")):
        raise _invalid("MultiMeasureMappings need a TargetMultiMeasureName or a MeasureNameColumn.")
    for one in mixed or ():
        if named and not one.get("MeasureName"):
            raise _invalid("Where there is a MeasureNameColumn, each mapping needs a MeasureName.")
        if one["MeasureValueType"] == "MULTI" and not one.get("MultiMeasureAttributeMappings"):
            raise _invalid("A mapping of type MULTI needs MultiMeasureAttributeMappings.")
        if one["MeasureValueType"] != "MULTI" and not one.get("SourceColumn"):
            raise _invalid("A mapping of a single measure needs a SourceColumn.")
    for one in _attributes(model):
        if not one.get("MeasureValueType"):
            raise _invalid(f"The mapping of {one['SourceColumn']} needs a MeasureValueType.")


def rows_of(body: bytes, model: Json, settings: Json) -> Iterator[Parsed]:
    """The rows of a file after its header; empty ones are passed over.

    Args:
        body: The file, in UTF-8.
        model: A DataModel that was checked.
        settings: A CsvConfiguration, which may be empty.

    Raises:
        FileError: it is no text, or a column that the model maps is not there.
    """
    try:
        text = body.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise FileError("The file is not text in UTF-8.") from error
    reader = csv.reader(
        io.StringIO(text, newline=""),
        delimiter=settings.get("ColumnSeparator", ","),
        quotechar=settings.get("QuoteChar", '"'),
        escapechar=settings.get("EscapeChar"),
    )
    trimmed = bool(settings.get("TrimWhiteSpace"))
    nulls = {"", settings.get("NullValue")}
    header = [name.strip() if trimmed else name for name in next(reader, [])]
    missing = sorted(_columns(model) - set(header))
    if missing:
        raise FileError(f"The file has no column {', '.join(missing)}.")
    before = reader.line_num
    while True:
        try:
            cells = next(reader, None)
        except csv.Error as error:
            yield Parsed((before + 1, reader.line_num), [], f"The row cannot be read: {error}.")
            before = reader.line_num
            continue
        if cells is None:
            return
        lines = (before + 1, reader.line_num)
        before = reader.line_num
        if not cells:
            continue
        if len(cells) != len(header):
            why = f"The row has {len(cells)} columns, and the header {len(header)}."
            yield Parsed(lines, [], why)
            continue
        texts = [cell.strip() if trimmed else cell for cell in cells]
        values = {
            name: None if text in nulls else text for name, text in zip(header, texts, strict=True)
        }
        yield _parsed(lines, model, values)


def _parsed(lines: Lines, model: Json, values: dict[str, str | None]) -> Parsed:
    time = values[model["TimeColumn"]]
    named = model.get("MeasureNameColumn")
    if time is None:
        return Parsed(lines, [], "The row has no time.")
    if named and values[named] is None:
        return Parsed(lines, [], "The row has no measure name.")
    common = {
        "Time": time,
        "TimeUnit": model.get("TimeUnit", "MILLISECONDS"),
        "Dimensions": [
            {"Name": one.get("DestinationColumn") or one["SourceColumn"], "Value": value}
            for one in model["DimensionMappings"]
            if (value := values[one["SourceColumn"]]) is not None
        ],
    }
    made = [{**common, **measure} for measure in measures(model, values)]
    return Parsed(lines, made, "" if made else "The row has no measure.")


def _columns(model: Json) -> set[str]:
    """The columns that a model maps."""
    named = model.get("MeasureNameColumn")
    return {
        model["TimeColumn"],
        *([named] if named else []),
        *(one["SourceColumn"] for one in model["DimensionMappings"]),
        *(one["SourceColumn"] for one in _attributes(model)),
        *(
            one["SourceColumn"]
            for one in model.get("MixedMeasureMappings") or ()
            if one["MeasureValueType"] != "MULTI"
        ),
    }


def _attributes(model: Json) -> list[Json]:
    multi = model.get("MultiMeasureMappings") or {}
    found = list(multi.get("MultiMeasureAttributeMappings") or ())
    for one in model.get("MixedMeasureMappings") or ():
        found += one.get("MultiMeasureAttributeMappings") or ()
    return found


def _invalid(why: str) -> AwsError:
    return AwsError("ValidationException", why)
