"""Models that are functions of time: waves, lines and decay."""

from __future__ import annotations

import math
from typing import Annotated, Any, Literal, Self

import numpy as np
from pydantic import Field, model_validator

from simulator.parameters import REACH, NotNegative, Number, Parameter, Span, fixed
from simulator.signals.base import Devices, Finite, Floats, Ints, Readings, Signal
from simulator.units import Duration, TimeOfDay

DAY_S = 86400.0


class Wave(Signal):
    """What waves share: a phase of each device's own, unless the scenario gives one to all.

    Attributes:
        phase: How far into the period the run starts, 0 to 1; None is a place of each device's own.
    """

    phase: Number | None = None

    def turns(self, at: Readings, period: Parameter) -> Floats:
        """How many periods have gone by, with the phase; shape (n,)."""
        begun = at.place() if self.phase is None else at.of("phase", self.phase)
        turns: Floats = at.at_s / at.of("period", period) + begun
        return turns


class Sine(Wave):
    """A sine over time; noise on top."""

    model: Literal["sine"]
    mean: Number
    amplitude: Number
    period: Span
    sigma: NotNegative = fixed(0.0)

    def values(self, at: Readings) -> Floats:
        """See `Signal`."""
        wave = np.sin(self.turns(at, self.period) * (2 * math.pi))
        values: Floats = at.of("mean", self.mean) + at.of("amplitude", self.amplitude) * wave
        if self.sigma.high:
            values += at.of("sigma", self.sigma) * at.normal()
        return values

    def bounds(self) -> tuple[float, float]:
        """See `Signal`."""
        reach = max(abs(self.amplitude.low), abs(self.amplitude.high)) + REACH * self.sigma.high
        return self.mean.low - reach, self.mean.high + reach

    def moments(self, devices: Devices, device: Ints) -> tuple[Any, Any]:
        """See `Signal`."""
        amplitude = devices.drawn("amplitude", self.amplitude)[device]
        sigma = devices.drawn("sigma", self.sigma)[device]
        return (
            devices.drawn("mean", self.mean)[device],
            np.sqrt(amplitude * amplitude / 2 + sigma * sigma),
        )


class Diurnal(Signal):
    """A day and a night: `low` twelve hours from `peak`, `high` at it, the same for all devices.

    Attributes:
        peak: Time of day of the highest value.
        day: How long a day lasts; shorter than 24 h, a run sees more of it.
        sigma: Noise on top.
    """

    model: Literal["diurnal"]
    low: Number
    high: Number
    peak: TimeOfDay = 15 * 3600.0
    day: Annotated[Duration, Field(gt=0)] = DAY_S
    sigma: NotNegative = fixed(0.0)

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.low.high > self.high.low:
            raise ValueError(f"low {self.low.high:g} is above high {self.high.low:g}")
        return self

    def values(self, at: Readings) -> Floats:
        """See `Signal`."""
        begun = (at.devices.scene.time_of_day_s - self.peak) / DAY_S
        wave = np.cos((at.at_s / self.day + begun) * (2 * math.pi))
        low, high = at.of("low", self.low), at.of("high", self.high)
        values: Floats = low + (high - low) * (wave + 1) / 2
        if self.sigma.high:
            values += at.of("sigma", self.sigma) * at.normal()
        return values

    def bounds(self) -> tuple[float, float]:
        """See `Signal`."""
        reach = REACH * self.sigma.high
        return self.low.low - reach, self.high.high + reach


class Square(Wave):
    """`high` for a part of each period, then `low`.

    Attributes:
        duty: The part of the period that it is high.
    """

    model: Literal["square"]
    low: Number
    high: Number
    period: Span
    duty: Annotated[float, Field(gt=0, lt=1)] = 0.5

    def values(self, at: Readings) -> Floats:
        """See `Signal`."""
        up = self.turns(at, self.period) % 1.0 < self.duty
        values: Floats = np.where(up, at.of("high", self.high), at.of("low", self.low))
        return values

    def bounds(self) -> tuple[float, float]:
        """See `Signal`."""
        return min(self.low.low, self.high.low), max(self.low.high, self.high.high)


class Sawtooth(Wave):
    """From `low` evenly to `high` in each period, and back at once."""

    model: Literal["sawtooth"]
    low: Number
    high: Number
    period: Span

    def values(self, at: Readings) -> Floats:
        """See `Signal`."""
        low, high = at.of("low", self.low), at.of("high", self.high)
        values: Floats = low + (high - low) * (self.turns(at, self.period) % 1.0)
        return values

    def bounds(self) -> tuple[float, float]:
        """See `Signal`."""
        return min(self.low.low, self.high.low), max(self.low.high, self.high.high)


class RampSignal(Signal):
    """A straight line over time, within bounds; `slope` per second."""

    model: Literal["ramp"]
    start: Number
    slope: Number
    min: Finite = -1e12
    max: Finite = 1e12

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.min >= self.max:
            raise ValueError(f"min {self.min:g} is not below max {self.max:g}")
        return self

    def values(self, at: Readings) -> Floats:
        """See `Signal`."""
        line: Floats = at.of("start", self.start) + at.of("slope", self.slope) * at.at_s
        return np.clip(line, self.min, self.max)


class Decay(Signal):
    """From `start` towards `end`; every `half_life` it is half as far away."""

    model: Literal["decay"]
    start: Number
    end: Number
    half_life: Span
    sigma: NotNegative = fixed(0.0)

    def values(self, at: Readings) -> Floats:
        """See `Signal`."""
        start, end = at.of("start", self.start), at.of("end", self.end)
        values: Floats = end + (start - end) * 0.5 ** (at.at_s / at.of("half_life", self.half_life))
        if self.sigma.high:
            values += at.of("sigma", self.sigma) * at.normal()
        return values

    def bounds(self) -> tuple[float, float]:
        """See `Signal`."""
        reach = REACH * self.sigma.high
        return (
            min(self.start.low, self.end.low) - reach,
            max(self.start.high, self.end.high) + reach,
        )
