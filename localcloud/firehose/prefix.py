"""Prefixes of S3 objects: `!{timestamp:...}` and `!{firehose:...}` expressions.

Follows "Custom prefixes for Amazon S3 objects" of the Firehose developer guide.
"""

from __future__ import annotations

import datetime as dt
import re
import secrets
import string

from localcloud.firehose.timeformat import format_time
from localcloud.http import AwsError

BY_HOUR = "!{timestamp:yyyy/MM/dd/HH/}"
ERROR_TYPE = "!{firehose:error-output-type}"
MAX_LENGTH = 512
PROCESSING_FAILED = "processing-failed"
_EXPRESSION = re.compile(r"!\{([^:{}]+):([^{}]*)\}")
_ALPHABET = string.ascii_letters + string.digits
_RANDOM_LENGTH = 11
_SAMPLE = dt.datetime(2024, 12, 31, 23, 59, 59, 999_999, tzinfo=dt.UTC)


def check(prefix: str, error_prefix: str) -> None:
    """Refuses prefixes that break the guide's semantic rules.

    Raises:
        AwsError: InvalidArgumentException.
    """
    _check_expressions(prefix)
    _check_expressions(error_prefix)
    if ERROR_TYPE in prefix:
        raise _invalid(f"{ERROR_TYPE} is for ErrorOutputPrefix only")
    if not error_prefix and "!{" in prefix:
        raise _invalid("ErrorOutputPrefix cannot be null when Prefix contains expressions")
    if "!{" in error_prefix and ERROR_TYPE not in error_prefix:
        raise _invalid(f"ErrorOutputPrefix with expressions must contain {ERROR_TYPE}")
    for evaluated in (
        expand(prefix, _SAMPLE),
        expand_error(prefix, error_prefix, _SAMPLE, PROCESSING_FAILED),
    ):
        if len(evaluated) > MAX_LENGTH:
            raise _invalid(f"a prefix has at most {MAX_LENGTH} characters when it is evaluated")


def expand(prefix: str, moment: dt.datetime) -> str:
    """The prefix of an object whose oldest record arrived at `moment`, in the zone to be shown.

    A prefix without a timestamp expression gets the hour appended, as Firehose does.
    """
    return _evaluate(prefix if "!{timestamp:" in prefix else prefix + BY_HOUR, moment, "")


def expand_error(prefix: str, error_prefix: str, moment: dt.datetime, error_type: str) -> str:
    """The prefix of an object of failed records.

    Where there is no ErrorOutputPrefix, the kind of error and the hour follow the plain Prefix.
    """
    text = error_prefix or prefix
    if "!{" not in text:
        text += f"{ERROR_TYPE}/{BY_HOUR}"
    return _evaluate(text, moment, error_type)


def _evaluate(text: str, moment: dt.datetime, error_type: str) -> str:
    def replace(match: re.Match[str]) -> str:
        namespace, value = match.groups()
        if namespace == "timestamp":
            return format_time(value, moment)
        if value == "random-string":
            return "".join(secrets.choice(_ALPHABET) for _ in range(_RANDOM_LENGTH))
        return error_type

    return _EXPRESSION.sub(replace, text)


def _check_expressions(prefix: str) -> None:
    if "!{" in _EXPRESSION.sub("", prefix):
        raise _invalid(f"prefix {prefix!r} has an expression that is not closed")
    for namespace, value in _EXPRESSION.findall(prefix):
        if namespace == "timestamp":
            format_time(value, _SAMPLE)
        elif namespace != "firehose" or value not in {"random-string", "error-output-type"}:
            raise _invalid(f"expression !{{{namespace}:{value}}} is not supported locally")


def _invalid(message: str) -> AwsError:
    return AwsError("InvalidArgumentException", message)
