"""Models without memory: a constant, and noise that is new with each reading."""

from __future__ import annotations

import math
from typing import Any, Literal, Self

import numpy as np
from pydantic import model_validator

from simulator.parameters import REACH, NotNegative, Number
from simulator.signals.base import Devices, Floats, Ints, Readings, Signal


class ConstantSignal(Signal):
    """Always the same."""

    model: Literal["constant"]
    value: Number

    def values(self, at: Readings) -> Floats:
        """See `Signal`."""
        return np.full(len(at), at.of("value", self.value))

    def bounds(self) -> tuple[float, float]:
        """See `Signal`."""
        return self.value.low, self.value.high


class Uniform(Signal):
    """Anything between two bounds, each reading anew."""

    model: Literal["uniform"]
    low: Number
    high: Number

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.low.high > self.high.low:
            raise ValueError(f"low {self.low.high:g} is above high {self.high.low:g}")
        return self

    def values(self, at: Readings) -> Floats:
        """See `Signal`."""
        low, high = at.of("low", self.low), at.of("high", self.high)
        values: Floats = low + (high - low) * at.uniform()
        return values

    def bounds(self) -> tuple[float, float]:
        """See `Signal`."""
        return self.low.low, self.high.high

    def moments(self, devices: Devices, device: Ints) -> tuple[Any, Any]:
        """See `Signal`."""
        low = devices.drawn("low", self.low)[device]
        high = devices.drawn("high", self.high)[device]
        return (low + high) / 2, (high - low) / math.sqrt(12)


class Normal(Signal):
    """Normal noise around a mean."""

    model: Literal["normal"]
    mean: Number
    sigma: NotNegative

    def values(self, at: Readings) -> Floats:
        """See `Signal`."""
        values: Floats = at.of("mean", self.mean) + at.of("sigma", self.sigma) * at.normal()
        return values

    def bounds(self) -> tuple[float, float]:
        """See `Signal`."""
        reach = REACH * self.sigma.high
        return self.mean.low - reach, self.mean.high + reach

    def moments(self, devices: Devices, device: Ints) -> tuple[Any, Any]:
        """See `Signal`."""
        return (
            devices.drawn("mean", self.mean)[device],
            devices.drawn("sigma", self.sigma)[device],
        )
