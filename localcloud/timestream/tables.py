"""The tables a query names, and the names of its columns."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlglot import exp

from localcloud.http import AwsError

if TYPE_CHECKING:
    from collections.abc import Callable

    from localcloud.timestream.catalog import Catalog, Table
    from localcloud.timestream.store import Store


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
    found = []
    for node in list(tree.find_all(exp.Table)):
        if not isinstance(node.this, exp.Identifier):
            raise refuse(node, f"table function {node.this.sql('trino')}")
        if not node.db and node.name.lower() in local:
            continue
        table = _table(node, catalog)
        data = store.tables[table.storage]
        # A view of the table without the store's own column, so that `*` shows what AWS shows.
        shown = [column for column in data.columns if not column.startswith("__")]
        inner = exp.select(*[exp.column(column, quoted=True) for column in shown]).from_(
            exp.Table(this=exp.to_identifier(table.storage, quoted=True))
        )
        node.replace(_with_rest(node, inner.subquery(node.alias or node.name), refuse))
        found.append(table.storage)
    return found


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
