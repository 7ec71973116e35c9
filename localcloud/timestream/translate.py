"""From Timestream's syntax tree to DuckDB's SQL.

Everything is on a list of what is served: a statement, a function or a construct that is not
there is refused by name, so that nothing is answered by DuckDB's idea of it. The tree is rewritten
from its leaves: when a call is reached, its arguments are DuckDB's already.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from decimal import Decimal
from functools import partial
from typing import TYPE_CHECKING

from sqlglot import exp

from localcloud.http import AwsError
from localcloud.timestream import times, unnest
from localcloud.timestream.appending import quoted
from localcloud.timestream.dialect import DURATION, UNITS_NS, place, position
from localcloud.timestream.functions import ANY, FUNCTIONS, GATHERING
from localcloud.timestream.macros import CAST, TYPED
from localcloud.timestream.tables import name_columns, resolve
from localcloud.timestream.times import sql as _sql

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from localcloud.timestream.catalog import Catalog
    from localcloud.timestream.store import Store

# Constructs with a syntax of their own, which sqlglot reads as functions.
_SYNTAX: tuple[type[exp.Expression], ...] = (
    exp.All, exp.And, exp.Any, exp.Array, exp.Case, exp.Cast, exp.CurrentDate, exp.CurrentTime,
    exp.CurrentTimestamp, exp.Exists, exp.Extract, exp.If, exp.Localtime, exp.Localtimestamp, exp.Not,
    exp.Or, exp.StrPosition, exp.Substring, exp.Trim, exp.TryCast, exp.Unnest, exp.Anonymous,
)  # fmt: skip
_REFUSED: dict[type[exp.Expression], str] = {
    exp.TableSample: "TABLESAMPLE", exp.Pivot: "PIVOT", exp.Into: "INTO", exp.Command: "the statement",
    exp.Lateral: "LATERAL", exp.MatchRecognize: "MATCH_RECOGNIZE", exp.Parameter: "a parameter",
    exp.Placeholder: "a parameter", exp.AtTimeZone: "AT TIME ZONE", exp.SessionParameter: "a parameter",
    exp.ParseJSON: "a JSON literal",
}  # fmt: skip
_TYPES: dict[str, str] = {
    "bigint": "BIGINT", "double": "DOUBLE", "boolean": "BOOLEAN", "varchar": "VARCHAR", "json": "JSON",
    "text": "VARCHAR", "timestamp": "TIMESTAMP_NS", "integer": "INTEGER", "int": "INTEGER",
    "date": "DATE", "time": "TIME", "smallint": "SMALLINT", "tinyint": "TINYINT", "real": "FLOAT",
    "float": "FLOAT",
}  # fmt: skip
# `__divide` repeats its operands: so deep may it stand in itself before an operand is computed first.
_DIVISIONS = 2
_SERIES = re.compile(r'^(__rebuilt|__interpolate_|__derivative|__rising|list\(struct_pack\("time")')


@dataclass(slots=True)
class Translation:
    """DuckDB SQL, and the stored tables it reads."""

    sql: str
    tables: list[str] = field(default_factory=list)


def translate(
    tree: exp.Expression, catalog: Catalog, store: Store, now_ns: int, text: str = ""
) -> Translation:
    """DuckDB SQL for a Timestream query.

    Args:
        tree: The query as `dialect.parse` reads it.
        catalog: Which databases and tables there are.
        store: Which columns they have.
        now_ns: The time that `now()` and `ago()` take, nanoseconds since the epoch.
        text: The query as it was written, for positions in errors.

    Raises:
        AwsError: ValidationException naming a table, column or construct that is not there.
    """
    refuse_ = partial(refuse, text=text)
    if not isinstance(tree, exp.Query | exp.Values):
        name = tree.name if isinstance(tree, exp.Command) else type(tree).__name__
        raise refuse_(tree, f"statement {name.upper()}")
    tree = tree.copy()
    if isinstance(tree, exp.Values):
        width = len(tree.expressions[0].expressions)
        tree.set("alias", exp.TableAlias(
            this=exp.to_identifier("v"),
            columns=[exp.to_identifier(f"_col{at}") for at in range(width)],
        ))  # fmt: skip
        tree = exp.select("*").from_(tree)
    tables = resolve(tree, catalog, store, refuse_)
    name_columns(tree)
    rewriter = _Rewriter(now_ns, text)
    # Leaves first: what is above sees its parts rewritten.
    for node in reversed(list(tree.walk())):
        new = rewriter.rewrite(node)
        if new is not node:
            node.replace(new)
    return Translation(_sql(tree), sorted(set(tables)))


def refuse(node: exp.Expression, what: str, text: str = "") -> AwsError:
    """The error for something that is not served, with its position where it is known."""
    where = _position(node, what, text)
    return AwsError(
        "ValidationException", f"{where}{what} is not supported by the local Timestream"
    )


def _position(node: exp.Expression, what: str, text: str) -> str:
    """`line 1:8: `, where a construct begins: its own place, its word's, or that of a part of it."""
    written = re.split(" of | without ", what)[0].replace("a parameter ", "@")
    word = re.search(rf"(?<!\w){re.escape(written)}\b", text, re.IGNORECASE)
    if not node.meta.get("line") and word:
        return f"{place(text, word.start())}: "
    for one in node.walk():
        line, column = one.meta.get("line"), one.meta.get("col")
        if line:
            column -= one.meta.get("end", 0) - one.meta.get("start", 0)
            return f"{position(text, line, column)}: "
    return ""


