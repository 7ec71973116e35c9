"""Values in the text forms in which Timestream sends them."""

from __future__ import annotations

import datetime as dt
import math


def timestamp_text(nanoseconds: int) -> str:
    """`2026-01-02 03:04:05.000000006`, Timestream's form of a TIMESTAMP."""
    seconds, rest = divmod(nanoseconds, 1_000_000_000)
    moment = dt.datetime(1970, 1, 1, tzinfo=dt.UTC) + dt.timedelta(seconds=seconds)
    return f"{moment:%Y-%m-%d %H:%M:%S}.{rest:09d}"


def double_text(value: float) -> str:
    """A double as Java's Double.toString has it, which is what Timestream sends."""
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "Infinity" if value > 0 else "-Infinity"
    if value == 0 or 1e-3 <= abs(value) < 1e7:  # noqa: PLR2004 - Java's bounds
        text = format(value, ".17f") if "e" in repr(value) else repr(value)
        return text.rstrip("0") + "0" if text.rstrip("0").endswith(".") else text
    digits, exponent = f"{value!r}", 0
    if "e" in digits:
        digits, _, power = digits.partition("e")
        exponent = int(power)
    sign = "-" if digits.startswith("-") else ""
    whole, _, fraction = digits.lstrip("-").partition(".")
    significant = (whole + fraction).lstrip("0")
    exponent += len(whole) - 1 if whole != "0" else -(len(fraction) - len(fraction.lstrip("0"))) - 1
    significant = significant.rstrip("0") or "0"
    return f"{sign}{significant[0]}.{significant[1:] or '0'}E{exponent}"


def interval_text(nanoseconds: int) -> str:
    """`1 02:03:04.000000005`, days and time of day of an INTERVAL DAY TO SECOND."""
    sign = "-" if nanoseconds < 0 else ""
    seconds, rest = divmod(abs(nanoseconds), 1_000_000_000)
    minutes, second = divmod(seconds, 60)
    hours, minute = divmod(minutes, 60)
    days, hour = divmod(hours, 24)
    return f"{sign}{days} {hour:02d}:{minute:02d}:{second:02d}.{rest:09d}"


def months_text(months: int) -> str:
    """`1-2`, years and months of an INTERVAL YEAR TO MONTH."""
    years, rest = divmod(abs(months), 12)
    return f"{'-' if months < 0 else ''}{years}-{rest}"


def time_text(value: dt.time) -> str:
    """`03:04:05.000000006`, a TIME."""
    return f"{value:%H:%M:%S}.{value.microsecond * 1000:09d}"
