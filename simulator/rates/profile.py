"""Phases in sequence: the rate of a whole run."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from simulator.rates.arrivals import PoissonArrivals

if TYPE_CHECKING:
    from collections.abc import Sequence

    from simulator.rates.base import Shape

Floats = NDArray[np.float64]


class RateProfile:
    """Phases in sequence.

    Args:
        phases: One after the other.
        seed: The scenario's seed, for arrivals at random.

    Attributes:
        duration_s: Seconds of all phases together.
        total: Readings that are due in that time.
        peak: Highest rate, readings per second.
    """

    def __init__(self, phases: Sequence[Shape], seed: int = 0) -> None:
        self.phases = phases
        self._arrivals: list[Shape | PoissonArrivals] = [
            PoissonArrivals(phase, seed, index) if phase.arrivals == "poisson" else phase
            for index, phase in enumerate(phases)
        ]
        durations = np.array([phase.duration for phase in phases], dtype=np.float64)
        counts = np.array(
            [
                told.total if isinstance(told, PoissonArrivals) else told.count(told.duration)
                for told in self._arrivals
            ],
            dtype=np.float64,
        )
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
        inside = self._arrivals[index].count(elapsed_s - float(self._starts_s[index]))
        return float(self._starts_n[index]) + inside

    def due_s(self, numbers: NDArray[np.int64]) -> Floats:
        """When each reading is due, seconds from the start; shape and order as given."""
        wanted = numbers.astype(np.float64)
        which = np.searchsorted(self._starts_n, wanted, side="right") - 1
        which = np.clip(which, 0, len(self.phases) - 1)
        due = np.empty(len(wanted), dtype=np.float64)
        for index, arrivals in enumerate(self._arrivals):
            chosen = which == index
            if chosen.any():
                inside = wanted[chosen] - self._starts_n[index]
                due[chosen] = arrivals.due_s(inside) + self._starts_s[index]
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
