"""Numbers as members of JSON objects have them, in columns: a colon, and what comes after it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import orjson
import pyarrow as pa

from simulator import columns

if TYPE_CHECKING:
    from numpy.typing import NDArray

# What separates the numbers of a JSON array, as what comes before each of them.
_AS_COLONS, _COLON = bytes.maketrans(b"[,", b"::"), ord(":")
# From here on Python writes a number with an exponent, and orjson otherwise.
_PLAIN = (1e-4, 1e16)
# Values of a signal whose texts are kept: at most half a megabyte.
MOST_KEPT = 16_384


def whole(column: NDArray[np.int64]) -> pa.Array:
    """Whole numbers."""
    return _numbers(column)


def decimal(column: NDArray[np.float64]) -> pa.Array:
    """Numbers, each the shortest that reads as the same one, as `repr` writes it."""
    size = np.abs(column)
    plain = ((size >= _PLAIN[0]) & (size < _PLAIN[1])) | (size == 0)
    if plain.all():
        return _numbers(column)
    return pa.array([b":" + repr(number).encode() for number in column.tolist()], columns.BINARY)


def _numbers(column: NDArray[Any]) -> pa.Array:
    if not len(column):
        return pa.array([], columns.BINARY)
    # An array of JSON that reads "[1,2]" has the texts "[1" and ",2" but for what begins them.
    text = orjson.dumps(np.ascontiguousarray(column), option=orjson.OPT_SERIALIZE_NUMPY)
    text = text.translate(_AS_COLONS)
    begins = np.flatnonzero(np.frombuffer(text, np.uint8) == _COLON)
    return columns.cut(text, np.append(begins[1:], len(text) - 1))


class Member:
    """A member whose values are rounded to some decimals, and few enough that each is kept as text.

    Args:
        label: What comes before the colon.
        decimals: Decimals of the values.
    """

    def __init__(self, label: bytes, decimals: int) -> None:
        self._label = columns.constant(label)
        self._scale = 10.0**decimals
        # Texts of the values low / scale, (low + 1) / scale, up to high / scale.
        self._low, self._high = 0, -1
        self._texts = pa.array([], columns.BINARY)

    def texts(self, column: NDArray[np.float64]) -> list[pa.Array | pa.Scalar]:
        """Label and value as the parts of a text."""
        with np.errstate(over="ignore"):
            steps = np.rint(column * self._scale)
        if len(column) and self._keeps(float(steps.min()), float(steps.max())):
            # To the last bit: a value that was not rounded, and a negative zero, are others.
            rounded = steps / self._scale + 0.0
            if (rounded.view(np.int64) == column.view(np.int64)).all():
                return [columns.taken(self._texts, steps.astype(np.int64) - self._low)]
        return [self._label, decimal(column)]

    def _keeps(self, low: float, high: float) -> bool:
        """Whether there are texts of all values between two; makes them, where they are few."""
        if self._low <= low and high <= self._high:
            return True
        if self._high >= self._low:
            low, high = min(low, self._low), max(high, self._high)
        if not high - low < MOST_KEPT or not abs(low) < 1 / np.finfo(np.float64).eps:
            return False
        # Values that wander do not ask for a new table each time.
        more = min((high - low) // 4, (MOST_KEPT - 1 - (high - low)) // 2)
        self._low, self._high = int(low - more), int(high + more)
        values = np.arange(self._low, self._high + 1) / self._scale
        self._texts = columns.side_by_side(self._label, decimal(values))
        return True
