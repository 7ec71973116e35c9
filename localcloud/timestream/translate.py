"""From Timestream's syntax tree to DuckDB's SQL.

Everything is on a list of what is served: a statement, a function or a construct that is not
there is refused by name, so that nothing is answered by DuckDB's idea of it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from sqlglot import exp

from localcloud.http import AwsError
from localcloud.timestream.dialect import DURATION
from localcloud.timestream.store import quoted

if TYPE_CHECKING:
    from collections.abc import Callable

    from localcloud.timestream.catalog import Catalog, Table
    from localcloud.timestream.store import Store

# sqlglot's classes of functions that mean the same in DuckDB, after its own translation.
FUNCTIONS: set[type[exp.Expression]] = {
    exp.Abs, exp.AnyValue, exp.ApproxDistinct, exp.ApproxQuantile, exp.ArgMax, exp.ArgMin, exp.Avg,
    exp.BitwiseAnd, exp.BitwiseOr, exp.BitwiseXor, exp.Case, exp.Cast, exp.Ceil, exp.Coalesce,
    exp.Concat, exp.Corr, exp.Count, exp.CountIf, exp.CovarPop, exp.CovarSamp, exp.DateDiff,
    exp.DenseRank, exp.Exists, exp.Exp, exp.Extract, exp.FirstValue, exp.Floor, exp.Greatest, exp.If, exp.Lag,
    exp.LastValue, exp.Lead, exp.Least, exp.Length, exp.Ln, exp.Log, exp.LogicalAnd, exp.LogicalOr,
    exp.Lower, exp.Max, exp.Min, exp.NthValue, exp.Nullif, exp.Pow, exp.PercentRank, exp.Quantile,
    exp.Rank, exp.RegexpLike, exp.Replace, exp.Round, exp.RowNumber, exp.Sign, exp.Sqrt,
    exp.StartsWith, exp.Stddev, exp.StddevPop, exp.StddevSamp, exp.StrPosition, exp.Substring,
    exp.Sum, exp.TimestampTrunc, exp.Trim, exp.Trunc, exp.TryCast, exp.Upper, exp.Variance,
    exp.VariancePop, exp.And, exp.Or, exp.Not, exp.Xor, exp.Reverse, exp.Split, exp.SplitPart,
}  # fmt: skip
NAMED = ("ago", "bin", "from_milliseconds", "from_nanoseconds", "now", "to_milliseconds",
         "to_nanoseconds", "mod", "year", "month", "day", "hour", "minute", "second")  # fmt: skip
_REFUSED: tuple[type[exp.Expression], ...] = (
    exp.Unnest, exp.Lateral, exp.Lambda, exp.Array, exp.Struct, exp.Bracket, exp.Values,
    exp.TableSample, exp.Pivot, exp.Into, exp.Parameter, exp.Placeholder, exp.Command,
)  # fmt: skip
_TYPES: dict[str, str] = {
    "bigint": "BIGINT", "double": "DOUBLE", "boolean": "BOOLEAN", "varchar": "VARCHAR",
    "text": "VARCHAR", "timestamp": "TIMESTAMP_NS", "integer": "INTEGER", "int": "INTEGER",
    "date": "DATE", "smallint": "SMALLINT", "tinyint": "TINYINT", "real": "FLOAT", "float": "FLOAT",
}  # fmt: skip


@dataclass(slots=True)
class Translation:
    """DuckDB SQL, and the stored tables it reads."""

    sql: str
    tables: list[str] = field(default_factory=list)


def translate(tree: exp.Expression, catalog: Catalog, store: Store, now_ns: int) -> Translation:
    """DuckDB SQL for a Timestream query.

    Args:
        tree: The query as `dialect.parse` reads it.
        catalog: Which databases and tables there are.
        store: Which columns they have.
        now_ns: The time that `now()` and `ago()` take, nanoseconds since the epoch.

    Raises:
        AwsError: ValidationException naming a table, column or construct that is not there.
    """
    if not isinstance(tree, exp.Query):
        name = tree.name if isinstance(tree, exp.Command) else type(tree).__name__
        raise refuse(tree, f"statement {name.upper()}")
    tree = tree.copy()
    tables = _resolve_tables(tree, catalog, store)
    _name_columns(tree)
    tree = tree.transform(_Rewriter(now_ns).rewrite)
    return Translation(tree.sql("duckdb"), sorted(set(tables)))


def _name_columns(tree: exp.Query) -> None:
    """Gives expressions without a name the names that Timestream gives them: _col0, _col1 ..."""
    for select in tree.find_all(exp.Select):
        for index, expression in enumerate(list(select.expressions)):
            if not isinstance(expression, exp.Alias | exp.Column | exp.Star) and (
                expression.parent is select
            ):
                expression.replace(exp.alias_(expression.copy(), f"_col{index}", quoted=True))


def refuse(node: exp.Expression, what: str) -> AwsError:
    """The error for something that is not served, with its position where it is known."""
    line, column = node.meta.get("line"), node.meta.get("col")
    where = f"line {line}:{column}: " if line else ""
    return AwsError(
        "ValidationException", f"{where}{what} is not supported by the local Timestream"
    )


def _resolve_tables(tree: exp.Expression, catalog: Catalog, store: Store) -> list[str]:
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
        alias = node.alias or node.name
        node.replace(inner.subquery(alias))
        found.append(table.storage)
    return found


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


class _Rewriter:
    def __init__(self, now_ns: int) -> None:
        self._now = f"make_timestamp_ns({now_ns})"
        self._named: dict[str, Callable[[list[exp.Expression]], str]] = {
            "ago": lambda a: f"make_timestamp_ns({now_ns} - ({_sql(a[0])}))",
            "bin": lambda a: _bin(*a),
            "from_milliseconds": lambda a: (
                f"make_timestamp_ns(CAST({_sql(a[0])} AS BIGINT) * 1000000)"
            ),
            "from_nanoseconds": lambda a: f"make_timestamp_ns(CAST({_sql(a[0])} AS BIGINT))",
            "to_milliseconds": lambda a: f"(epoch_ns({_sql(a[0])}) // 1000000)",
            "to_nanoseconds": lambda a: f"epoch_ns({_sql(a[0])})",
            "now": lambda _: self._now,
            "mod": lambda a: f"(({_sql(a[0])}) % ({_sql(a[1])}))",
            DURATION: lambda a: _sql(a[0]),
        }

    def rewrite(self, node: exp.Expression) -> exp.Expression:
        if isinstance(node, _REFUSED):
            raise refuse(node, f"{type(node).__name__} in {node.sql('trino')[:60]!r}")
        if isinstance(node, exp.Star | exp.Literal):
            return _double(node)
        if isinstance(node, exp.Column) and node.name == "measure_value":
            raise refuse(node, "measure_value without ::type")
        if isinstance(node, exp.CurrentTimestamp):
            return _raw(self._now)
        if isinstance(node, exp.Anonymous):
            return self._call(node)
        if isinstance(node, exp.Add | exp.Sub) and _is_duration(node.expression):
            return self._shift(node)
        if isinstance(node, exp.Cast | exp.TryCast):
            return _cast(node)
        if isinstance(node, exp.Year | exp.Month | exp.Day | exp.Hour | exp.Minute | exp.Second):
            return node
        if isinstance(node, exp.Func) and type(node) not in FUNCTIONS:
            raise refuse(node, f"function {node.sql_name().lower()}")
        return node

    def _shift(self, node: exp.Add | exp.Sub) -> exp.Expression:
        """A time plus or minus a duration."""
        time = _sql(node.this.copy().transform(self.rewrite))
        sign = "+" if isinstance(node, exp.Add) else "-"
        return _raw(
            f"make_timestamp_ns(epoch_ns({time}) {sign} {_sql(node.expression.expressions[0])})"
        )

    def _call(self, node: exp.Anonymous) -> exp.Expression:
        name = str(node.this).lower()
        make = self._named.get(name)
        if make is None:
            raise refuse(node, f"function {name}")
        # The arguments are rewritten first, for they are rendered here.
        arguments = [argument.copy().transform(self.rewrite) for argument in node.expressions]
        try:
            return _raw(make(arguments))
        except (IndexError, TypeError) as error:
            raise AwsError(
                "ValidationException",
                f"function {name} does not take {len(arguments)} arguments",
            ) from error


def _is_duration(node: exp.Expression) -> bool:
    return isinstance(node, exp.Anonymous) and node.this == DURATION


def _sql(node: exp.Expression) -> str:
    text: str = node.sql("duckdb")
    return text


def _raw(sql: str) -> exp.Expression:
    """SQL that no further pass touches."""
    return exp.Var(this=sql)


def _bin(value: exp.Expression, width: exp.Expression) -> str:
    nanoseconds = _sql(width)
    return f"make_timestamp_ns(epoch_ns({_sql(value)}) // ({nanoseconds}) * ({nanoseconds}))"


def _double(node: exp.Expression) -> exp.Expression:
    """A decimal literal as the double that Timestream takes it for; DuckDB wants a percentile bare."""
    if isinstance(node.parent, exp.ApproxQuantile):
        return node
    if isinstance(node, exp.Literal) and not node.is_string and not str(node.this).isdigit():
        return _raw(f"CAST({node.this} AS DOUBLE)")
    return node


def _cast(node: exp.Cast) -> exp.Expression:
    # The precision of a time, which the parser adds to its literals, changes nothing here.
    kind = re.sub(r"^timestamp\(\d\)$", "timestamp", node.to.sql("trino").lower())
    column = node.this
    if isinstance(column, exp.Column) and column.name == "measure_value":
        prefix = f"{quoted(column.table)}." if column.table else ""
        return _raw(prefix + quoted(f"measure_value::{kind}"))
    if kind not in _TYPES:
        raise refuse(node, f"type {kind}")
    node.set("to", exp.DataType.build(_TYPES[kind], dialect="duckdb"))
    return node
