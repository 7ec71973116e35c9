from __future__ import annotations

import math
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from localcloud.cloudwatch import metrics
from localcloud.cloudwatch.metrics import Bucket, MetricStore
from localcloud.cloudwatch.statistics import parse_extended, statistic_of


def bucket_of(values: list[float]) -> Bucket:
    bucket = Bucket()
    for value in values:
        bucket.add(value)
    return bucket


ONE_TO_TEN = bucket_of([float(n) for n in range(1, 11)])


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("SampleCount", 10), ("Sum", 55), ("Average", 5.5), ("Minimum", 1), ("Maximum", 10),
        ("p50", 5), ("p90", 9), ("p99.9", 10), ("p100", 10), ("p0", 1),
        ("tm90", 5), ("TM(10%:90%)", 5.5), ("TM(:90%)", 5), ("TM(50%:)", 8), ("IQM", 5.5),
        ("TM(2:4)", 3.5), ("TM(9:)", 10), ("TM(:2)", 1.5),
        ("tc90", 9), ("TC(2:4)", 2), ("TC(0.005%:0.030%)", 0.0025),
        ("ts90", 45), ("TS(80%:)", 19),
        ("wm90", (45 + 9) / 10), ("WM(10%:90%)", (1 + 44 + 9) / 10), ("WM(3:8)", (9 + 22 + 24) / 10),
        ("PR(:3)", 30), ("PR(3:5)", 20), ("PR(5:)", 50),
    ],
)  # fmt: skip
def test_statistics_are_as_defined(name, expected):
    assert statistic_of(name, ONE_TO_TEN) == pytest.approx(expected)


@pytest.mark.parametrize(
    "name",
    ["p101", "p", "q9", "tm", "TM()", "TM(:)", "TM(90%:10%)", "TM(10%:90)", "PR(10%:90%)",
     "TM(0%:101%)", "sum", "TM(%:9%)", "IQM(1:2)"],
)  # fmt: skip
def test_what_is_no_statistic_is_refused(name):
    with pytest.raises(ValueError, match="is not supported"):
        statistic_of(name, ONE_TO_TEN)


def test_there_are_no_percentiles_of_statistic_sets_and_negative_values():
    known = Bucket()
    known.add_set(12.0, 4.0, 3.0, 3.0)
    sets = Bucket()
    sets.add_set(12.0, 4.0, 1.0, 5.0)

    assert statistic_of("p90", known) == 3
    assert statistic_of("p90", sets) is None
    assert statistic_of("Average", sets) == 3
    assert statistic_of("p90", bucket_of([-1.0, 1.0])) is None
    assert statistic_of("PR(:0)", bucket_of([-1.0, 1.0])) == 50


@settings(deadline=None)
@given(st.lists(st.integers(0, 50).map(float), min_size=1, max_size=60), st.integers(1, 100))
def test_a_percentile_is_the_least_value_that_as_many_do_not_exceed(values, percent):
    ordered = sorted(values)
    expected = ordered[max(0, math.ceil(percent / 100 * len(ordered)) - 1)]

    assert statistic_of(f"p{percent}", bucket_of(values)) == expected


@settings(deadline=None)
@given(
    st.lists(st.floats(0, 1e6), min_size=1, max_size=60), st.integers(0, 100), st.integers(0, 100)
)
def test_trimming_agrees_with_itself(values, one, other):
    low, high = sorted((one, other))
    bucket, where = bucket_of(values), f"({low}%:{high}%)"
    count, total = statistic_of(f"TC{where}", bucket), statistic_of(f"TS{where}", bucket)

    assert count == pytest.approx((high - low) / 100 * len(values))
    mean = statistic_of(f"TM{where}", bucket)
    assert mean == pytest.approx(total / count) if count else mean is None


@pytest.mark.parametrize(("name", "least"), [("p99", 1000), ("p50", 20), ("p10", 100), ("tm99", 0)])
def test_percentiles_know_how_few_samples_are_too_few(name, least):
    assert parse_extended(name).least_samples == pytest.approx(least)


@settings(deadline=None)
@given(st.lists(st.floats(0, 1e4), min_size=1, max_size=400), st.integers(3, 50))
def test_putting_neighbours_together_keeps_weight_ends_and_nearly_the_sum(values, most):
    bucket = bucket_of(values)
    bucket.condense(most)

    assert len(bucket.values) <= most + 1
    assert sum(bucket.values.values()) == pytest.approx(len(values))
    assert (min(bucket.values), max(bucket.values)) == (min(values), max(values))
    kept = sum(value * weight for value, weight in bucket.values.items())
    assert kept == pytest.approx(math.fsum(values))


@given(st.lists(st.lists(st.integers(-50, 50) | st.floats(-1e6, 1e6), max_size=60), max_size=8))
def test_samples_that_come_together_count_as_those_that_come_one_by_one(groups):
    together = Bucket()
    for group in groups:
        together.add_all(group)

    assert together == bucket_of([float(value) for group in groups for value in group])


def test_a_second_keeps_a_bounded_number_of_values_and_close_percentiles():
    bucket = bucket_of([float(n) for n in range(10_000)])
    for start in range(10_000, 20_000, 100):
        bucket.add_all(range(start, start + 100))

    assert len(bucket.values) <= metrics.MAX_DISTINCT
    assert statistic_of("p99", bucket) == pytest.approx(19_800, rel=0.02)
    assert statistic_of("Sum", bucket) == sum(range(20_000))


def test_a_sample_of_each_metric_counts_as_those_that_are_put_one_by_one(monkeypatch):
    monkeypatch.setattr("localcloud.cloudwatch.metrics.time.time", lambda: 1_764_000_000.5)
    together, single = MetricStore(), MetricStore()
    where = {"b": "2", "a": "1"}
    for value in (1, 2.5):
        together.put_each("n", {"x": value, "y": 0}, unit={"x": "Bytes", "y": "Count"}.__getitem__,
                          dimensions=where)  # fmt: skip
        single.put("n", "x", value, unit="Bytes", dimensions=where)
        single.put("n", "y", 0, unit="Count", dimensions=where)

    assert together.series == single.series


def test_old_seconds_become_minutes_and_are_forgotten(monkeypatch):
    now = [time.time() // 60 * 60 - 20 * 86_400]
    monkeypatch.setattr("localcloud.cloudwatch.metrics.time.time", lambda: now[0])
    store = MetricStore()
    start = int(now[0])
    for second in range(120):
        store.put("n", "m", [float(v) for v in range(100)], timestamp_s=start + second)
    (series,) = store.series.values()

    def sums(period_s: int) -> list[float]:
        found = store.periods("n", "m", None, start, start + 120, period_s)
        return [bucket.total for _, bucket in sorted(found.items())]

    assert sums(60) == [60 * 4950.0] * 2
    now[0] += metrics.EXACT_S + 200
    store.put("n", "m", 1.0)
    assert all(
        len(series.seconds[start + s].values) <= metrics.OLD_DISTINCT + 1 for s in range(120)
    )
    now[0] += metrics.SECONDS_KEPT_S + 200
    store.put("n", "m", 1.0)
    assert not any(start + s in series.seconds for s in range(120))
    assert len(series.minutes[start].values) <= metrics.MINUTE_DISTINCT + 1
    assert sums(60) == sums(1) == [60 * 4950.0] * 2
    now[0] += metrics.KEPT_S
    store.put("n", "other", 1.0)
    now[0] += 100
    store.put("n", "other", 1.0)
    assert sums(60) == []
