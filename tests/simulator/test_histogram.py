from __future__ import annotations

import numpy as np
import pytest

from simulator.histogram import Histogram


def test_the_histogram_is_within_a_per_cent():
    histogram = Histogram()
    assert histogram.percentile_s(99) == 0
    histogram.record(np.array([]))
    seconds = np.arange(1, 10_001) / 1000
    histogram.record(seconds[:5000])
    histogram.record(seconds[5000:])
    for percent in (1, 50, 90, 99, 99.9):
        assert histogram.percentile_s(percent) == pytest.approx(percent / 10, rel=0.01)
    assert histogram.percentile_s(100) == histogram.max_s == 10.0
    histogram.record(np.array([-1.0, 1e9]))
    assert histogram.max_s == 1e9
    assert histogram.percentile_s(0.001) == pytest.approx(1e-6, rel=0.01)
