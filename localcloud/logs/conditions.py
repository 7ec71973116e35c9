"""Comparisons in filter patterns: with texts, wildcards, numbers and regular expressions."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from localcloud.http import AwsError

if TYPE_CHECKING:
    from collections.abc import Callable

    Test = Callable[[Any], bool]

OPERATORS = ("!=", ">=", "<=", "=", ">", "<")
_NUMBER = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+)?")
_REGEX = re.compile(r"[\w:#=@/;,\-^$?\[\]{}|\\*+.\s]*", re.ASCII)


def invalid(message: str) -> AwsError:
    """The refusal of a pattern."""
    return AwsError("InvalidParameterException", f"Invalid metric filter pattern: {message}")


def number(value: Any) -> float | None:
    """A number, or a text that is one; None for all else."""
    if isinstance(value, bool):
        return None
    if isinstance(value, int | float):
        return float(value)
    if isinstance(value, str) and _NUMBER.fullmatch(value):
        return float(value)
    return None


def text(value: Any) -> str:
    """A JSON scalar as patterns see it."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return "null" if value is None else str(value)


def regex(expression: str) -> re.Pattern[str]:
    """The expression between percent signs, of the operators that CloudWatch Logs has."""
    if not _REGEX.fullmatch(expression):
        raise invalid(f"%{expression}% has characters that expressions may not have")
    try:
        return re.compile(expression, re.ASCII)
    except re.error as error:
        raise invalid(f"%{expression}%: {error}") from error


def comparison(operator: str, operand: str) -> Test:
    """A test of scalars: operator and operand as they stand in the pattern."""
    if operator in {"=", "!="}:
        equal = _equality(operand)
        return equal if operator == "=" else lambda value: not equal(value)
    bound = number(operand)
    if bound is None:
        raise invalid(f"{operator} compares with numbers, not with {operand}")
    compare: dict[str, Callable[[float], bool]] = {
        ">": lambda value: value > bound,
        ">=": lambda value: value >= bound,
        "<": lambda value: value < bound,
        "<=": lambda value: value <= bound,
    }
    chosen = compare[operator]

    def test(value: Any) -> bool:
        given = number(value)
        return given is not None and chosen(given)

    return test


def _equality(operand: str) -> Test:
    if len(operand) > 1 and operand[0] == operand[-1] == "%":
        expression = regex(operand[1:-1])
        return lambda value: expression.search(text(value)) is not None
    quoted = len(operand) > 1 and operand[0] == operand[-1] == '"'
    wanted = unquote(operand) if quoted else operand
    as_number = None if quoted else number(operand)
    if as_number is not None:
        return lambda value: number(value) == as_number
    # An asterisk stands for any text where it begins or ends the operand, nowhere else.
    front, back = wanted.startswith("*"), wanted.endswith("*")
    middle = wanted.strip("*") if front or back else wanted
    if front and back:
        return lambda value: middle in text(value)
    if front:
        return lambda value: text(value).endswith(middle)
    if back:
        return lambda value: text(value).startswith(middle)
    return lambda value: text(value) == wanted


def unquote(quoted: str) -> str:
    """The text between quotation marks, with backslashes undone."""
    return re.sub(r"\\(.)", r"\1", quoted[1:-1])
