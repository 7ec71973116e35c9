"""Rows of a scheduled query's result, or of a batch load's file, as records of their target table."""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING, Any

from localcloud.http import AwsError

if TYPE_CHECKING:
    from collections.abc import Callable

Json = dict[str, Any]


def records(config: Json, columns: list[Json], rows: list[Json]) -> list[Json]:
    """Records for WriteRecords.

    Args:
        config: The target's TimestreamConfiguration.
        columns: The result's ColumnInfo.
        rows: Its rows.

    Raises:
        AwsError: ValidationException: the mapping names a column that is not there, or of another type.
    """
    kinds = {column["Name"]: column["Type"].get("ScalarType") for column in columns}
    _check(config, kinds)
    made = []
    for row in rows:
        values = {
            column["Name"]: datum.get("ScalarValue")
            for column, datum in zip(columns, row["Data"], strict=True)
        }
        time = values[config["TimeColumn"]]
        if time is None:
            raise AwsError("ValidationException", "A row has no time.")
        common = {
            "Time": str(_nanoseconds(time)),
            "TimeUnit": "NANOSECONDS",
            "Dimensions": [
                {"Name": one["Name"], "Value": values[one["Name"]]}
                for one in config["DimensionMappings"]
                if values[one["Name"]] is not None
            ],
        }
        made += [{**common, **measure} for measure in measures(config, values, _milliseconds)]
    return made


def measures(
    config: Json, values: dict[str, str | None], moment: Callable[[str], str] = str
) -> list[Json]:
    """The measures of a row: one record of several measures, or one for each mapping.

    Args:
        config: A TimestreamConfiguration or a DataModel, whose mappings are alike.
        values: The row, by column.
        moment: Makes the value of a TIMESTAMP of a column's text.
    """
    multi = config.get("MultiMeasureMappings")
    named = config.get("MeasureNameColumn")
    of_row = values[named] if named else None
    if multi:
        # Where there is a column of names, it has the word, as the API's reference says.
        name = of_row if named else multi["TargetMultiMeasureName"]
        return _multi(name, multi["MultiMeasureAttributeMappings"], values, moment)
    made: list[Json] = []
    for mapping in config.get("MixedMeasureMappings") or ():
        if of_row is not None and mapping.get("MeasureName") not in {None, of_row}:
            continue
        target = mapping.get("TargetMeasureName") or mapping.get("MeasureName") or of_row
        if mapping["MeasureValueType"] == "MULTI":
            made += _multi(target, mapping["MultiMeasureAttributeMappings"], values, moment)
            continue
        value = values[mapping["SourceColumn"]]
        if value is not None:
            made.append(
                {
                    "MeasureName": target or mapping["SourceColumn"],
                    "MeasureValueType": mapping["MeasureValueType"],
                    "MeasureValue": moment(value)
                    if mapping["MeasureValueType"] == "TIMESTAMP"
                    else value,
                }
            )
    return made


def _multi(
    name: str | None,
    mappings: list[Json],
    values: dict[str, str | None],
    moment: Callable[[str], str],
) -> list[Json]:
    found = []
    for one in mappings:
        value = values[one["SourceColumn"]]
        if value is None:
            continue
        kind = one["MeasureValueType"]
        found.append(
            {
                "Name": one.get("TargetMultiMeasureAttributeName") or one["SourceColumn"],
                "Type": kind,
                "Value": moment(value) if kind == "TIMESTAMP" else value,
            }
        )
    if not found:
        return []
    return [{"MeasureName": name, "MeasureValueType": "MULTI", "MeasureValues": found}]


def _check(config: Json, kinds: dict[str, str | None]) -> None:
    multi = (config.get("MultiMeasureMappings") or {}).get("MultiMeasureAttributeMappings") or []
    mixed = config.get("MixedMeasureMappings") or []
    asked = [(config["TimeColumn"], "TIMESTAMP")]
    asked += [(one["Name"], "VARCHAR") for one in config["DimensionMappings"]]
    if config.get("MeasureNameColumn"):
        asked.append((config["MeasureNameColumn"], "VARCHAR"))
    for one in (*multi, *(inner for each in mixed
                          for inner in each.get("MultiMeasureAttributeMappings") or ())):  # fmt: skip
        asked.append((one["SourceColumn"], one["MeasureValueType"]))
    asked += [
        (one["SourceColumn"], one["MeasureValueType"]) for one in mixed if one.get("SourceColumn")
    ]
    for column, kind in asked:
        if column not in kinds:
            raise AwsError("ValidationException", f"The query has no column {column}.")
        has = "BIGINT" if kinds[column] == "INTEGER" else kinds[column]
        if has not in {kind, "UNKNOWN"}:
            raise AwsError(
                "ValidationException", f"Column {column} is of type {has}, and is mapped as {kind}."
            )


def _milliseconds(text: str) -> str:
    return str(_nanoseconds(text) // 1_000_000)


def _nanoseconds(text: str) -> int:
    """Nanoseconds since the epoch of a TIMESTAMP's text."""
    whole, _, rest = text.partition(".")
    moment = dt.datetime.strptime(whole, "%Y-%m-%d %H:%M:%S").replace(tzinfo=dt.UTC)
    since = moment - dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
    return (since.days * 86_400 + since.seconds) * 1_000_000_000 + int(rest.ljust(9, "0") or 0)
