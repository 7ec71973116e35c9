"""What every shape of a rate is: a pure function from elapsed time to readings due, and its inverse."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from simulator.units import PositiveDuration

if TYPE_CHECKING:
    from collections.abc import Sequence

Floats = NDArray[np.float64]
# Newton's method is exact to a float's last digits in about six steps; halving takes at most these.
_STEPS = 80
_JUMP_S = 1e-9


class Shape(BaseModel):
    """A rate over a time.

    Attributes:
        duration: How long it lasts.
        arrivals: `even` spaces readings by the rate exactly; `poisson` lets them come at random,
            by a Poisson process of that rate.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    duration: PositiveDuration
    arrivals: Literal["even", "poisson"] = "even"

    @property
    def peak(self) -> float:
        """Highest rate, readings per second."""
        raise AssertionError

    @property
    def whole(self) -> bool:
        """Whether readings are told one by one, so that only whole numbers of them are due."""
        return False

    def count(self, elapsed_s: float) -> float:
        """Readings due by `elapsed_s` seconds into the phase: the integral of the rate."""
        raise AssertionError(elapsed_s)

    def rate_at(self, elapsed_s: float) -> float:
        """The rate at a time of the phase."""
        raise AssertionError(elapsed_s)

    def due_s(self, number: Floats) -> Floats:
        """When the readings of these (fractional) numbers are due, seconds into the phase."""
        raise AssertionError(number)

    def least_gap_s(self, devices: int) -> float:
        """Shortest time in which as many readings as there are devices are due."""
        return devices / self.peak if self.peak else float("inf")

    def scaled(self, rate: float, time: float) -> Self:
        """The phase with rates and times multiplied."""
        changed: dict[str, Any] = {**self.model_dump(), "duration": self.duration * time}
        return type(self).model_validate(changed | self._scaled(rate, time))

    def _scaled(self, rate: float, time: float) -> dict[str, Any]:
        """The fields that scaling changes, but for the duration."""
        raise AssertionError((rate, time))


class Pieces:
    """A rate in straight pieces, with its integral and that one's inverse.

    Args:
        durations: Seconds of each piece.
        starts: Rate at its beginning.
        ends: Rate at its end.
    """

    def __init__(
        self, durations: Sequence[float], starts: Sequence[float], ends: Sequence[float]
    ) -> None:
        length = np.array(durations, dtype=np.float64)
        # A piece shorter than any clock can tell is a jump.
        length[length < _JUMP_S] = 0.0
        self._start = np.array(starts, dtype=np.float64)
        self._end = np.array(ends, dtype=np.float64)
        self._slope = np.divide(
            self._end - self._start, length, out=np.zeros_like(length), where=length > 0
        )
        counts = (self._start + self._end) / 2 * length
        self._begins_s = np.concatenate([[0.0], np.cumsum(length)])
        self._begins_n = np.concatenate([[0.0], np.cumsum(counts)])
        self.peak = float(max(self._start.max(), self._end.max()))

    def count(self, elapsed_s: float) -> float:
        """The integral of the rate."""
        index, into_s = self._at(elapsed_s)
        inside = self._start[index] * into_s + self._slope[index] * into_s * into_s / 2
        return float(self._begins_n[index] + inside)

    def rate_at(self, elapsed_s: float) -> float:
        """The rate at a time."""
        index, into_s = self._at(elapsed_s)
        return float(self._start[index] + self._slope[index] * into_s)

    def due_s(self, number: Floats) -> Floats:
        """The inverse of the integral; shape as given."""
        index = np.searchsorted(self._begins_n, number, side="right") - 1
        index = np.clip(index, 0, len(self._start) - 1)
        inside = number - self._begins_n[index]
        start, slope = self._start[index], self._slope[index]
        root = np.sqrt(np.maximum(start * start + 2 * slope * inside, 0.0))
        below = start + root
        # The form 2n / (s + sqrt(s^2 + 2an)) loses no digits where the rate hardly changes.
        into = np.divide(2 * inside, below, out=np.zeros_like(inside), where=below > 0)
        # What rounding puts past the end of a piece is due at its end.
        due: Floats = np.minimum(self._begins_s[index] + into, self._begins_s[index + 1])
        return due

    def _at(self, elapsed_s: float) -> tuple[int, float]:
        index = int(np.searchsorted(self._begins_s, elapsed_s, side="right")) - 1
        index = min(max(index, 0), len(self._start) - 1)
        return index, elapsed_s - float(self._begins_s[index])


class WaveRate:
    """A rate that swings: `mean` + `amplitude` sin(2 pi (t / period + phase))."""

    def __init__(self, mean: float, amplitude: float, period: float, phase: float) -> None:
        self._mean = mean
        self._amplitude = amplitude
        self._period = period
        self._phase = phase
        self._swing = amplitude * period / (2 * np.pi)
        self._offset = self._swing * float(np.cos(2 * np.pi * phase))

    def rate(self, elapsed_s: Any) -> Any:
        """The rate at times."""
        turns = elapsed_s / self._period + self._phase
        return self._mean + self._amplitude * np.sin(2 * np.pi * turns)

    def count(self, elapsed_s: Any) -> Any:
        """The integral of the rate."""
        turns = elapsed_s / self._period + self._phase
        return self._mean * elapsed_s + self._offset - self._swing * np.cos(2 * np.pi * turns)

    def due_s(self, number: Floats) -> Floats:
        """The inverse of the integral; shape as given.

        Newton's method between bounds that close in. Each element stops by itself, so that its
        result does not depend on which others are asked with it.
        """
        reach = 2 * abs(self._swing) / self._mean
        due = np.maximum(number / self._mean, 0.0)
        low, high = np.maximum(due - reach, 0.0), due + reach
        open_ = np.arange(len(number))
        for _ in range(_STEPS):
            at, wanted = due[open_], number[open_]
            off = self.count(at) - wanted
            going = np.abs(off) > 1e-9 + 1e-15 * np.abs(wanted)
            open_, at, off = open_[going], at[going], off[going]
            if not len(open_):
                break
            above = off > 0
            high[open_[above]] = at[above]
            low[open_[~above]] = at[~above]
            slope = self.rate(at)
            step = np.divide(off, slope, out=np.full_like(off, np.inf), where=slope > 0)
            new = at - step
            inside = (new > low[open_]) & (new < high[open_])
            due[open_] = np.where(inside, new, (low[open_] + high[open_]) / 2)
        return due