class _Rewriter:
    def __init__(self, now_ns: int, text: str) -> None:
        self._now = f"make_timestamp_ns({now_ns})"
        self._text = text
        self._times = times.functions(now_ns)
        self._names = 0

    def rewrite(self, node: exp.Expression) -> exp.Expression:
        """What DuckDB has for a node whose parts are rewritten."""
        for kind, name in _REFUSED.items():
            if isinstance(node, kind):
                named = isinstance(node, exp.Parameter | exp.Command)
                raise self._refuse(node, f"{name} {node.name}" if named else name)
        if isinstance(node, exp.Func) and not isinstance(node, _SYNTAX):
            raise self._refuse(node, f"function {node.sql_name().lower()}")
        method = getattr(self, f"_on_{type(node).__name__.lower()}", None)
        return node if method is None else method(node)

    def _refuse(self, node: exp.Expression, what: str) -> AwsError:
        return refuse(node, what, self._text)

    def _on_column(self, node: exp.Column) -> exp.Expression:
        if node.name.lower() == "measure_value" and not isinstance(node.parent, exp.Cast):
            raise self._refuse(node, "measure_value without ::type")
        return node

    def _on_literal(self, node: exp.Literal) -> exp.Expression:
        """A decimal as the double that Timestream takes it for; DuckDB wants a percentile bare."""
        if node.is_string or str(node.this).isdecimal():
            return node
        around = node.parent.parent if isinstance(node.parent, exp.Array) else node.parent
        if isinstance(around, exp.Anonymous) and str(around.this).lower() == "approx_percentile":
            return node
        return _raw(f"CAST({node.this} AS DOUBLE)", double=True)

    def _on_currenttimestamp(self, _: exp.Expression) -> exp.Expression:
        return _raw(self._now)

    _on_localtimestamp = _on_currenttimestamp

    def _on_currenttime(self, _: exp.Expression) -> exp.Expression:
        return _raw(f"CAST(CAST({self._now} AS TIMESTAMP) AS TIME)")

    _on_localtime = _on_currenttime

    def _on_currentdate(self, _: exp.Expression) -> exp.Expression:
        return _raw(f"CAST({self._now} AS DATE)")

    def _on_add(self, node: exp.Binary) -> exp.Expression:
        return self._sum(node, 1)

    def _on_sub(self, node: exp.Binary) -> exp.Expression:
        return self._sum(node, -1)

    def _sum(self, node: exp.Binary, sign: int) -> exp.Expression:
        left, right = times.duration_ns(node.this), times.duration_ns(node.expression)
        if left is not None and right is not None:
            return exp.Anonymous(
                this=DURATION, expressions=[exp.Literal.number(left + sign * right)]
            )
        if right is not None and not _is_interval(node.this):
            return self._typed(lambda time: times.shifted(time, node.expression, sign), [node.this])
        if left is not None and sign > 0 and not _is_interval(node.expression):
            return self._typed(lambda time: times.shifted(time, node.this, sign), [node.expression])
        return node

    def _on_div(self, node: exp.Div) -> exp.Expression:
        """A double divided by zero is infinite or NaN; of whole numbers it is an error.

        DuckDB's // errs with both, and its / makes doubles of whole numbers. Where no operand is
        seen to be a double, `__divide` picks by their types.
        """
        parts = [node.this, node.expression]
        if any(_is_double(part) for part in parts):
            new = self._raw_of(parts, _filled('"/"({0}, {1})', *parts))
            new.meta["double"] = True
            return new
        costly = [_divisions(part) >= _DIVISIONS or "(SELECT" in _sql(part) for part in parts]
        make = partial(_filled, "__divide({0}, {1})")
        new = self._raw_of(parts, self._computed_once(make, parts, costly))
        deep = [_divisions(part) for part, once in zip(parts, costly, strict=True) if not once]
        new.meta["divisions"] = max(deep, default=0) + 1
        return new

    def _on_bracket(self, node: exp.Bracket) -> exp.Expression:
        index = node.expressions[0]
        if isinstance(index, exp.Literal) and not index.is_string:
            # sqlglot counts from zero.
            return self._raw_of(
                [node.this], f"__subscript({_sql(node.this)}, {int(index.name) + 1})"
            )
        return self._raw_of([node.this, index], f"({_sql(node.this)})[{_sql(index)}]")

    def _on_lambda(self, node: exp.Lambda) -> exp.Expression:
        names = ", ".join(_sql(one) for one in node.expressions)
        return _raw(f"lambda {names}: {_sql(node.this)}", fn=True)

    def _on_extract(self, node: exp.Extract) -> exp.Expression:
        return self._call(node, node.name.lower(), [node.expression])

    def _on_unnest(self, node: exp.Unnest) -> exp.Expression:
        series = all(_SERIES.match(_sql(one)) for one in node.expressions)
        try:
            return unnest.derived(node, series=series)
        except ValueError as error:
            raise self._refuse(node, "UNNEST without a name for each column") from error

    def _on_filter(self, node: exp.Filter) -> exp.Expression:
        if node.this.meta.get("compound"):
            raise self._refuse(node, f"FILTER of {node.this.meta['compound']}")
        return node

    def _on_window(self, node: exp.Window) -> exp.Expression:
        if node.this.meta.get("compound"):
            raise self._refuse(node, f"OVER of {node.this.meta['compound']}")
        return node

    def _on_ignorenulls(self, node: exp.IgnoreNulls) -> exp.Expression:
        # DuckDB has it inside of the parentheses.
        text = _sql(node.this)
        return _raw(f"{text[:-1]} IGNORE NULLS)", gathering=True)

    def _on_anonymous(self, node: exp.Anonymous) -> exp.Expression:
        if node.this == DURATION:
            return node
        quantifier = {"all": exp.All, "some": exp.Any}.get(str(node.this).lower())
        if quantifier and isinstance(node.expressions[0], exp.Values):
            return quantifier(this=exp.Subquery(this=node.expressions[0]))
        return self._call(node, str(node.this).lower(), list(node.expressions))

    def _call(
        self, node: exp.Expression, name: str, arguments: list[exp.Expression]
    ) -> exp.Expression:
        count = len(arguments)
        make: Callable[..., str]
        compound = False
        if name in times.NAMES:
            make = self._times[name]
        else:
            templates = FUNCTIONS.get(name)
            if templates is None:
                raise self._refuse(node, f"function {name}")
            template = templates.get(count, templates.get(ANY))
            if count == 1 and isinstance(arguments[0], exp.Star) and name == "count":
                template = templates[0]
            if template is None or (count == 0 and 0 not in templates):
                raise self._wrong(node, name, count)
            compound = template.startswith("~")
            make = partial(_filled, template)
        if name == "parse_duration" and isinstance(arguments[0], exp.Literal):
            return self._duration_of(arguments[0])
        try:
            new = self._typed(make, arguments)
        except TypeError as error:
            raise self._wrong(node, name, count) from error
        new.meta["gathering"] = new.meta.get("gathering") or name in GATHERING
        new.meta["compound"] = name if compound else None
        new.meta["date"] = name in {"date", "from_iso8601_date", "last_day_of_month"}
        return new

    def _wrong(self, node: exp.Expression, name: str, count: int) -> AwsError:
        where = _position(node, name, self._text)
        return AwsError(
            "ValidationException", f"{where}function {name} does not take {count} arguments"
        )

    @staticmethod
    def _duration_of(text: exp.Literal) -> exp.Expression:
        found = re.fullmatch(r"(\d+(?:\.\d+)?)(ns|us|ms|s|m|h|d)", text.name)
        if found is None:
            raise AwsError("ValidationException", f"duration is not valid: {text.name}")
        length = int(Decimal(found.group(1)) * UNITS_NS[found.group(2)])
        return exp.Anonymous(this=DURATION, expressions=[exp.Literal.number(length)])

    def _typed(
        self, make: Callable[..., str], arguments: Sequence[exp.Expression]
    ) -> exp.Expression:
        """A call; where DuckDB picks the macro by type, aggregates become parameters of a lambda.

        DuckDB reads a macro before it knows the type of an aggregate, and a lambda afterwards.
        """
        text = make(*arguments)
        gathers = [_gathers(one) for one in arguments]
        if any(gathers) and any(name in text for name in TYPED):
            text = self._computed_once(make, arguments, gathers)
        return self._raw_of(arguments, text)

    def _computed_once(
        self, make: Callable[..., str], arguments: Sequence[exp.Expression], chosen: Sequence[bool]
    ) -> str:
        """A call whose chosen arguments are parameters of a lambda."""
        names: list[tuple[str, str]] = []
        inner: list[exp.Expression] = []
        for one, once in zip(arguments, chosen, strict=True):
            if once:
                self._names += 1
                names.append((f"__e{self._names}", _sql(one)))
                inner.append(exp.Var(this=names[-1][0]))
            else:
                inner.append(one)
        text = make(*inner)
        for name, value in reversed(names):
            text = f"list_transform([{value}], lambda {name}: {text})[1]"
        return text

    @staticmethod
    def _raw_of(parts: Sequence[exp.Expression], text: str) -> exp.Expression:
        deep = max(map(_divisions, parts), default=0)
        return _raw(text, gathering=any(_gathers(part) for part in parts), divisions=deep)

    def _on_cast(self, node: exp.Cast) -> exp.Expression:
        column = node.this
        if isinstance(column, exp.Column) and column.name.lower() == "measure_value":
            prefix = f"{quoted(column.table)}." if column.table else ""
            return _raw(prefix + quoted(f"measure_value::{self._type(node.to).lower()}"
                        .replace("timestamp_ns", "timestamp")))  # fmt: skip
        kind = self._type(node.to)
        cast = "TRY_CAST" if isinstance(node, exp.TryCast) else "CAST"
        if kind == "VARCHAR" and not isinstance(column, exp.Literal):
            return self._raw_of([column], f"__text({_sql(column)})")
        if kind == "JSON":
            return self._raw_of([column], f"to_json({_sql(column)})")
        if kind in CAST and not isinstance(column, exp.Null):
            text = f"{CAST[kind]}({_sql(column)})"
            return self._raw_of([column], f"try({text})" if cast == "TRY_CAST" else text)
        new = self._raw_of([column], f"{cast}({_sql(column)} AS {kind})")
        new.meta["date"] = kind == "DATE"
        return new

    _on_trycast = _on_cast

    def _type(self, kind: exp.DataType) -> str:
        """DuckDB's name of a type."""
        if kind.is_type(exp.DataType.Type.ARRAY):
            return f"{self._type(kind.expressions[0])}[]"
        if kind.is_type(exp.DataType.Type.STRUCT):
            fields = [
                (one.this.sql("duckdb"), self._type(one.args["kind"]))
                if isinstance(one, exp.ColumnDef)
                else (f'"field{at}"', self._type(one))
                for at, one in enumerate(kind.expressions)
            ]
            return "STRUCT(" + ", ".join(f"{name} {of}" for name, of in fields) + ")"
        # The precision of a time, which the parser adds to its literals, changes nothing here.
        name = re.sub(r"^(timestamp|time|varchar)\(\d+\)$", r"\1", kind.sql("trino").lower())
        if name not in _TYPES:
            raise self._refuse(kind, f"type {name}")
        return _TYPES[name]


