"""Timestream's SQL, read as Trino's after two differences are taken out of the text.

Durations such as `15m` become calls of `__duration(ns)`; what follows is sqlglot's Trino dialect.
"""

from __future__ import annotations

import re

import sqlglot
from sqlglot import exp
from sqlglot.errors import ParseError, TokenError

from localcloud.http import AwsError

DURATION = "__duration"
_UNITS_NS = {
    "ns": 1,
    "us": 1_000,
    "ms": 1_000_000,
    "s": 1_000_000_000,
    "m": 60_000_000_000,
    "h": 3_600_000_000_000,
    "d": 86_400_000_000_000,
}
# Strings, quoted identifiers and comments are passed over; then a number with a unit.
_SCAN = re.compile(
    r"""('(?:[^']|'')*'|"(?:[^"]|"")*"|--[^\n]*|/\*.*?\*/)|(?<![\w.])(\d+)(ns|us|ms|s|m|h|d)\b""",
    re.DOTALL,
)


def parse(sql: str) -> exp.Expression:
    """The syntax tree of one statement.

    Raises:
        AwsError: ValidationException with the position of what cannot be read.
    """
    try:
        statements = sqlglot.parse(_SCAN.sub(_duration, sql), read="trino")
    except ParseError as error:
        first = error.errors[0] if error.errors else {}
        where = f"line {first.get('line', 1)}:{first.get('col', 1)}"
        near = first.get("highlight", "")
        what = first.get("description", "cannot be read").rstrip(".")
        raise AwsError("ValidationException", f"{where}: {what} near '{near}'") from error
    except TokenError as error:
        raise AwsError("ValidationException", f"line 1:1: {error}") from error
    whole = [statement for statement in statements if statement is not None]
    if len(whole) != 1:
        raise AwsError("ValidationException", "line 1:1: exactly one statement is expected")
    return whole[0]


def _duration(match: re.Match[str]) -> str:
    if match.group(1) is not None:
        return match.group(1)
    return f"{DURATION}({int(match.group(2)) * _UNITS_NS[match.group(3)]})"
