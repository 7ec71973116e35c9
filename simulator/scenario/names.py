"""Names with weights: of sites and of firmware versions."""

from __future__ import annotations

import math
import re
from typing import Annotated, Any

from pydantic import PlainValidator

MAX_SITES = 100_000
# They stand in payloads as they are, so they have nothing that JSON would escape.
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9 ._+-]{0,62}")


def weighted(value: Any) -> dict[str, float]:
    """Names with weights, of one name, a list of them, or a mapping to weights.

    Raises:
        ValueError: it is none of these.
    """
    if isinstance(value, int | float) and not isinstance(value, bool):
        raise ValueError(f"{value!r} is a number: write it in quotes")  # noqa: TRY004
    if isinstance(value, str):
        value = [value]
    if isinstance(value, list):
        if len(set(map(str, value))) < len(value):
            raise ValueError("a name is there twice")
        value = dict.fromkeys(value, 1.0)
    if not isinstance(value, dict) or not value:
        raise ValueError("give a name, a list of names, or names with weights: {a: 0.9, b: 0.1}")
    for name, weight in value.items():
        if not isinstance(name, str):
            raise ValueError(f"{name!r} is no text: write it in quotes")  # noqa: TRY004
        if not _NAME.fullmatch(name):
            raise ValueError(f"{name!r}: use letters, digits, spaces and . _ + -, up to 63")
        number = isinstance(weight, int | float) and not isinstance(weight, bool)
        if not number or not math.isfinite(weight) or weight <= 0:
            raise ValueError(f"the weight of {name!r} must be more than 0")
    return {name: float(weight) for name, weight in value.items()}


def _sites(value: Any) -> int | dict[str, float]:
    if isinstance(value, int) and not isinstance(value, bool):
        if not 1 <= value <= MAX_SITES:
            raise ValueError(f"{value} sites: use 1 to {MAX_SITES}")
        return value
    return weighted(value)


Weighted = Annotated[dict[str, float], PlainValidator(weighted)]
Sites = Annotated[int | dict[str, float], PlainValidator(_sites)]
