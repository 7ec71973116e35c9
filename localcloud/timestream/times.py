"""Functions and operators with durations, units of time and formats of dates.

A duration stays nanoseconds as long as it is written out in the query; anywhere else it is DuckDB's
INTERVAL, which has microseconds.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from sqlglot import exp

from localcloud.http import AwsError
from localcloud.timestream.dialect import DURATION, UNITS_NS

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

_UNITS = {
    "nanosecond": 1, "microsecond": 1_000, "millisecond": 1_000_000, "second": UNITS_NS["s"],
    "minute": UNITS_NS["m"], "hour": UNITS_NS["h"], "day": UNITS_NS["d"], "week": 7 * UNITS_NS["d"],
}  # fmt: skip
_MONTHS = {"month": 1, "quarter": 3, "year": 12}
# MySQL's letters of a format, for strftime.
_MYSQL = {
    "a": "%a", "b": "%b", "c": "%-m", "d": "%d", "e": "%-d", "f": "%f", "H": "%H", "h": "%I",
    "I": "%I", "i": "%M", "j": "%j", "k": "%-H", "l": "%-I", "M": "%B", "m": "%m", "p": "%p",
    "r": "%I:%M:%S %p", "S": "%S", "s": "%S", "T": "%H:%M:%S", "v": "%V", "W": "%A", "Y": "%Y",
    "y": "%y", "%": "%%",
}  # fmt: skip
# Joda's, by letter and how often it stands.
_JODA = {
    "y": {2: "%y", 4: "%Y"}, "Y": {2: "%y", 4: "%Y"}, "M": {1: "%-m", 2: "%m", 3: "%b", 4: "%B"},
    "d": {1: "%-d", 2: "%d"}, "H": {1: "%-H", 2: "%H"}, "h": {1: "%-I", 2: "%I"},
    "m": {1: "%-M", 2: "%M"}, "s": {1: "%-S", 2: "%S"}, "S": {3: "%g", 6: "%f", 9: "%n"},
    "a": {1: "%p"}, "E": {3: "%a", 4: "%A"}, "D": {3: "%j"},
}  # fmt: skip


def duration_ns(node: exp.Expression) -> int | None:
    """Nanoseconds of a duration that is written out, or None."""
    if isinstance(node, exp.Paren):
        return duration_ns(node.this)
    if isinstance(node, exp.Neg):
        inner = duration_ns(node.this)
        return None if inner is None else -inner
    if isinstance(node, exp.Anonymous) and node.this == DURATION:
        return int(node.expressions[0].name)
    if isinstance(node, exp.Interval) and isinstance(node.this, exp.Literal):
        unit = node.args.get("unit")
        scale = _UNITS.get(unit.name.lower()) if isinstance(unit, exp.Var) else None
        if scale and re.fullmatch(r"-?\d+", node.this.name):
            return int(node.this.name) * scale
    return None


def nanoseconds(node: exp.Expression) -> str:
    """SQL for the nanoseconds of a duration."""
    written = duration_ns(node)
    return f"epoch_ns({sql(node)})" if written is None else str(written)


def sql(node: exp.Expression) -> str:
    """A rewritten expression as DuckDB's text."""
    if duration_ns(node) is not None and not isinstance(node, exp.Interval):
        return f"to_microseconds({duration_ns(node)} // 1000)"
    inner = [one for one in node.find_all(exp.Anonymous) if one.this == DURATION]
    for one in inner:
        one.replace(exp.Var(this=sql(one)))
    text: str = node.sql("duckdb")
    return text


def is_date(node: exp.Expression) -> bool:
    """Whether an expression is a DATE as far as can be seen."""
    return bool(node.meta.get("date"))


