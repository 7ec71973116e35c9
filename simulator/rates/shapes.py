"""The shapes of a rate. Each has the exact integral of its rate, and the inverse of that integral."""

from __future__ import annotations

from functools import cached_property
from typing import Annotated, Any, Literal, Self

import numpy as np
from pydantic import Field, model_validator

from simulator.rates.base import Floats, Pieces, Shape, WaveRate
from simulator.units import Duration, PositiveDuration, Rate, TimeOfDay

DAY_S = 86400.0


class Constant(Shape):
    """The same rate for a time."""

    shape: Literal["constant"]
    rate: Rate

    @property
    def peak(self) -> float:
        """See `Shape`."""
        return self.rate

    def count(self, elapsed_s: float) -> float:
        """See `Shape`."""
        return self.rate * elapsed_s

    def rate_at(self, elapsed_s: float) -> float:  # noqa: ARG002 - it is always the same
        """See `Shape`."""
        return self.rate

    def due_s(self, number: Floats) -> Floats:
        """See `Shape`."""
        return number / self.rate

    def _scaled(self, rate: float, time: float) -> dict[str, Any]:  # noqa: ARG002
        return {"rate": self.rate * rate}


class Poisson(Constant):
    """Readings that come at random, at a rate that is the same in the mean."""

    shape: Literal["poisson"]  # type: ignore[assignment]
    arrivals: Literal["poisson"] = "poisson"

    @model_validator(mode="after")
    def _random(self) -> Self:
        if self.rate <= 0:
            raise ValueError("rate: must be more than 0")
        return self


class Ramp(Shape):
    """A rate that changes evenly from `start` to `end`."""

    shape: Literal["ramp"]
    start: Rate
    end: Rate

    @property
    def peak(self) -> float:
        """See `Shape`."""
        return max(self.start, self.end)

    def count(self, elapsed_s: float) -> float:
        """See `Shape`."""
        slope = (self.end - self.start) / self.duration
        return self.start * elapsed_s + slope * elapsed_s * elapsed_s / 2

    def rate_at(self, elapsed_s: float) -> float:
        """See `Shape`."""
        return self.start + (self.end - self.start) * elapsed_s / self.duration

    def due_s(self, number: Floats) -> Floats:
        """See `Shape`."""
        slope = (self.end - self.start) / self.duration
        root = np.sqrt(np.maximum(self.start * self.start + 2 * slope * number, 0.0))
        below = self.start + root
        # The form 2n / (s + sqrt(s^2 + 2an)) loses no digits where the ramp is flat.
        due: Floats = np.divide(2 * number, below, out=np.zeros_like(number), where=below > 0)
        return due

    def _scaled(self, rate: float, time: float) -> dict[str, Any]:  # noqa: ARG002
        return {"start": self.start * rate, "end": self.end * rate}

    @model_validator(mode="after")
    def _rises_or_falls(self) -> Self:
        if self.start == self.end == 0:
            raise ValueError("a ramp from 0 to 0 sends nothing")
        return self


class _Pieced(Shape):
    """A shape of straight pieces."""

    @property
    def pieces(self) -> Pieces:
        """The pieces that it is made of."""
        raise AssertionError

    @property
    def peak(self) -> float:
        """See `Shape`."""
        return self.pieces.peak

    def count(self, elapsed_s: float) -> float:
        """See `Shape`."""
        return self.pieces.count(elapsed_s)

    def rate_at(self, elapsed_s: float) -> float:
        """See `Shape`."""
        return self.pieces.rate_at(elapsed_s)

    def due_s(self, number: Floats) -> Floats:
        """See `Shape`."""
        return self.pieces.due_s(number)


class Steps(_Pieced):
    """Rates one after the other, each for an equal part of the duration."""

    shape: Literal["steps"]
    rates: Annotated[list[Rate], Field(min_length=2, max_length=10_000)]

    @model_validator(mode="after")
    def _sends(self) -> Self:
        if not any(self.rates):
            raise ValueError("rates: all of them are 0, which sends nothing")
        return self

    @cached_property
    def pieces(self) -> Pieces:
        """See `_Pieced`."""
        each_s = self.duration / len(self.rates)
        return Pieces([each_s] * len(self.rates), self.rates, self.rates)

    def _scaled(self, rate: float, time: float) -> dict[str, Any]:  # noqa: ARG002
        return {"rates": [one * rate for one in self.rates]}


