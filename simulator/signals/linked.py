"""Signals that follow another signal of their device: as it is, before faults and its `spread`."""

from __future__ import annotations

import math
from typing import Annotated, Literal, Self

import numpy as np
from pydantic import Field, model_validator

from simulator.parameters import NotNegative, Number, Positive, fixed
from simulator.signals.base import Floats, Readings, Signal


class Correlated(Signal):
    """Normal noise with a correlation to another signal.

    Attributes:
        signal: Name of the other.
        correlation: From -1 to 1.
        center: Mean of the other, where its model does not tell.
        scale: Standard deviation of the other, where its model does not tell.
    """

    model: Literal["correlated"]
    signal: str
    correlation: Annotated[float, Field(ge=-1, le=1)]
    mean: Number
    sigma: NotNegative
    center: Number | None = None
    scale: Positive | None = None

    @model_validator(mode="after")
    def _both(self) -> Self:
        if (self.center is None) != (self.scale is None):
            raise ValueError("center and scale of the other signal are needed together")
        return self

    def needs(self) -> tuple[str, ...]:
        """See `Signal`."""
        return (self.signal,)

    def values(self, at: Readings) -> Floats:
        """See `Signal`."""
        if self.center is not None and self.scale is not None:
            center, scale = at.of("center", self.center), at.of("scale", self.scale)
        else:
            source, devices = at.sources[self.signal]
            center, scale = source.moments(devices, at.device) or (0.0, 1.0)
        # A signal that never moves has nothing to follow.
        moving = np.asarray(scale) > 0
        standard = np.where(
            moving, (at.others[self.signal] - center) / np.where(moving, scale, 1.0), 0.0
        )
        own = math.sqrt(1 - self.correlation**2) * at.normal()
        values: Floats = at.of("mean", self.mean) + at.of("sigma", self.sigma) * (
            self.correlation * standard + own
        )
        return values


class Linear(Signal):
    """`offset` + `gain` times another signal, with noise."""

    model: Literal["linear"]
    signal: str
    gain: Number
    offset: Number = fixed(0.0)
    sigma: NotNegative = fixed(0.0)

    def needs(self) -> tuple[str, ...]:
        """See `Signal`."""
        return (self.signal,)

    def values(self, at: Readings) -> Floats:
        """See `Signal`."""
        gain, offset = at.of("gain", self.gain), at.of("offset", self.offset)
        values: Floats = offset + gain * at.others[self.signal]
        if self.sigma.high:
            values += at.of("sigma", self.sigma) * at.normal()
        return values
