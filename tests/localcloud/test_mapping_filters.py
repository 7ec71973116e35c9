from __future__ import annotations

import base64
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from localcloud.functions.filters import RecordFilter
from localcloud.http import AwsError
from localcloud.seams import StreamRecord

SOURCE = "arn:aws:kinesis:us-east-1:123456789012:stream/s"


def takes(pattern, data, key: str = "k") -> bool:
    """Whether a filter takes a record; data that is no bytes is put as JSON."""
    raw = data if isinstance(data, bytes) else json.dumps(data).encode()
    record = StreamRecord("7", key, base64.b64encode(raw).decode(), 1_764_000_000_123)
    criteria = {"Filters": [{"Pattern": json.dumps(pattern)}]}
    return RecordFilter(criteria).takes(record, "shardId-0", SOURCE)


@pytest.mark.parametrize(
    ("rule", "matching", "others"),
    [
        ([None], [None], [0, "", False, "null"]),
        ([""], [""], ["x", None]),
        (["a"], ["a", ["b", "a"]], ["A", "ab", ["b"], 1]),
        (["a", "b"], ["a", "b"], ["c"]),
        ([300], [300], [300.0, "300", 301]),
        ([True], [True], [1, "true", False]),
        ([{"prefix": "eu-"}], ["eu-west-1"], ["us-eu-", 1]),
        ([{"suffix": ".png"}], ["a.png"], ["png", ".PNG"]),
        ([{"equals-ignore-case": "Alice"}], ["alice", "ALICE"], ["Bob"]),
        ([{"anything-but": ["x", 1]}], ["y", 2, 1.0], ["x", 1]),
        ([{"anything-but": "x"}], ["y", None], ["x"]),
        ([{"anything-but": {"prefix": "init"}}], ["done"], ["initial"]),
        ([{"numeric": ["=", 100]}], [100, 100.0], [99, "100"]),
        ([{"numeric": [">", 10, "<=", 20]}], [10.5, 20], [10, 21, "15"]),
        ([{"exists": True}], ["x", 0, None], [{"nested": 1}]),
        (["x", {"numeric": ["<", 0]}], ["x", -1], ["y", 1]),
    ],
)
def test_a_rule_takes_what_it_says(rule, matching, others):
    pattern = {"data": {"field": rule}}
    assert [value for value in matching if not takes(pattern, {"field": value})] == []
    assert [value for value in others if takes(pattern, {"field": value})] == []


def test_absence_can_be_asked_for():
    pattern = {"data": {"outer": {"field": [{"exists": False}]}}}
    assert takes(pattern, {"outer": {}})
    assert takes(pattern, {})
    assert not takes(pattern, {"outer": {"field": 1}})


def test_all_fields_of_a_pattern_have_to_match_and_nested_ones_too():
    pattern = {"data": {"order": {"type": ["buy"], "count": [{"numeric": [">", 5]}]}}}
    assert takes(pattern, {"order": {"type": "buy", "count": 6, "more": 1}})
    assert not takes(pattern, {"order": {"type": "buy", "count": 5}})
    assert not takes(pattern, {"order": "buy"})
    assert takes(pattern, {"order": [{"type": "sell"}, {"type": "buy", "count": 6}]})


def test_or_takes_one_alternative_of_several_fields():
    pattern = {"data": {"$or": [{"a": [1]}, {"b": [{"prefix": "x"}]}], "c": [True]}}
    assert takes(pattern, {"a": 1, "c": True})
    assert takes(pattern, {"b": "xy", "c": True})
    assert not takes(pattern, {"b": "xy", "c": False})
    assert not takes(pattern, {"a": 2, "b": "y", "c": True})


def test_metadata_is_filtered_beside_data():
    assert takes({"partitionKey": ["p"]}, b"not JSON", key="p")
    assert not takes({"partitionKey": ["p"]}, {}, key="q")
    assert takes({"partitionKey": ["p"], "data": {"a": [1]}}, {"a": 1}, key="p")


@pytest.mark.parametrize("data", [b"not JSON", b"\xff\xfe\x00", b"", b'"text"', b"[1]"])
def test_data_that_is_no_object_matches_no_pattern_of_data(data):
    assert not takes({"data": {"a": [1]}}, data)


def test_data_that_is_not_json_does_not_even_match_the_absence_of_a_field():
    assert not takes({"data": {"a": [{"exists": False}]}}, b"not JSON")


def test_one_of_several_filters_is_enough_and_none_takes_all():
    patterns = [{"Pattern": json.dumps({"data": {"a": [n]}})} for n in (1, 2)]
    record = StreamRecord("7", "k", base64.b64encode(b'{"a": 2}').decode(), 0)
    assert RecordFilter({"Filters": patterns}).takes(record, "s", SOURCE)
    assert not RecordFilter({"Filters": patterns[:1]}).takes(record, "s", SOURCE)
    assert not RecordFilter(None)
    assert not RecordFilter({})


@settings(deadline=None)
@given(st.integers(-(10**6), 10**6), st.integers(-(10**6), 10**6), st.integers(0, 10**6))
def test_a_range_holds_exactly_the_numbers_between_its_bounds(number, low, width):
    pattern = {"data": {"n": [{"numeric": [">=", low, "<", low + width]}]}}
    assert takes(pattern, {"n": number}) is (low <= number < low + width)


@pytest.mark.parametrize(
    "pattern",
    [
        [],
        "text",
        {"data": ["plain"]},
        {"data": {"a": "x"}},
        {"data": {"a": []}},
        {"data": {"a": [{"wildcard": "x*"}]}},
        {"data": {"a": [{"prefix": 1}]}},
        {"data": {"a": [{"prefix": "x", "suffix": "y"}]}},
        {"data": {"a": [{"numeric": [">"]}]}},
        {"data": {"a": [{"numeric": ["~", 1]}]}},
        {"data": {"a": [{"numeric": [">", "1"]}]}},
        {"data": {"a": [{"exists": "yes"}]}},
        {"data": {"a": [{"anything-but": []}]}},
        {"data": {"a": [{"anything-but": {"numeric": ["=", 1]}}]}},
        {"$or": [{"a": [1]}]},
        {"data": {"a": [[1]]}},
    ],
)
def test_a_pattern_that_is_none_is_refused(pattern):
    with pytest.raises(AwsError, match="Invalid filter pattern definition"):
        RecordFilter({"Filters": [{"Pattern": json.dumps(pattern)}]})
