"""Poisson arrivals that can be asked for by their number, in any order, and are always the same.

The expected readings of a phase are cut into cells of equal expectation. How many arrive in a cell
is drawn from the Poisson distribution; where in it they arrive, uniformly. That is a Poisson
process (of unit rate, over the integral of the phase's rate), and any arrival is found from the
seed without drawing those before it but for the counts of the cells.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from simulator import noise

if TYPE_CHECKING:
    from simulator.rates.base import Shape

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
CELL = 64.0


class PoissonArrivals:
    """The arrivals of one phase.

    Args:
        shape: Whose rate they have in the mean.
        seed: The scenario's seed.
        index: Which phase it is.
    """

    def __init__(self, shape: Shape, seed: int, index: int) -> None:
        self._shape = shape
        expected = shape.count(shape.duration)
        self._stream = noise.purpose(seed, "arrivals", str(index))
        cells = max(1, math.ceil(expected / CELL))
        self._width = np.full(cells, CELL)
        self._width[-1] = expected - CELL * (cells - 1)
        drawn = noise.uniform(noise.purpose(seed, "arriving", str(index)), np.arange(cells))
        counts = np.searchsorted(_cumulative(CELL), drawn, side="right")
        counts[-1] = np.searchsorted(_cumulative(float(self._width[-1])), drawn[-1], side="right")
        self._before: Ints = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
        self.total = int(self._before[-1])

    def due_s(self, number: Floats) -> Floats:
        """When the arrivals of these numbers come, seconds into the phase."""
        whole = np.clip(np.floor(number + 1e-9).astype(np.int64), 0, max(0, self.total - 1))
        cell = np.searchsorted(self._before, whole, side="right") - 1
        asked, which = np.unique(cell, return_inverse=True)
        places, first = self._places(asked)
        at = places[first[which] + whole - self._before[cell]]
        return self._shape.due_s(cell * CELL + self._width[cell] * at)

    def count(self, elapsed_s: float) -> float:
        """How many have come by `elapsed_s` seconds into the phase."""
        expected = self._shape.count(elapsed_s)
        cell = min(int(expected / CELL), len(self._width) - 1)
        places, _ = self._places(np.array([cell]))
        # What has come is told by the same times that they are sent at.
        due = self._shape.due_s(cell * CELL + self._width[cell] * places)
        return float(self._before[cell] + np.searchsorted(due, elapsed_s, side="right"))

    def _places(self, cells: Ints) -> tuple[Floats, Ints]:
        """(places of all arrivals of some cells, ascending in each; where each cell's begin)."""
        counts = self._before[cells + 1] - self._before[cells]
        first: Ints = np.concatenate([[0], np.cumsum(counts)[:-1]]).astype(np.int64)
        owner = np.repeat(cells, counts)
        within = np.arange(len(owner)) - np.repeat(first, counts)
        places = noise.uniform(self._stream, owner, within)
        return places[np.lexsort((places, owner))], first


def _cumulative(mean: float) -> Floats:
    """The Poisson distribution's cumulative probabilities of 0, 1, 2, ..."""
    if mean <= 0:
        return np.ones(1)
    most = int(mean + 14 * math.sqrt(mean) + 20)
    number = np.arange(most + 1)
    logs = number * math.log(mean) - mean - np.array([math.lgamma(n + 1) for n in number.tolist()])
    cumulative: Floats = np.cumsum(np.exp(logs))
    return cumulative


def crowding(rate_per_s: float, devices: int, gap_s: float) -> float:
    """A bound on the chance that as many readings as there are devices come within a gap.

    Chernoff's bound of the Poisson distribution's tail.
    """
    expected = rate_per_s * gap_s
    if devices <= expected:
        return 1.0
    return math.exp(-expected + devices * (1 + math.log(expected / devices)))
