from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from localcloud.cloudwatch.metrics import MetricStore
from localcloud.logs.emf import MalformedEmfError, extract, looks_like_emf

AT_MS = 1_714_564_800_500


def line(metrics: list[Any], dimensions: list[list[str]], **members: Any) -> str:
    directive = {"Namespace": "Fleet", "Dimensions": dimensions, "Metrics": metrics}
    return json.dumps({"_aws": {"Timestamp": AT_MS, "CloudWatchMetrics": [directive]}, **members})


def totals(store: MetricStore) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    return {
        (name, dimensions): sum(bucket.total for bucket in series.seconds.values())
        for (_, name, dimensions), series in store.series.items()
    }


def test_a_metric_is_published_for_every_set_of_dimensions():
    store = MetricStore()
    text = line([{"Name": "n", "Unit": "Count"}], [["site"], ["site", "class"], []],
                n=3, site="north", **{"class": "7"})  # fmt: skip

    assert extract(text, store) == 3
    assert totals(store) == {
        ("n", (("site", "north"),)): 3.0,
        ("n", (("class", "7"), ("site", "north"))): 3.0,
        ("n", ()): 3.0,
    }


def test_samples_keep_their_time_and_unit():
    store = MetricStore()
    extract(line([{"Name": "lag", "Unit": "Milliseconds"}], [[]], lag=[1, 2.5]), store)

    (series,) = store.series.values()
    assert series.unit == "Milliseconds"
    assert {s: (b.total, b.count) for s, b in series.seconds.items()} == {1_714_564_800: (3.5, 2.0)}


@settings(deadline=None)
@given(st.lists(st.integers(-1000, 1000), min_size=1, max_size=100))
def test_every_value_of_an_array_is_a_sample(values):
    store = MetricStore()

    assert extract(line([{"Name": "n"}], [[]], n=values), store) == len(values)
    assert totals(store) == {("n", ()): float(sum(values))}


@pytest.mark.parametrize(
    "text",
    [
        '{"_aws": {"CloudWatchMetrics": [',
        '{"_aws": {"CloudWatchMetrics": []}}',
        line([{"Name": "n"}], [[]]),
        line([{"Name": "n"}], [[]], n="3"),
        line([{"Name": "n"}], [[]], n=True),
        line([{"Name": "n"}], [["site"]], n=3),
        line([{"Name": "n"}], [[]], n=list(range(101))),
        line([{"Name": "n"}] * 101, [[]], n=1),
        line(
            [{"Name": "n"}], [[f"d{i}" for i in range(31)]], n=1, **{f"d{i}": "" for i in range(31)}
        ),
        line([{"Name": "n"}], [["site"]], n=1, site=7),
        line([{"Name": "n", "Unit": "Fortnights"}], [[]], n=1),
        line([{"Name": "n", "StorageResolution": 30}], [[]], n=1),
        line([{"Name": "a.b"}], [[]], a={"b": 1}),
        line([{"Name": ""}], [[]], **{"": 1}),
        line([{"Name": "good"}, {"Name": "n"}], [[]], good=1, n="x"),
    ],
)
def test_a_malformed_line_publishes_nothing(text):
    store = MetricStore()

    assert looks_like_emf(text)
    with pytest.raises(MalformedEmfError):
        extract(text, store)
    assert store.series == {}


@pytest.mark.parametrize(
    "text", ["plain", '{"level": "INFO"}', "[1]", '{"_aws": 1}', '{"CloudWatchMetrics": 1}']
)
def test_other_lines_are_not_taken_for_metrics(text):
    assert not looks_like_emf(text)


def test_what_lambda_puts_before_a_document_is_passed_over():
    store = MetricStore()
    document = line([{"Name": "n", "StorageResolution": 1}], [[]], n=2)

    assert extract(f"[INFO]\t2026-01-01T00:00:00.000Z\tid\t{document}", store) == 1
    assert totals(store) == {("n", ()): 2.0}


def test_what_is_malformed_is_counted_for_its_log_group():
    store = MetricStore()
    for text in ('{"_aws": {"CloudWatchMetrics": [', line([{"Name": "n"}], [[]])):
        with pytest.raises(MalformedEmfError) as caught:
            extract(text, store)
        caught.value.count("/group", store)

    where = (("LogGroupName", "/group"),)
    assert totals(store) == {
        ("EMFParsingErrors", where): 1.0,
        ("EMFValidationErrors", where): 1.0,
    }
