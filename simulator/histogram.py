"""A histogram of times from microseconds to hours, at a relative error under one per cent."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

_PER_OCTAVE = 128
_OCTAVES = 34


class Histogram:
    """Counts of times; its size does not depend on how many are recorded."""

    def __init__(self) -> None:
        self._counts: NDArray[np.int64] = np.zeros(_PER_OCTAVE * _OCTAVES, dtype=np.int64)
        self.max_s = 0.0

    def record(self, seconds: NDArray[np.float64]) -> None:
        """Adds times; negative ones count as zero."""
        if not len(seconds):
            return
        microseconds = np.maximum(seconds * 1e6, 1.0)
        index = (np.log2(microseconds) * _PER_OCTAVE).astype(np.int64)
        np.minimum(index, len(self._counts) - 1, out=index)
        # In place: of a request's few times, a sum of all counts would be most of the work.
        np.add.at(self._counts, index, 1)
        self.max_s = max(self.max_s, float(seconds.max()))

    def percentile_s(self, percent: float) -> float:
        """The time that `percent` of the recorded ones do not exceed; 0 where there are none."""
        total = int(self._counts.sum())
        if not total:
            return 0.0
        index = int(np.searchsorted(np.cumsum(self._counts), percent / 100 * total))
        return min(float(2 ** ((index + 1) / _PER_OCTAVE)) / 1e6, self.max_s)

    def merge(self, other: Histogram) -> None:
        """Adds what another one has counted."""
        self._counts += other._counts
        self.max_s = max(self.max_s, other.max_s)

    def since(self, before: Histogram) -> Histogram:
        """What was recorded since an earlier state, which becomes this one."""
        grown = Histogram()
        grown._counts = self._counts - before._counts
        grown.max_s = self.max_s
        before._counts = self._counts.copy()
        return grown

    def buckets(self) -> list[tuple[float, int]]:
        """(upper end in seconds, count) of the buckets that are not empty."""
        filled = np.flatnonzero(self._counts)
        ends = 2.0 ** ((filled + 1) / _PER_OCTAVE) / 1e6
        return list(zip(ends.tolist(), self._counts[filled].tolist(), strict=True))

    def to_json(self) -> dict[str, Any]:
        """What is counted, for another process: the buckets that are not empty."""
        filled = np.flatnonzero(self._counts)
        return {
            "buckets": filled.tolist(),
            "counts": self._counts[filled].tolist(),
            "max_s": self.max_s,
        }

    @classmethod
    def from_json(cls, told: dict[str, Any]) -> Histogram:
        """The histogram that `to_json` told."""
        histogram = cls()
        histogram._counts[told["buckets"]] = told["counts"]
        histogram.max_s = told["max_s"]
        return histogram
