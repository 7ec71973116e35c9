"""Rates over time as pure functions: how many readings are due by a time, and when each is due.

Every shape gives the exact integral of its rate and the inverse of that integral; phases follow
one another.
"""

from __future__ import annotations

from typing import Annotated, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, model_validator

from simulator.units import Duration, Rate

Floats = NDArray[np.float64]


class Constant(BaseModel):
    """The same rate for a time."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    shape: Literal["constant"]
    rate: Rate
    duration: Duration

    @property
    def peak(self) -> float:
        """Highest rate, readings per second."""
        return self.rate

    def count(self, elapsed_s: float) -> float:
        """Readings due by `elapsed_s` seconds into the phase."""
        return self.rate * elapsed_s

    def rate_at(self, _elapsed_s: float) -> float:
        """The rate at a time of the phase."""
        return self.rate

    def due_s(self, number: Floats) -> Floats:
        """When the readings of these (fractional) numbers are due, seconds into the phase."""
        return number / self.rate

    def scaled(self, rate: float, time: float) -> Constant:
        """The phase with rates and times multiplied."""
        return Constant(shape="constant", rate=self.rate * rate, duration=self.duration * time)


class Ramp(BaseModel):
    """A rate that changes evenly from `start` to `end`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    shape: Literal["ramp"]
    start: Rate
    end: Rate
    duration: Duration

    @property
    def peak(self) -> float:
        """Highest rate, readings per second."""
        return max(self.start, self.end)

    def count(self, elapsed_s: float) -> float:
        """Readings due by `elapsed_s` seconds into the phase."""
        slope = (self.end - self.start) / self.duration
        return self.start * elapsed_s + slope * elapsed_s * elapsed_s / 2

    def rate_at(self, elapsed_s: float) -> float:
        """The rate at a time of the phase."""
        return self.start + (self.end - self.start) * elapsed_s / self.duration

    def due_s(self, number: Floats) -> Floats:
        """When the readings of these (fractional) numbers are due, seconds into the phase."""
        slope = (self.end - self.start) / self.duration
        root = np.sqrt(np.maximum(self.start * self.start + 2 * slope * number, 0.0))
        below = self.start + root
        # The form 2n / (s + sqrt(s^2 + 2an)) loses no digits where the ramp is flat.
        due: Floats = np.divide(2 * number, below, out=np.zeros_like(number), where=below > 0)
        return due

    def scaled(self, rate: float, time: float) -> Ramp:
        """The phase with rates and times multiplied."""
        return Ramp(
            shape="ramp",
            start=self.start * rate,
            end=self.end * rate,
            duration=self.duration * time,
        )

    @model_validator(mode="after")
    def _rises_or_falls(self) -> Self:
        if self.start == self.end == 0:
            raise ValueError("a ramp from 0 to 0 sends nothing")
        return self


Phase = Annotated[Constant | Ramp, Field(discriminator="shape")]


class RateProfile:
    """Phases in sequence.

    Attributes:
        duration_s: Seconds of all phases together.
        total: Readings that are due in that time.
        peak: Highest rate, readings per second.
    """

    def __init__(self, phases: list[Constant | Ramp]) -> None:
        self.phases = phases
        durations = np.array([phase.duration for phase in phases], dtype=np.float64)
        counts = np.array([phase.count(phase.duration) for phase in phases], dtype=np.float64)
        self._starts_s: Floats = np.concatenate([[0.0], np.cumsum(durations)])
        self._starts_n: Floats = np.concatenate([[0.0], np.cumsum(counts)])
        self.duration_s = float(self._starts_s[-1])
        # Reading 0 is due at once, so a fraction at the end is one more reading.
        self.total = int(np.ceil(self._starts_n[-1] - 1e-9))
        self.peak = max(phase.peak for phase in phases)

    def count_by(self, elapsed_s: float) -> float:
        """The integral of the rate up to `elapsed_s`, in readings."""
        if elapsed_s <= 0:
            return 0.0
        if elapsed_s >= self.duration_s:
            return float(self._starts_n[-1])
        index = self.phase_at(elapsed_s)
        inside = self.phases[index].count(elapsed_s - float(self._starts_s[index]))
        return float(self._starts_n[index]) + inside

    def due_s(self, numbers: NDArray[np.int64]) -> Floats:
        """When each reading is due, seconds from the start; shape and order as given."""
        wanted = numbers.astype(np.float64)
        which = np.searchsorted(self._starts_n, wanted, side="right") - 1
        which = np.clip(which, 0, len(self.phases) - 1)
        due = np.empty(len(wanted), dtype=np.float64)
        for index, phase in enumerate(self.phases):
            chosen = which == index
            if chosen.any():
                inside = wanted[chosen] - self._starts_n[index]
                due[chosen] = phase.due_s(inside) + self._starts_s[index]
        return due

    def phase_at(self, elapsed_s: float) -> int:
        """The index of the phase at a time."""
        index = int(np.searchsorted(self._starts_s, elapsed_s, side="right")) - 1
        return min(max(index, 0), len(self.phases) - 1)

    def rate_at(self, elapsed_s: float) -> float:
        """The rate at a time, readings per second; 0 outside."""
        if not 0 <= elapsed_s < self.duration_s:
            return 0.0
        index = self.phase_at(elapsed_s)
        return self.phases[index].rate_at(elapsed_s - float(self._starts_s[index]))
