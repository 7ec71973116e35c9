"""SHOW DATABASES, TABLES and MEASURES, and DESCRIBE."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pyarrow as pa

from localcloud.http import AwsError
from localcloud.timestream.store import SQL_TYPES

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from localcloud.timestream.catalog import Catalog, Table
    from localcloud.timestream.store import Store

_NAME = r'(?:"(?:[^"]|"")*"|[\w-]+)'
_SHOW = re.compile(
    rf"^\s*(?:SHOW\s+(?P<what>DATABASES|TABLES|MEASURES)(?:\s+(?:FROM|IN)\s+(?P<from>{_NAME}(?:\.{_NAME})?))?"
    rf"(?:\s+LIKE\s+'(?P<like>[^']*)')?|(?:DESCRIBE|DESC)\s+(?P<table>{_NAME}(?:\.{_NAME})?))\s*;?\s*$",
    re.IGNORECASE,
)
_TYPES = {kind: name.lower() for name, kind in SQL_TYPES.items()}
_DIMENSIONS = pa.list_(pa.struct([("dimension_name", pa.string()), ("data_type", pa.string())]))


def shown(sql: str, catalog: Catalog, store: Store) -> pa.Table | None:
    """The result of a statement that tells what there is, or None where it is another statement.

    Raises:
        AwsError: ValidationException: there is no such database or table.
    """
    asked = _SHOW.match(sql)
    if asked is None:
        return None
    if asked.group("table"):
        return _describe(_table(asked.group("table"), "DESCRIBE", catalog), store)
    what = asked.group("what").upper()
    like = _like(asked.group("like"))
    source = asked.group("from") or ""
    if what == "DATABASES":
        return _names("Database", filter(like, sorted(catalog.databases)))
    if what == "TABLES":
        chosen = [_database(source, catalog)] if source else sorted(catalog.databases)
        names = [name for one in chosen for name in sorted(catalog.databases[one].tables)]
        return _names("Table", filter(like, names))
    return _measures(_table(source, "SHOW MEASURES FROM", catalog), store, like)


def _measures(table: Table, store: Store, like: Callable[[str], bool]) -> pa.Table:
    data = store.tables[table.storage]
    names, kinds, dimensions = [], [], []
    for name, columns in sorted(data.measures.items()):
        if not like(name):
            continue
        single = next((one for one in columns if one.startswith("measure_value::")), None)
        names.append(name)
        kinds.append(columns[single].lower() if single else "multi")
        labels = {key for series in data.by_number if series.labels["measure_name"] == name
                  for key in series.labels}  # fmt: skip
        dimensions.append(
            [
                {"dimension_name": one, "data_type": "varchar"}
                for one in data.dimensions
                if one in labels
            ]
        )
    return pa.table(
        {
            "measure_name": pa.array(names, pa.string()),
            "data_type": pa.array(kinds, pa.string()),
            "dimensions": pa.array(dimensions, _DIMENSIONS),
        }
    )


def _describe(table: Table, store: Store) -> pa.Table:
    data = store.tables[table.storage]
    columns = [(name, kind) for name, kind in data.columns.items() if not name.startswith("__")]
    roles = {"time": "TIMESTAMP", "measure_name": "MEASURE_NAME"}
    return pa.table(
        {
            "Column": [name for name, _ in columns],
            "Type": [_TYPES[kind] for _, kind in columns],
            "Timestream attribute type": [
                roles.get(name, "DIMENSION" if name in data.dimensions else "MEASURE_VALUE")
                for name, _ in columns
            ],
        }
    )


def _names(column: str, names: Iterable[str]) -> pa.Table:
    return pa.table({column: pa.array(list(names), pa.string())})


def _parts(source: str) -> list[str]:
    return [part[1:-1].replace('""', '"') if part.startswith('"') else part
            for part in re.findall(_NAME, source)]  # fmt: skip


def _database(source: str, catalog: Catalog) -> str:
    name = _parts(source)[0]
    if name not in catalog.databases:
        raise AwsError("ValidationException", f"Database '{name}' does not exist.")
    return name


def _table(source: str, statement: str, catalog: Catalog) -> Table:
    parts = _parts(source)
    if len(parts) != 2:  # noqa: PLR2004 - database and table
        raise AwsError("ValidationException", f'write {statement} "database"."table"')
    database = catalog.databases.get(parts[0])
    table = database.tables.get(parts[1]) if database else None
    if table is None:
        what = f"Table '{'.'.join(parts)}'" if database else f"Database '{parts[0]}'"
        raise AwsError("ValidationException", f"{what} does not exist.")
    return table


def _like(pattern: str | None) -> Callable[[str], bool]:
    if pattern is None:
        return lambda _: True
    shape = "".join(
        ".*" if char == "%" else "." if char == "_" else re.escape(char) for char in pattern
    )
    return lambda text: re.fullmatch(shape, text) is not None
