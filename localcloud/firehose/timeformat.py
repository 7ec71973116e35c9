"""Patterns of Java's DateTimeFormatter, in which prefixes of S3 objects give times.

Follows the table of pattern letters of `java.time.format.DateTimeFormatter` in Java 8, in the
English locale. Letters whose meaning depends on the locale's calendar (Y, w, W, e, c, F) and
localized zone names (z, O, ZZZZ) are refused.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from localcloud.http import AwsError

if TYPE_CHECKING:
    import datetime as dt
    from collections.abc import Callable

_TOKEN = re.compile(r"''|'((?:[^']|'')*)'|([a-zA-Z])\2*|[^a-zA-Z']|'")
_RESERVED = frozenset("[]{}#")
_DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
_MONTHS = (
    "January", "February", "March", "April", "May", "June", "July", "August", "September",
    "October", "November", "December",
)  # fmt: skip
_QUARTERS = ("1st", "2nd", "3rd", "4th")
_SHORT, _FULL, _NARROW = 3, 4, 5
_SHORT_YEAR = 2

# Letters of plain numbers: how many may stand together (0 is any), and the number.
_NUMBERS: dict[str, tuple[int, Callable[[dt.datetime], int]]] = {
    "d": (2, lambda moment: moment.day),
    "D": (3, lambda moment: moment.timetuple().tm_yday),
    "H": (2, lambda moment: moment.hour),
    "k": (2, lambda moment: moment.hour or 24),
    "K": (2, lambda moment: moment.hour % 12),
    "h": (2, lambda moment: moment.hour % 12 or 12),
    "m": (2, lambda moment: moment.minute),
    "s": (2, lambda moment: moment.second),
    "n": (0, lambda moment: moment.microsecond * 1000),
    "A": (0, lambda moment: _second_of_day(moment) * 1000 + moment.microsecond // 1000),
    "N": (0, lambda moment: _second_of_day(moment) * 10**9 + moment.microsecond * 1000),
}


def format_time(pattern: str, moment: dt.datetime) -> str:
    """`moment` (aware) in a pattern of Java's DateTimeFormatter.

    Raises:
        AwsError: InvalidArgumentException naming the part of the pattern that is not served.
    """
    done = []
    for token in _TOKEN.finditer(pattern):
        text = token.group(0)
        if text == "''":
            done.append("'")
        elif token.group(1) is not None:
            done.append(token.group(1).replace("''", "'"))
        elif token.group(2) is not None:
            done.append(_letters(text, moment))
        elif text == "'" or text in _RESERVED:
            raise _refuse(text, pattern)
        else:
            done.append(text)
    return "".join(done)


def _letters(text: str, moment: dt.datetime) -> str:
    letter, count = text[0], len(text)
    if letter in _NUMBERS:
        most, number = _NUMBERS[letter]
        if most and count > most:
            raise _refuse(text, text)
        return f"{number(moment):0{count}d}"
    if letter in "yu":
        return f"{moment.year % 100:02d}" if count == _SHORT_YEAR else f"{moment.year:0{count}d}"
    if letter in "ML" and count <= _NARROW:
        return _named(moment.month, count, _MONTHS[moment.month - 1])
    if letter in "Qq" and count < _NARROW:
        quarter = (moment.month + 2) // 3
        if count == _SHORT:
            return f"Q{quarter}"
        return _named(quarter, count, f"{_QUARTERS[quarter - 1]} quarter")
    if letter == "E" and count <= _NARROW:
        return _named(moment.isoweekday(), max(count, _SHORT), _DAYS[moment.weekday()])
    if text == "a":
        return "AM" if moment.hour < 12 else "PM"  # noqa: PLR2004 - noon
    if letter == "S" and count <= 9:  # noqa: PLR2004 - nanoseconds
        return f"{moment.microsecond * 1000:09d}"[:count]
    if letter in "XxZ" or text == "VV":
        return _zone(text, moment)
    raise _refuse(text, text)


def _named(number: int, count: int, name: str) -> str:
    """A field that is a number up to two letters, and a name from three on."""
    if count < _SHORT:
        return f"{number:0{count}d}"
    return {_SHORT: name[:3], _FULL: name, _NARROW: name[0]}[count]


def _zone(text: str, moment: dt.datetime) -> str:
    if text == "VV":
        return getattr(moment.tzinfo, "key", "Z")
    offset = moment.utcoffset()
    minutes = 0 if offset is None else int(offset.total_seconds()) // 60
    if minutes == 0 and (text[0] == "X" or text == "ZZZZZ"):
        return "Z"
    sign, (hours, rest) = "-" if minutes < 0 else "+", divmod(abs(minutes), 60)
    match text:
        case "X" | "x":
            return f"{sign}{hours:02d}{rest:02d}" if rest else f"{sign}{hours:02d}"
        case "XX" | "xx" | "Z" | "ZZ" | "ZZZ":
            return f"{sign}{hours:02d}{rest:02d}"
        case "XXX" | "xxx" | "ZZZZZ":
            return f"{sign}{hours:02d}:{rest:02d}"
    raise _refuse(text, text)


def _second_of_day(moment: dt.datetime) -> int:
    return (moment.hour * 60 + moment.minute) * 60 + moment.second


def _refuse(part: str, pattern: str) -> AwsError:
    where = f" in {pattern!r}" if pattern != part else ""
    return AwsError(
        "InvalidArgumentException", f"timestamp pattern {part!r}{where} is not supported locally"
    )
