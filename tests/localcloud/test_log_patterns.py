from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from localcloud.http import AwsError
from localcloud.logs.patterns import compile_pattern

EVENT = {
    "eventType": "UpdateTrail",
    "sourceIPAddress": "111.111.111.111",
    "arrayKey": ["value", "another value"],
    "objectList": [{"name": "a", "id": 1}, {"name": "b", "id": 2}],
    "SomeObject": None,
    "ThisFlag": True,
    "latency": 512.5,
    "code": "400",
    "nested": {"a-b": {"c.d": "deep"}},
    "coordinates": [[0, 1, 2], [4, 5, 6]],
}


def matches(pattern: str, message) -> bool:
    text = message if isinstance(message, str) else json.dumps(message)
    return compile_pattern(pattern).find(text) is not None


# Terms


@pytest.mark.parametrize(
    ("pattern", "matching", "others"),
    [
        ("", ["", "anything"], []),
        ("ERROR", ["[ERROR 400] BAD", "ERRORCODE: -1"], ["error", ""]),
        ("ERROR Exception", ["[ERROR] Exception", "Exception ERROR"], ["ERROR"]),
        ('"Failed to process"', ["[WARN] Failed to process it"], ["Failed process to"]),
        ("ERROR -WARN", ["ERROR x"], ["ERROR WARN", "x"]),
        ('ERROR -"a b"', ["ERROR ab"], ["ERROR a b"]),
        ("?ERROR ?WARN", ["ERROR", "WARN"], ["INFO"]),
        ("?ERROR INFO", ["INFO"], ["ERROR"]),
        ("%[Ee]rror|fail$%", ["an error", "did fail"], ["ERROR", "failed"]),
        (r'"say \"hi\""', ['I say "hi"'], ["say hi"]),
    ],
)
def test_terms_match_as_documented(pattern, matching, others):
    assert [m for m in matching if not matches(pattern, m)] == []
    assert [m for m in others if matches(pattern, m)] == []


# JSON


@pytest.mark.parametrize(
    "pattern",
    [
        '{ $.eventType = "UpdateTrail" }',
        "{ $.eventType = UpdateTrail }",
        "{ $.eventType = Update* }",
        "{ $.eventType = *Trail }",
        "{ $.eventType = *date* }",
        "{ $.eventType = %^Up.*l$% }",
        "{ $.sourceIPAddress != 123.123.* }",
        '{ $.arrayKey[0] = "value" }',
        "{ $.objectList[1].id = 2 }",
        "{ $.objectList[*].id = 2 }",
        "{ $.SomeObject IS NULL }",
        "{ $.SomeOtherObject NOT EXISTS }",
        "{ $.ThisFlag IS TRUE }",
        "{ $.latency >= 500 && $.latency < 10e3 }",
        "{ $.latency = * }",
        "{ $.latency > +500 }",
        "{ $.code = 400 }",
        "{ $.nested.a-b['c.d'] = deep }",
        '{ $.nested.*["c.d"] = deep }',
        "{ $.coordinates[1][2] = 6 }",
        '{ ($.eventType = x && $.code = 1) || $.arrayKey[1] = "another value" }',
        "{$.eventType=UpdateTrail||$.code=1&&$.code=2}",
    ],
)
def test_conditions_on_json_hold(pattern):
    assert matches(pattern, EVENT)


@pytest.mark.parametrize(
    "pattern",
    [
        "{ $.eventType = Trail }",
        "{ $.eventType = Up*il }",
        "{ $.eventType > 5 }",
        "{ $.arrayKey = value }",
        "{ $.arrayKey != value }",
        "{ $.missing = * }",
        "{ $.missing != 1 }",
        "{ $.latency NOT EXISTS }",
        "{ $.ThisFlag IS FALSE }",
        "{ $.eventType IS NULL }",
        "{ $.objectList[2].id = 2 }",
        "{ ($.eventType = UpdateTrail || $.code = 1) && $.code = 2 }",
    ],
)
def test_conditions_on_json_do_not_hold(pattern):
    assert not matches(pattern, EVENT)


@pytest.mark.parametrize("message", ["text", "{", "[1]", '"x"', ""])
def test_what_is_no_json_object_matches_no_json_pattern(message):
    assert not matches("{ $.x NOT EXISTS }", message)


@settings(deadline=None)
@given(st.floats(-1e6, 1e6), st.floats(-1e6, 1e6))
def test_numbers_are_compared_exactly(value, bound):
    for operator, holds in (
        ("<", value < bound),
        ("<=", value <= bound),
        ("=", value == bound),
        ("!=", value != bound),
        (">=", value >= bound),
        (">", value > bound),
    ):
        assert matches(f"{{ $.n {operator} {bound!r} }}", {"n": value}) is holds


# Space-delimited

LINE = '127.0.0.1 - frank [10/Oct/2000:13:25:15 -0700] "GET /index.html HTTP/1.0" 404 1534'


@pytest.mark.parametrize(
    ("pattern", "holds"),
    [
        ("[ip, user, username, timestamp, request, status_code, bytes]", True),
        ("[ip, user, username, timestamp, request, status_code]", False),
        ("[..., status_code, bytes]", True),
        ("[ip, ..., status_code = 4*, bytes > 1000]", True),
        ("[ip, user, ...]", True),
        ("[..., request = *html*, status_code = 4* && status_code != 403, bytes]", True),
        ("[..., status_code = 404 || status_code = 500, bytes < 1000]", False),
        ("[ip = 10.*, ...]", False),
        ("[..., request = %GET|PUT%, status, bytes]", True),
        ("[w1=ERROR, w2]", False),
    ],
)
def test_fields_are_matched_by_their_place(pattern, holds):
    assert matches(pattern, LINE) is holds


def test_fields_are_found_by_name_or_place():
    found = compile_pattern("[..., request=*.html*, status_code=4*,]").find(LINE)

    assert found == {
        "$1": "127.0.0.1",
        "$2": "-",
        "$3": "frank",
        "$4": "10/Oct/2000:13:25:15 -0700",
        "$request": "GET /index.html HTTP/1.0",
        "$status_code": "404",
        "$7": "1534",
    }


@pytest.mark.parametrize(
    "pattern",
    [
        "{ $.a = 1",
        "{ }",
        "{ $.a }",
        "{ $.a IS MAYBE }",
        "{ a = 1 }",
        "{ $.a > text }",
        "{ ($.a = 1 }",
        "{ $.a = 1 } x",
        "{ $.*.b[*] = 1 }",
        "{ $.a = 1 $.b = 2 }",
        "[a, b",
        "[..., a, ...]",
        "[a ~ 1]",
        "two-words",
        '"open',
        "%(a)%",
        "x" * 1025,
    ],
)
def test_a_pattern_that_cannot_be_read_is_refused(pattern):
    with pytest.raises(AwsError) as caught:
        compile_pattern(pattern)
    assert caught.value.code == "InvalidParameterException"
