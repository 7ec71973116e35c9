"""Percentiles of many groups at once: of devices, or of bins of time."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from fleetcast.verify.history import Ints

Floats = NDArray[np.float64]
NAMES = {"p50": 0.5, "p95": 0.95, "p99": 0.99, "max": 1.0}


def by_group(values: Floats, group: Ints, groups: int, share: float) -> Floats:
    """A percentile of the values of each group, by nearest rank; shape (groups,).

    Args:
        values: Shape (n,); NaN is left out.
        group: Which group each belongs to, from 0, shape (n,).
        groups: How many groups there are; one without values is NaN.
        share: Above 0 and at most 1; 1 is the maximum.
    """
    known = np.isfinite(values)
    values, group = values[known], group[known]
    order = np.lexsort((values, group))
    values, group = values[order], group[order]
    starts = np.searchsorted(group, np.arange(groups), side="left")
    ends = np.searchsorted(group, np.arange(groups), side="right")
    result = np.full(groups, np.nan)
    some = ends > starts
    rank = starts + np.ceil(share * (ends - starts)).astype(np.int64) - 1
    result[some] = values[rank[some]]
    return result


def named(values: Floats) -> dict[str, float]:
    """p50, p95, p99 and max of the values that are known, rounded to a thousandth; empty of none."""
    known = values[np.isfinite(values)]
    if not len(known):
        return {}
    found = np.quantile(known, list(NAMES.values()), method="inverted_cdf")
    return {name: round(float(value), 3) for name, value in zip(NAMES, found, strict=True)}
