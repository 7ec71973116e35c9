"""Timestream's SQL, read as Trino's after durations are taken out of the text.

Durations such as `15m` become calls of `__duration(ns)`. Functions are not interpreted by sqlglot
but for the few that have a syntax of their own: what a name means is decided in `functions.py`.
"""

from __future__ import annotations

import re
from itertools import accumulate
from typing import Any, ClassVar

import sqlglot
from sqlglot import exp
from sqlglot.dialects.trino import Trino
from sqlglot.errors import ParseError, TokenError

from localcloud.http import AwsError

DURATION = "__duration"
UNITS_NS = {
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


class Timestream(Trino):  # type: ignore[misc]
    """Trino's dialect, with all functions left as calls by name."""

    class Parser(Trino.Parser):  # type: ignore[misc]
        """See `Timestream`."""

        FUNCTIONS: ClassVar[dict[str, Any]] = {}
        FUNCTION_PARSERS: ClassVar[dict[str, Any]] = {
            name: parser
            for name, parser in Trino.Parser.FUNCTION_PARSERS.items()
            if name in {"CAST", "TRY_CAST", "EXTRACT", "TRIM", "POSITION", "SUBSTRING"}
        }


def parse(sql: str) -> exp.Expression:
    """The syntax tree of one statement.

    Raises:
        AwsError: ValidationException with the position of what cannot be read.
    """
    unload = re.match(r"\s*UNLOAD\b", sql, re.IGNORECASE)
    if unload:
        where = place(sql, unload.end() - len("UNLOAD"))
        raise AwsError(
            "ValidationException",
            f"{where}: UNLOAD is a statement of its own: it is neither prepared nor scheduled",
        )
    text = _SCAN.sub(_duration, sql)
    try:
        statements = sqlglot.parse(text, read=Timestream)
    except ParseError as error:
        first = error.errors[0] if error.errors else {}
        near = str(first.get("highlight", ""))
        # sqlglot tells where a token ends.
        line, column = int(first.get("line", 1)), int(first.get("col", 1)) - len(near) + 1
        what = first.get("description", "cannot be read").rstrip(".")
        raise AwsError(
            "ValidationException", f"{position(sql, line, column)}: {what} near '{near}'"
        ) from error
    except (TokenError, RecursionError) as error:
        what = str(error) if isinstance(error, TokenError) else "the query is nested too deeply"
        raise AwsError("ValidationException", f"line 1:1: {what}") from error
    whole = [statement for statement in statements if statement is not None]
    if len(whole) != 1:
        raise AwsError("ValidationException", "line 1:1: exactly one statement is expected")
    return whole[0]


def position(sql: str, line: int, column: int) -> str:
    """`line 1:8`, a place in the text that is parsed as a place in what the user wrote."""
    lines = sql.split("\n")
    text = lines[line - 1] if line <= len(lines) else ""
    added = [
        (found.start() + 1, len(_duration(found)) - len(found.group(0)))
        for found in _SCAN.finditer(text)
    ]
    # A duration that comes before moved everything after it.
    before = accumulate((length for _, length in added), initial=0)
    moved = 0
    for (start, _), so_far in zip(added, before, strict=False):
        if start + so_far < column:
            moved = so_far + next(length for at, length in added if at == start)
    return f"line {line}:{max(1, column - moved)}"


def place(sql: str, offset: int) -> str:
    """`line 1:8`, the place of a character of the text."""
    head = sql[:offset]
    return f"line {head.count(chr(10)) + 1}:{offset - head.rfind(chr(10))}"


def _duration(match: re.Match[str]) -> str:
    if match.group(1) is not None:
        return match.group(1)
    return f"{DURATION}({int(match.group(2)) * UNITS_NS[match.group(3)]})"
