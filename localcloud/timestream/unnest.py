"""UNNEST as a derived table: arrays side by side, rows and time series spread over columns."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlglot import exp

from localcloud.timestream.times import sql

if TYPE_CHECKING:
    from collections.abc import Sequence


def derived(node: exp.Unnest, *, series: bool) -> exp.Expression:
    """What stands in the place of an UNNEST whose arguments are rewritten already.

    With as many names as arguments each array is a column. A single argument with more names is an
    array of rows, and of time series there are two names to each. A column without names
    is an array of rows, whose fields are the names; those of a time series are `time` and `value`.

    Args:
        node: The UNNEST.
        series: Whether the arguments are time series as far as can be seen.

    Raises:
        ValueError: the names of columns that are given do not tell how to spread the arguments.
    """
    alias = node.args.get("alias")
    names = [column.sql("duckdb") for column in alias.columns] if alias else []
    ordinal = node.args.get("offset")
    if isinstance(ordinal, exp.Expression):
        names.append(ordinal.sql("duckdb"))
    arguments = [sql(argument) for argument in node.expressions]
    columns = len(names) - bool(ordinal)
    if columns <= 0:
        plain = len(arguments) == 1 and isinstance(node.expressions[0], exp.Column)
        if not (series or plain) or len(arguments) > 1 or ordinal:
            raise ValueError
        if not series:
            # What a column is, is seen when it is read; the fields of its rows are columns then.
            text = f"(SELECT unnest(__rows({arguments[0]}), max_depth := 2)) AS {_name(alias)}"
            return _placed(node, text)
        names, columns = ['"time"', '"value"'], 2
    parts, spread = _spread(arguments, columns)
    inner = ", ".join(f"unnest({argument}) AS u{at}" for at, argument in enumerate(arguments))
    if ordinal:
        # Arrays are padded to the longest, and so is the count of rows.
        lengths = ", ".join(f"len({argument})" for argument in arguments)
        inner += f", unnest(range(1, greatest({lengths}) + 1)) AS o"
        parts.append("o")
    chosen = ", ".join(f"{part} AS {name}" for part, name in zip(parts, names, strict=True))
    if not spread:
        raise ValueError
    text = f"(SELECT {chosen} FROM (SELECT {inner})) AS {_name(alias)}"  # noqa: S608 - rewritten parts
    return _placed(node, text)


def _name(alias: exp.TableAlias | None) -> str:
    return str(alias.this.sql("duckdb")) if alias and alias.this else "u"


def _placed(node: exp.Unnest, text: str) -> exp.Expression:
    lateral = "LATERAL " if isinstance(node.parent, exp.Join) else ""
    return exp.Table(this=exp.Var(this=lateral + text))


def _spread(arguments: Sequence[str], columns: int) -> tuple[list[str], bool]:
    """The expressions of the columns, and whether their number is one that can be told."""
    count = len(arguments)
    if columns == count:
        return [f"u{at}" for at in range(count)], True
    if columns % count == 0 and (count == 1 or columns == 2 * count):
        width = columns // count
        return [
            f"struct_extract_at(u{at // width}, {at % width + 1})" for at in range(columns)
        ], True
    return [], False
