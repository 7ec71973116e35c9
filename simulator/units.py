"""Durations and rates as people write them: `10s`, `5m`, `2000/s`."""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import BeforeValidator, PlainSerializer

if TYPE_CHECKING:
    from collections.abc import Callable

_DURATION = re.compile(r"^\s*(\d+(?:\.\d+)?)\s*(ms|s|m|h|d)\s*$")
_RATE = re.compile(r"^\s*(\d+(?:\.\d+)?)\s*/\s*(s|m|h)\s*$")
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


def _written(value: float, unit: str, read: Callable[[str], float]) -> str | float:
    """A number with its unit where that reads back as the very same number; else the number."""
    text = f"{value:.9g}{unit}"
    try:
        return text if read(text) == value else value
    except ValueError:
        return value


Duration = Annotated[
    float,
    BeforeValidator(duration_s),
    PlainSerializer(lambda seconds: _written(seconds, "s", duration_s)),
]
Rate = Annotated[
    float,
    BeforeValidator(rate_per_s),
    PlainSerializer(lambda rate: _written(rate, "/s", rate_per_s)),
]