def _gathers(node: exp.Expression) -> bool:
    return any(one.meta.get("gathering") or isinstance(one, exp.Window) for one in node.walk())


def _divisions(node: exp.Expression) -> int:
    """How deep `__divide` stands in itself in an expression."""
    return max(one.meta.get("divisions") or 0 for one in node.walk())


def _is_double(node: exp.Expression) -> bool:
    """Whether an expression is a double as far as can be seen."""
    return bool(node.unnest().meta.get("double"))


def _is_interval(node: exp.Expression) -> bool:
    return isinstance(node, exp.Interval) or "to_microseconds(" in _sql(node.copy())


def _filled(template: str, *arguments: exp.Expression) -> str:
    texts = [_sql(argument) for argument in arguments]
    template = template.removeprefix("~")
    if template.startswith("fold:"):
        name, whole = template.removeprefix("fold:"), texts[0]
        for text in texts[1:]:
            whole = f"{name}({whole}, {text})"
        return whole
    if template.startswith(("greatest:", "least:")):
        name = template.split(":", 1)[0]
        known = " AND ".join(f"{text} IS NOT NULL" for text in texts)
        return f"CASE WHEN {known} THEN {name}({', '.join(texts)}) END"
    return re.sub(
        r"\{(\d|args)\}",
        lambda place: ", ".join(texts) if place[1] == "args" else texts[int(place[1])],
        template,
    )


def _raw(text: str, **meta: object) -> exp.Expression:
    """SQL that no further pass touches."""
    var = exp.Var(this=text)
    var.meta.update(meta)
    return var
