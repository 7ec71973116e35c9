"""Custom prefixes for S3 objects: `!{timestamp:...}` and `!{firehose:...}` expressions.

Follows "Custom prefixes for Amazon S3 objects" of the Firehose developer guide.
"""

from __future__ import annotations

import re
import secrets
import string
from typing import TYPE_CHECKING

from localcloud.http import AwsError

if TYPE_CHECKING:
    import datetime as dt

DEFAULT_PREFIX = "!{timestamp:yyyy/MM/dd/HH/}"
_EXPRESSION = re.compile(r"!\{([^:{}]+):([^{}]*)\}")
_LETTERS = re.compile(r"'([^']*)'|([a-zA-Z])\2*")
_JAVA = {
    "yyyy": "%Y", "yy": "%y", "MM": "%m", "dd": "%d", "HH": "%H", "mm": "%M", "ss": "%S",
    "DDD": "%j", "E": "%a", "a": "%p", "hh": "%I",
}  # fmt: skip
ALPHABET = string.ascii_letters + string.digits


def check(prefix: str, *, error: bool) -> None:
    """Refuses a prefix with an expression that Firehose does not know.

    Raises:
        AwsError: InvalidArgumentException.
    """
    if "!{" in _EXPRESSION.sub("", prefix):
        raise _invalid(f"prefix {prefix!r} has an expression that is not closed")
    for namespace, value in _EXPRESSION.findall(prefix):
        if namespace == "timestamp":
            _pattern(value)
        elif namespace != "firehose" or value not in {"random-string", "error-output-type"}:
            raise _invalid(f"expression !{{{namespace}:{value}}} is not supported locally")
        elif value == "error-output-type" and not error:
            raise _invalid("!{firehose:error-output-type} is for ErrorOutputPrefix only")


def expand(prefix: str | None, moment: dt.datetime, error_type: str = "") -> str:
    """The prefix of an object whose oldest record arrived at `moment` (UTC).

    A prefix with no timestamp expression gets YYYY/MM/dd/HH/ appended, as Firehose does.
    """
    text = prefix or ""
    if "!{timestamp:" not in text and not error_type:
        text += DEFAULT_PREFIX

    def replace(match: re.Match[str]) -> str:
        namespace, value = match.groups()
        if namespace == "timestamp":
            return moment.strftime(_pattern(value))
        if value == "random-string":
            return "".join(secrets.choice(ALPHABET) for _ in range(11))
        return error_type

    return _EXPRESSION.sub(replace, text)


def _pattern(java: str) -> str:
    """A pattern of Java's DateTimeFormatter as strftime has it."""

    def replace(match: re.Match[str]) -> str:
        if match.group(1) is not None:
            return match.group(1).replace("%", "%%")
        letters = match.group(0)
        if letters not in _JAVA:
            raise _invalid(f"timestamp pattern {letters!r} is not supported locally")
        return _JAVA[letters]

    return _LETTERS.sub(replace, java)


def _invalid(message: str) -> AwsError:
    return AwsError("InvalidArgumentException", message)