def functions(now_ns: int) -> dict[str, Callable[..., str]]:
    """SQL for each function of this module, by name; they raise TypeError at a wrong call."""

    def ago(length: exp.Expression) -> str:
        return f"make_timestamp_ns({now_ns} - ({nanoseconds(length)}))"

    return {
        "ago": ago,
        "now": lambda: f"make_timestamp_ns({now_ns})",
        "bin": _bin,
        "date_add": _date_add,
        "date_diff": _date_diff,
        "date_trunc": _date_trunc,
        "date_format": lambda time, form: f"strftime({sql(time)}, {_format(form, _mysql)})",
        "date_parse": lambda text, form: (
            f"CAST(strptime({sql(text)}, {_format(form, _mysql)}) AS TIMESTAMP_NS)"
        ),
        "format_datetime": lambda time, form: f"strftime({sql(time)}, {_format(form, _joda)})",
        "parse_datetime": lambda text, form: (
            f"CAST(strptime({sql(text)}, {_format(form, _joda)}) AS TIMESTAMP_NS)"
        ),
        "parse_duration": lambda text: f"to_microseconds(__duration_ns({sql(text)}) // 1000)",
        "to_milliseconds": lambda what: f"({_since(what)} // 1000000)",
        "to_nanoseconds": _since,
        "derivative_linear": lambda series, of: f"__derivative({sql(series)}, {nanoseconds(of)})",
        "non_negative_derivative_linear": lambda series, of: (
            f"__rising({sql(series)}, {nanoseconds(of)})"
        ),
        "integral_trapezoidal": lambda series, *of: (
            f"__integral({sql(series)}, {_only(of, '1000000000')})"
        ),
    }


def shifted(time: exp.Expression, length: exp.Expression, sign: int) -> str:
    """SQL for a time plus (1) or minus (-1) a duration that is written out."""
    return f"__shift({sql(time)}, {sign * (duration_ns(length) or 0)})"


def _only(given: Sequence[exp.Expression], default: str) -> str:
    if len(given) > 1:
        raise TypeError
    return nanoseconds(given[0]) if given else default


def _since(what: exp.Expression) -> str:
    written = duration_ns(what)
    return f"epoch_ns({sql(what)})" if written is None else f"CAST({written} AS BIGINT)"


def _bin(value: exp.Expression, width: exp.Expression) -> str:
    length = nanoseconds(width)
    return f"make_timestamp_ns(epoch_ns({sql(value)}) // ({length}) * ({length}))"


def _text(node: exp.Expression, what: str) -> str:
    if not isinstance(node, exp.Literal) or not node.is_string:
        raise AwsError("ValidationException", f"{what} must be written out as a text")
    return str(node.name)


def _unit(node: exp.Expression) -> str:
    unit = _text(node, "the unit of time").lower()
    if unit not in {*_UNITS, *_MONTHS}:
        raise AwsError("ValidationException", f"'{unit}' is not a valid TIMESTAMP field")
    return unit


def _date_add(unit: exp.Expression, count: exp.Expression, time: exp.Expression) -> str:
    name = _unit(unit)
    if name in _MONTHS:
        return f"__months({sql(time)}, ({sql(count)}) * {_MONTHS[name]})"
    return f"__shift({sql(time)}, ({sql(count)}) * {_UNITS[name]})"


def _date_diff(unit: exp.Expression, start: exp.Expression, end: exp.Expression) -> str:
    name = _unit(unit)
    if name in _MONTHS:
        return f"date_sub('{name}', CAST({sql(start)} AS TIMESTAMP), CAST({sql(end)} AS TIMESTAMP))"
    between = f"(epoch_ns({sql(end)}) - epoch_ns({sql(start)}))"
    # Whole units, towards zero.
    return f"(({between} - {between} % {_UNITS[name]}) // {_UNITS[name]})"


def _date_trunc(unit: exp.Expression, time: exp.Expression) -> str:
    name = _unit(unit)
    if name == "nanosecond":
        return sql(time)
    return f"__trunc_time('{name}', {sql(time)})"


def _format(node: exp.Expression, translate: Callable[[str], str]) -> str:
    return "'" + translate(_text(node, "the format")).replace("'", "''") + "'"


def _mysql(form: str) -> str:
    def one(match: re.Match[str]) -> str:
        letter = match.group(1)
        if letter not in _MYSQL:
            raise AwsError("ValidationException", f"%{letter} not supported in date format string")
        return _MYSQL[letter]

    return re.sub(r"%(.)", one, form)


def _joda(form: str) -> str:
    def one(match: re.Match[str]) -> str:
        if match.group("text") is not None:
            return match.group("text").replace("%", "%%") or "'"
        if match.group("letter") is None:
            return match.group(0).replace("%", "%%")
        known = _JODA.get(match.group("letter"), {}).get(len(match.group(0)))
        if known is None:
            raise AwsError("ValidationException", f"Illegal pattern component: {match.group(0)}")
        return known

    return re.sub(r"'(?P<text>[^']*)'|(?P<letter>[A-Za-z])(?P=letter)*|.", one, form)


NAMES = frozenset(functions(0))
