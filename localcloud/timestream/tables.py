"""The tables a query names, and the names of its columns."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlglot import exp

from localcloud.http import AwsError
from localcloud.timestream.appending import SERIES, series_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from localcloud.timestream.catalog import Catalog, Table
    from localcloud.timestream.store import Store, TableStore


def name_columns(tree: exp.Query) -> None:
    """Gives expressions without a name the names that Timestream gives them: _col0, _col1 ..."""
    for select in tree.find_all(exp.Select):
        for index, expression in enumerate(list(select.expressions)):
            if not isinstance(expression, exp.Alias | exp.Column | exp.Star) and (
                expression.parent is select
            ):
                name = f"_col{index}"
                if isinstance(expression, exp.Cast) and expression.this.name == "measure_value":
                    name = f"measure_value::{expression.to.sql('trino').lower()}"
                expression.replace(exp.alias_(expression.copy(), name, quoted=True))


def resolve(
    tree: exp.Expression,
    catalog: Catalog,
    store: Store,
    refuse: Callable[[exp.Expression, str], AwsError],
) -> list[str]:
    """Puts what is stored in the place of each table; returns the names of the stored tables.

    Raises:
        AwsError: ValidationException naming a table that is not there.
    """
    local = {cte.alias.lower() for cte in tree.find_all(exp.CTE)}
    named = _named(tree)
    found = []
    for node in list(tree.find_all(exp.Table)):
        if not isinstance(node.this, exp.Identifier):
            raise refuse(node, f"table function {node.this.sql('trino')}")
        if not node.db and node.name.lower() in local:
            continue
        table = _table(node, catalog)
        inner = _stored(table.storage, store.tables[table.storage], named)
        node.replace(_with_rest(node, inner.subquery(node.alias or node.name), refuse))
        found.append(table.storage)
    return found


def _named(tree: exp.Expression) -> set[str] | None:
    """The names that a query says anywhere, in lower case; None where it means others too."""
    if any(join.method == "NATURAL" for join in tree.find_all(exp.Join)):
        return None
    for star in tree.find_all(exp.Star):
        counted = isinstance(star.parent, exp.Anonymous) and star.parent.name.lower() == "count"
        if not counted:
            return None
    return {one.name.lower() for one in tree.find_all(exp.Identifier)}


def _stored(name: str, data: TableStore, named: set[str] | None) -> exp.Select:
    """A table's records, without the columns that are the store's own.

    A query that names no column of series is spared the join of records with them.
    """
    labels = set(data.labels())
    columns = list(data.columns)
    joined = named is None or any(label.lower() in named for label in labels)
    if not joined:
        columns = [column for column in columns if column not in labels]
    chosen = [
        exp.column(column, table="s" if column in labels else "r", quoted=True)
        for column in columns
    ]
    records = exp.select(*chosen).from_(exp.alias_(_identified(name), "r", table=True))
    if not joined:
        return records
    series = exp.alias_(_identified(series_of(name)), "s", table=True)
    return records.join(series, using=SERIES)


def _identified(name: str) -> exp.Table:
    return exp.Table(this=exp.to_identifier(name, quoted=True))


def _with_rest(
    node: exp.Table, inner: exp.Expression, refuse: Callable[[exp.Expression, str], AwsError]
) -> exp.Expression:
    for name in ("joins", "pivots", "sample", "when", "version", "laterals"):
        rest = node.args.get(name)
        if rest and name == "joins":
            inner.set(name, rest)
        elif rest:
            raise refuse(node, {"sample": "TABLESAMPLE"}.get(name, name.upper()))
    return inner


def _table(node: exp.Table, catalog: Catalog) -> Table:
    if not node.db:
        raise AwsError(
            "ValidationException",
            f'table {node.name} has no database: write "database"."{node.name}"',
        )
    database = catalog.databases.get(node.db)
    table = database.tables.get(node.name) if database else None
    if table is None or node.catalog:
        what = f"Table '{node.db}.{node.name}'" if database else f"Database '{node.db}'"
        raise AwsError("ValidationException", f"{what} does not exist.")
    return table