class Spike(_Pieced):
    """A rate that stays at `base` but for one spike.

    Attributes:
        at: When it begins to rise.
        top: The rate at its height.
        rise: From base to top.
        hold: At the top.
        fall: Back to base.
    """

    shape: Literal["spike"]
    base: Rate
    top: Rate
    at: Duration
    rise: Duration = 0.0
    hold: Duration
    fall: Duration = 0.0

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.top <= self.base:
            raise ValueError(f"top: {self.top:g}/s must be more than base {self.base:g}/s")
        width = self.rise + self.hold + self.fall
        if width <= 0:
            raise ValueError("hold: the spike takes no time: give it a rise, a hold or a fall")
        if self.at + width > self.duration * (1 + 1e-9):
            raise ValueError(
                f"duration: the spike ends at {self.at + width:g} s of a phase of "
                f"{self.duration:g} s: make the phase longer"
            )
        return self

    @cached_property
    def pieces(self) -> Pieces:
        """See `_Pieced`."""
        after = max(0.0, self.duration - self.at - self.rise - self.hold - self.fall)
        return Pieces(
            [self.at, self.rise, self.hold, self.fall, after],
            [self.base, self.base, self.top, self.top, self.base],
            [self.base, self.top, self.top, self.base, self.base],
        )

    def _scaled(self, rate: float, time: float) -> dict[str, Any]:
        times = {name: getattr(self, name) * time for name in ("at", "rise", "hold", "fall")}
        return {"base": self.base * rate, "top": self.top * rate, **times}


class _Swinging(Shape):
    """A shape that swings."""

    @property
    def wave(self) -> WaveRate:
        """The wave that it is."""
        raise AssertionError

    def count(self, elapsed_s: float) -> float:
        """See `Shape`."""
        return float(self.wave.count(elapsed_s) - self.wave.count(0.0))

    def rate_at(self, elapsed_s: float) -> float:
        """See `Shape`."""
        return float(self.wave.rate(elapsed_s))

    def due_s(self, number: Floats) -> Floats:
        """See `Shape`."""
        return np.minimum(self.wave.due_s(number), self.duration)


class SineRate(_Swinging):
    """A rate that swings around a mean.

    Attributes:
        phase: How far into the period it starts, 0 to 1; 0 is at the mean, going up.
    """

    shape: Literal["sine"]
    mean: Rate
    amplitude: Rate
    period: PositiveDuration
    phase: Annotated[float, Field(ge=0, le=1)] = 0.0

    @model_validator(mode="after")
    def _never_below_nothing(self) -> Self:
        if self.mean <= 0:
            raise ValueError("mean: must be more than 0")
        if self.amplitude > self.mean:
            raise ValueError(
                f"amplitude: {self.amplitude:g}/s is more than the mean {self.mean:g}/s: the rate "
                "would fall below 0"
            )
        return self

    @property
    def peak(self) -> float:
        """See `Shape`."""
        return self.mean + self.amplitude

    @cached_property
    def wave(self) -> WaveRate:
        """See `_Swinging`."""
        return WaveRate(self.mean, self.amplitude, self.period, self.phase)

    def _scaled(self, rate: float, time: float) -> dict[str, Any]:
        return {
            "mean": self.mean * rate,
            "amplitude": self.amplitude * rate,
            "period": self.period * time,
        }


class DiurnalRate(_Swinging):
    """A day and a night: `high` at the time of day `at_peak`, `low` twelve hours from it.

    Attributes:
        begins: Time of day at which the phase begins.
        day: How long a day lasts; shorter than 24 h, a run sees more of it.
    """

    shape: Literal["diurnal"]
    low: Rate
    high: Rate
    at_peak: TimeOfDay = 15 * 3600.0
    begins: TimeOfDay = 0.0
    day: PositiveDuration = DAY_S

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.high <= self.low:
            raise ValueError(f"high: {self.high:g}/s must be more than low {self.low:g}/s")
        return self

    @property
    def peak(self) -> float:
        """See `Shape`."""
        return self.high

    @cached_property
    def wave(self) -> WaveRate:
        """See `_Swinging`."""
        phase = (self.begins - self.at_peak) / DAY_S + 0.25
        return WaveRate((self.low + self.high) / 2, (self.high - self.low) / 2, self.day, phase)

    def _scaled(self, rate: float, time: float) -> dict[str, Any]:
        return {"low": self.low * rate, "high": self.high * rate, "day": self.day * time}
