"""Rates over time as pure functions: how many readings are due by a time, and when each is due.

Every shape gives the exact integral of its rate and the inverse of that integral; phases follow
one another.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from simulator.rates.base import Shape
from simulator.rates.profile import RateProfile
from simulator.rates.shapes import (
    Constant,
    DiurnalRate,
    Poisson,
    Ramp,
    SineRate,
    Spike,
    Steps,
)
from simulator.rates.trace import Trace

AnyShape = Constant | Poisson | Ramp | Steps | Spike | SineRate | DiurnalRate | Trace
Phase = Annotated[AnyShape, Field(discriminator="shape")]

__all__ = [
    "Constant", "DiurnalRate", "Phase", "Poisson", "Ramp", "RateProfile", "Shape", "SineRate",
    "Spike", "Steps", "Trace",
]  # fmt: skip
