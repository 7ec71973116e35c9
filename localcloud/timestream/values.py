"""Values of measures, from the texts in which WriteRecords has them: one by one, or many of a type.

Both ways have the same rules. The first says what is wrong with a value, the second is fast.
"""

from __future__ import annotations

import math
import re
from typing import Any

import orjson

from localcloud.http import AwsError
from localcloud.timestream.store import SQL_TYPES

MAX_VALUE_BYTES = 2048
MAX_VERSION = 2**63 - 1
_INTEGER = re.compile(r"-?[0-9]{1,19}")
_INTEGERS = re.compile(r"-?[0-9]{1,19}(?:,-?[0-9]{1,19})*")
_BOOLEANS = {"true": True, "false": False}
_MOST_OF_19_DIGITS = 10**19 - 1
_JSON_SPACES = " \t\n\r"
_BYTES_A_CHARACTER = 4
# A TIMESTAMP measure is in milliseconds since the epoch, and is kept in nanoseconds.
_UNITS = {"BIGINT": 1, "TIMESTAMP": 1_000_000}


class Rejected(Exception):  # noqa: N818 - it is not an error of the program
    """A record is rejected; `existing_version` is that of the record which it would replace."""

    def __init__(self, why: str, existing_version: int | None = None) -> None:
        super().__init__(why)
        self.why = why
        self.existing_version = existing_version


def check_kind(name: str, kind: Any) -> None:
    """Raises AwsError where there is no such type of measure."""
    if not isinstance(kind, str) or kind not in SQL_TYPES:
        raise AwsError("ValidationException", f"measure {name}: type {kind!r} is unknown")


def integer(text: str) -> int | None:
    """A whole number of up to 19 digits, or None."""
    return int(text) if _INTEGER.fullmatch(text) else None


def integers(texts: list[str]) -> list[int] | None:
    """Whole numbers of up to 19 digits each, or None where one is none."""
    joined = ",".join(texts)
    numbers: list[int] | None = _as_json(joined, len(texts), int)
    if (
        numbers is not None
        and max(numbers) <= _MOST_OF_19_DIGITS
        and not any(space in joined for space in _JSON_SPACES)
    ):
        return numbers
    if not _INTEGERS.fullmatch(joined):
        return None
    try:
        return list(map(int, texts))
    except ValueError:  # A comma of its own.
        return None


def _as_json(joined: str, count: int, kind: type) -> list[Any] | None:
    """What texts are as numbers in JSON, which is read much faster; None where one is no such number.

    A text with a comma makes more numbers than texts, and one with a bracket makes a list.
    """
    try:
        found = orjson.loads(f"[{joined}]")
    except ValueError:
        return None
    return found if len(found) == count and set(map(type, found)) == {kind} else None


def _is_java(text: str) -> bool:
    """Whether a number has none of what Python reads and Java does not: `1_000`, other digits."""
    return "_" not in text and text.isascii()


def value(name: str, kind: Any, text: Any) -> Any:
    """The value of a measure.

    Raises:
        Rejected: it is not of its type.
        AwsError: ValidationException: there is no such type.
    """
    if not isinstance(text, str) or not text:
        check_kind(name, kind)
        raise Rejected(f"The measure {name} has no value.")
    if kind == "DOUBLE":
        try:
            number = float(text) if _is_java(text) else math.nan
        except ValueError:
            number = math.nan
        if not math.isfinite(number):
            raise Rejected(f"The measure {name} is not a valid DOUBLE.")
        return number
    if kind == "VARCHAR":
        if len(text.encode()) > MAX_VALUE_BYTES:
            raise Rejected(f"The measure {name} exceeds {MAX_VALUE_BYTES} bytes.")
        return text
    if kind == "BOOLEAN":
        if text.lower() not in _BOOLEANS:
            raise Rejected(f"The measure {name} is not a valid BOOLEAN.")
        return _BOOLEANS[text.lower()]
    check_kind(name, kind)
    whole = integer(text)
    if whole is None or not -(2**63) <= whole * _UNITS[kind] < 2**63:
        raise Rejected(f"The measure {name} is not a valid {kind}.")
    return whole * _UNITS[kind]


def values(kind: str, texts: list[str]) -> list[Any] | None:
    """The values of texts of one type, or None where `value` would have to tell of one of them."""
    if kind == "DOUBLE":
        numbers = _as_json(",".join(texts), len(texts), float)
        if numbers is None:
            if not _is_java("".join(texts)):
                return None
            try:
                numbers = list(map(float, texts))
            except ValueError:
                return None
        # A value that is no number, or is infinite, makes the sum so.
        return numbers if math.isfinite(sum(numbers)) else None
    if kind == "VARCHAR":
        short = max(map(len, texts)) * _BYTES_A_CHARACTER <= MAX_VALUE_BYTES
        return texts if short and all(texts) else None
    if kind == "BOOLEAN":
        try:
            return [_BOOLEANS[text.lower()] for text in texts]
        except KeyError:
            return None
    whole, unit = integers(texts), _UNITS[kind]
    if whole is None or not -(2**63) <= min(whole) * unit <= max(whole) * unit < 2**63:
        return None
    return whole if unit == 1 else [one * unit for one in whole]
