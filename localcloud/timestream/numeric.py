"""Functions of time series that numpy computes: DuckDB calls them with lists, a chunk at a time.

A time series comes as its times in nanoseconds and its values; what is asked of it as times.
Follows "Interpolation functions" and "Correlation functions" of Timestream's developer guide.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from localcloud.timestream.texts import double_text

if TYPE_CHECKING:
    from collections.abc import Callable

    import duckdb
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]
    Ints = NDArray[np.int64]

SPLINE_POINTS = 3


def register(connection: duckdb.DuckDBPyConnection) -> None:
    """Makes the functions known to DuckDB."""
    lists = ["BIGINT[]", "DOUBLE[]", "BIGINT[]"]
    for name, at in (("__linear", linear), ("__spline", spline), ("__locf", locf)):
        connection.create_function(name, _over_lists(at), lists, "DOUBLE[]", type="arrow")
    pair = ["DOUBLE[]", "DOUBLE[]"]
    for name, of in (("__pearson", pearson), ("__spearman", spearman)):
        connection.create_function(name, _over_pairs(of), pair, "DOUBLE", type="arrow")
    connection.create_function("__double_text", _double_texts, ["DOUBLE"], "VARCHAR", type="arrow")


def linear(times: Ints, values: Floats, at: Ints) -> Floats:
    """The straight line between neighbours; NaN before the first time and after the last.

    Args:
        times: int64[n], nanoseconds, ascending.
        values: float64[n].
        at: int64[m], which times are asked for.

    Returns:
        float64[m].
    """
    # Relative to the first time, for nanoseconds since the epoch do not fit a double.
    start = times[0]
    found: Floats = np.interp(
        (at - start).astype(float), (times - start).astype(float), values, np.nan, np.nan
    )
    return found


def locf(times: Ints, values: Floats, at: Ints) -> Floats:
    """The last value at or before each time; NaN before the first. Arrays as of `linear`."""
    place = np.searchsorted(times, at, side="right") - 1
    return np.where(place >= 0, values[np.maximum(place, 0)], np.nan)


def spline(times: Ints, values: Floats, at: Ints) -> Floats:
    """The natural cubic spline through all points; NaN outside of them. Arrays as of `linear`.

    Fewer than three points have no curvature, and are joined by a line.
    """
    count = len(times)
    if count < SPLINE_POINTS:
        return linear(times, values, at)
    x = (times - times[0]).astype(float) / 1e9
    step = np.diff(x)
    slope = np.diff(values) / step
    # Second derivatives, zero at both ends: a tridiagonal system, eliminated forwards.
    diagonal = 2 * (step[:-1] + step[1:])
    right = 6 * np.diff(slope)
    for k in range(1, count - 2):
        factor = step[k] / diagonal[k - 1]
        diagonal[k] -= factor * step[k]
        right[k] -= factor * right[k - 1]
    bend = np.zeros(count)
    for k in range(count - 3, -1, -1):
        bend[k + 1] = (right[k] - step[k + 1] * bend[k + 2]) / diagonal[k]
    asked = (at - times[0]).astype(float) / 1e9
    place = np.clip(np.searchsorted(x, asked, side="right") - 1, 0, count - 2)
    away, width = asked - x[place], step[place]
    found: Floats = (
        values[place]
        + away * (slope[place] - width * (2 * bend[place] + bend[place + 1]) / 6)
        + away**2 * bend[place] / 2
        + away**3 * (bend[place + 1] - bend[place]) / (6 * width)
    )
    return np.where((at < times[0]) | (at > times[-1]), np.nan, found)


def pearson(left: Floats, right: Floats) -> float:
    """The coefficient of correlation; NaN where one side does not change."""
    a, b = left - left.mean(), right - right.mean()
    scale = np.sqrt((a @ a) * (b @ b))
    return float(a @ b / scale) if scale else float("nan")


def spearman(left: Floats, right: Floats) -> float:
    """The correlation of the ranks; equal values share the mean of their ranks."""
    return pearson(_ranks(left), _ranks(right))


def _ranks(values: Floats) -> Floats:
    _, place, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    ranks: Floats = (last - (counts - 1) / 2)[place]
    return ranks


def _over_lists(at: Callable[[Ints, Floats, Ints], Floats]) -> Callable[..., pa.Array]:
    def run(times: Any, values: Any, asked: Any) -> pa.Array:
        out: list[list[float | None] | None] = []
        rows = zip(times.to_pylist(), values.to_pylist(), asked.to_pylist(), strict=True)
        for when, what, points in rows:
            known = [(t, v) for t, v in zip(when or (), what or (), strict=True) if v is not None]
            if when is None or points is None or not known:
                out.append(None if points is None else [None] * len(points))
                continue
            found = at(
                np.array([t for t, _ in known], np.int64),
                np.array([v for _, v in known], float),
                np.array(points, np.int64),
            )
            out.append([None if np.isnan(value) else float(value) for value in found])
        return pa.array(out, pa.list_(pa.float64()))

    return run


def _over_pairs(of: Callable[[Floats, Floats], float]) -> Callable[..., pa.Array]:
    def run(left: Any, right: Any) -> pa.Array:
        # Of infinite values it is NaN, without a word on standard error.
        with np.errstate(invalid="ignore"):
            out = [
                of(np.array(a, float), np.array(b, float)) if a and b else None
                for a, b in zip(left.to_pylist(), right.to_pylist(), strict=True)
            ]
        return pa.array(out, pa.float64())

    return run


def _double_texts(values: Any) -> pa.Array:
    texts = [None if value is None else double_text(value) for value in values.to_pylist()]
    return pa.array(texts, pa.string())
