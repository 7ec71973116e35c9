"""Durations and rates as people write them: `10s`, `5m`, `2000/s`."""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import AfterValidator, BeforeValidator, PlainSerializer

if TYPE_CHECKING:
    from collections.abc import Callable

_DURATION = re.compile(r"^\s*(\d+(?:\.\d+)?)\s*(ms|s|m|h|d)\s*$")
_RATE = re.compile(r"^\s*(\d+(?:\.\d+)?)\s*/\s*(s|m|h)\s*$")
_TIME_OF_DAY = re.compile(r"^\s*([01]?\d|2[0-3]):([0-5]\d)(?::([0-5]\d))?\s*$")
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


def duration_s(value: Any) -> float:
    """Seconds of a duration; a bare number is seconds.

    Raises:
        ValueError: it is no duration.
    """
    if isinstance(value, int | float) and not isinstance(value, bool):
        seconds = float(value)
    else:
        match = _DURATION.match(str(value))
        if match is None:
            raise ValueError(f"{value!r} is not a duration: write 500ms, 10s, 5m or 2h")
        seconds = float(match.group(1)) * _SECONDS[match.group(2)]
    if not math.isfinite(seconds) or seconds < 0:
        raise ValueError(f"{value!r} is not a duration: it must be 0 or more")
    return seconds


def rate_per_s(value: Any) -> float:
    """Readings per second of a rate; a bare number is per second.

    Raises:
        ValueError: it is no rate.
    """
    if isinstance(value, int | float) and not isinstance(value, bool):
        rate = float(value)
    else:
        match = _RATE.match(str(value))
        if match is None:
            raise ValueError(f"{value!r} is not a rate: write 2000/s or 30/m")
        rate = float(match.group(1)) / _SECONDS[match.group(2)]
    if not math.isfinite(rate) or rate < 0:
        raise ValueError(f"{value!r} is not a rate: it must be 0 or more")
    return rate


def signed_duration_s(value: Any) -> float:
    """Seconds of a duration that may be negative: `-5m`.

    Raises:
        ValueError: it is none.
    """
    if isinstance(value, str) and value.strip().startswith("-"):
        return -duration_s(value.strip()[1:])
    if isinstance(value, int | float) and not isinstance(value, bool) and value < 0:
        return -duration_s(-value)
    return duration_s(value)


def time_of_day_s(value: Any) -> float:
    """Seconds of the day of a time such as `06:30`.

    Raises:
        ValueError: it is no time of day.
    """
    # YAML reads an unquoted 15:00 as a number in base 60, and 15:00:30 likewise.
    if isinstance(value, int) and not isinstance(value, bool):
        if 60 <= value < 24 * 60:  # noqa: PLR2004
            return value * 60.0
        if 3600 <= value < 86400:  # noqa: PLR2004
            return float(value)
    match = _TIME_OF_DAY.match(value) if isinstance(value, str) else None
    if match is None:
        raise ValueError(f"{value!r} is not a time of day: write 06:30")
    hours, minutes, seconds = (int(part or 0) for part in match.groups())
    return float(hours * 3600 + minutes * 60 + seconds)


def _written(value: float, unit: str, read: Callable[[str], float]) -> str | float:
    """A number with its unit where that reads back as the very same number; else the number."""
    text = f"{value:.9g}{unit}"
    try:
        return text if read(text) == value else value
    except ValueError:
        return value


def _above_0(seconds: float) -> float:
    if seconds <= 0:
        raise ValueError("must be more than 0")
    return seconds


Duration = Annotated[
    float,
    BeforeValidator(duration_s),
    PlainSerializer(lambda seconds: _written(seconds, "s", duration_s)),
]
PositiveDuration = Annotated[Duration, AfterValidator(_above_0)]
Rate = Annotated[
    float,
    BeforeValidator(rate_per_s),
    PlainSerializer(lambda rate: _written(rate, "/s", rate_per_s)),
]


def _clock(seconds: float) -> str:
    whole = int(seconds)
    return f"{whole // 3600:02d}:{whole % 3600 // 60:02d}:{whole % 60:02d}"


SignedDuration = Annotated[float, BeforeValidator(signed_duration_s)]
TimeOfDay = Annotated[float, BeforeValidator(time_of_day_s), PlainSerializer(_clock)]
