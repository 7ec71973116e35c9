"""The SQL of topic rules: what a statement makes of a message."""

from __future__ import annotations

import json
import math

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from localcloud.iot.sql import SqlError, Template, parse
from localcloud.iot.sql.values import Context
from localcloud.iot.topics import filter_fault, matches, topic_fault

MESSAGE = {
    "t": 21.5, "n": 4, "name": "pump", "on": True, "none": None, "text": "12",
    "a": {"b": {"c": 7}, "list": [1, 2, {"x": "y"}]},
}  # fmt: skip


def made(select: str, where: str = "", payload: bytes | None = None):
    sql = f"SELECT {select} FROM 'fleet/+/readings'" + (f" WHERE {where}" if where else "")
    data = json.dumps(MESSAGE).encode() if payload is None else payload
    context = Context("fleet/dev-1/readings", data, "client", "cert", 1, "1234", "trace", 1700)
    found = parse(sql).select(context)
    return None if found is None else orjson.loads(found)


def value(expression: str):
    """The value of an expression; `...` where it is Undefined."""
    return made(f"{expression} AS v").get("v", ...)


@pytest.mark.parametrize(
    ("expression", "wanted"),
    [
        # Paths
        ("a.b.c", 7), ("a.list[1]", 2), ("a.list[2].x", "y"), ("get(a, 'b').c", 7), ("t", 21.5),
        ("get(a.list, 0)", 1), ("a.nothing", ...), ("a.list[9]", ...), ("a['b']", {"c": 7}),
        ('"t"', 21.5), ("none", None), ("nothing.at.all", ...),
        # Arithmetic
        ("n + 1", 5), ("n - 6", -2), ("n * t", 86), ("n / 8", 0.5), ("n % 3", 1), ("-n", -4),
        ("2 + 3 * 4", 14), ("(2 + 3) * 4", 20), ("n / 0", ...), ("none + 1", ...), ("on + 1", ...),
        ("text * 2", 24), ("name + n", "pump4"), ("text + 1", "121"), ("a + 1", ...), ("10.0", 10),
        # Comparison and logic
        ("n = 4", True), ("n <> 4", False), ("n >= 4 AND t < 22", True), ("NOT on", False),
        ("n > 5 OR on", True), ("text = 12", True), ("name < 'q'", True), ("name > 3", ...),
        ("none = null", True), ("n IN [1, 4]", True), ("n IN [1]", False), ("n IN 4", ...),
        ("nothing = 1", ...), ("n AND on", ...), ("'TRUE' AND on", True),
        ("CASE n WHEN 4 THEN 'four' ELSE 'other' END", "four"), ("CASE WHEN n > 9 THEN 1 END", ...),
        ("{'k': n, 'u': nothing}", {"k": 4}), ("[n, 'x']", [4, "x"]),
        # The message
        ("topic()", "fleet/dev-1/readings"), ("topic(2)", "dev-1"), ("topic(4)", ...),
        ("topic(0)", ...), ("timestamp()", 1700), ("clientid()", "client"), ("accountid()", "1234"),
        ("principal()", "cert"), ("traceid()", "trace"),
        # Functions
        ("cast(text AS int)", 12), ("cast(2.5 AS int)", 2), ("cast(t AS string)", "21.5"),
        ("cast(0 AS bool)", False), ("cast('x' AS decimal)", ...), ("cast(on AS int)", 1),
        ("encode(name, 'base64')", "cHVtcA=="), ("decode('cHVtcA==', 'base64')", "pump"),
        ("encode(name, 'rot13')", ...), ("decode('!', 'base64')", ...), ("abs(-3)", 3),
        ("ceil(t)", 22), ("floor(t)", 21), ("round(t)", 22), ("trunc(2.349, 2)", 2.34),
        ("sqrt(n)", 2), ("sqrt(-1)", ...), ("power(2, 10)", 1024), ("power(10, 5000)", ...),
        ("mod(7, 4)", 3), ("sign(-2)", -1), ("lower('AbC')", "abc"), ("upper(name)", "PUMP"),
        ("length(name)", 4), ("concat(name, '-', n)", "pump-4"), ("concat([1], 2)", [1, 2]),
        ("substring(name, 1)", "ump"), ("substring(name, 1, 3)", "um"), ("substring(name, -1)", ...),
        ("trim('  x ')", "x"), ("replace(name, 'p', 'b')", "bumb"), ("startswith(name, 'pu')", True),
        ("endswith(name, 'x')", False), ("indexof(name, 'm')", 2), ("isnull(none)", True),
        ("isundefined(nothing)", True), ("nanvl('x', 1)", 1), ("regexp_matches(name, '^p.m')", True),
        ("regexp_replace(name, '[pm]', '_')", "_u__"), ("regexp_substr(name, 'u.')", "um"),
        ("regexp_matches(name, '(')", ...), ("md5('a')", "0cc175b9c0f1b6a831c399e269772661"),
        ("bitand(6, 3)", 2), ("'it''s'", "it's"),
    ],
)  # fmt: skip
def test_an_expression_has_its_documented_value(expression, wanted):
    found = value(expression)
    assert found == wanted
    assert isinstance(found, bool) == isinstance(wanted, bool)


def test_select_names_what_it_takes():
    assert made("n, a.b.c, topic(2)") == {"n": 4, "c": 7, "topic": "dev-1"}
    assert made("*, n + 1 AS n, 'x' AS added")["n"] == 5
    assert made("*, 'x' AS added").keys() == {*MESSAGE, "added"}
    assert made("VALUE a.b") == {"c": 7}


@pytest.mark.parametrize(
    ("where", "takes"),
    [("n = 4", True), ("n = 5", False), ("nothing = 1", False), ("name", False), ("on", True)],
)
def test_where_takes_what_is_true_and_nothing_else(where, takes):
    assert (made("n", where) is not None) == takes


def test_a_payload_that_is_no_json_has_no_members_and_cannot_be_added_to():
    assert made("n, topic(2) AS d", payload=b"{broken") == {"d": "dev-1"}
    assert made("encode(*, 'base64') AS raw", payload=b"\xff") == {"raw": "/w=="}
    with pytest.raises(SqlError, match="no JSON object"):
        made("*, 1 AS one", payload=b"[1]")


@pytest.mark.parametrize(
    "sql",
    [
        "", "SELECT", "SELECT FROM 'a'", "SELECT a FROM b", "SELECT * FROM 'a' WHERE",
        "SELECT a b FROM 'a'", "SELECT * FROM 'a' GROUP BY x", "SELECT f(1) FROM 'a'",
        "SELECT topic(1, 2) FROM 'a'", "SELECT (SELECT 1) FROM 'a'", "SELECT cast(a AS uuid) FROM 'a'",
        "SELECT a[1 FROM 'a'", "SELECT {a 1} FROM 'a'", "SELECT 'open FROM a", "SELECT CASE END",
        "SELECT " + "(" * 500 + "1" + ")" * 500, "SELECT " + "NOT " * 500 + "a",
        "SELECT " + "-" * 500 + "1",
    ],
)  # fmt: skip
def test_what_is_not_served_is_refused(sql):
    with pytest.raises(SqlError):
        parse(sql)


@given(st.text(max_size=60))
def test_no_text_breaks_the_parser(text):
    for sql in (text, f"SELECT {text} FROM 'a'", f"SELECT * FROM 'a' WHERE {text}"):
        try:
            parse(sql)
        except SqlError:
            continue


numbers = st.integers(-(10**9), 10**9) | st.floats(-1e9, 1e9).map(lambda f: round(f, 6))


@given(numbers, numbers, numbers)
def test_arithmetic_is_that_of_numbers(a, b, c):
    payload = orjson.dumps({"a": a, "b": b, "c": c})
    found = made("a + b * c AS v, a < b AS less, a - -b AS sum", payload=payload)
    assert math.isclose(found["v"], a + b * c, rel_tol=1e-12, abs_tol=1e-9)
    assert found["less"] == (a < b)
    assert math.isclose(found["sum"], a + b, rel_tol=1e-12, abs_tol=1e-9)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)  # fmt: skip


@given(st.dictionaries(st.text(max_size=5), json_values, max_size=4))
def test_what_is_selected_with_everything_stays_as_it_is(document):
    found = made("*, 1 AS zz_added", payload=orjson.dumps(document))
    assert found == {**document, "zz_added": 1}


def test_a_template_fills_in_what_a_message_has():
    context = Context("fleet/dev-1/readings", b'{"a": {"b": 2}, "n": null}')
    assert Template("x-${topic(2)}-${a.b}").fill(context) == "x-dev-1-2"
    assert Template("${n} ${nothing} plain").fill(context) == "null undefined plain"


def reference(topic_filter: list[str], topic: list[str]) -> bool:
    if not topic_filter:
        return not topic
    if topic_filter[0] == "#":
        return True
    if not topic:
        return False
    return topic_filter[0] in {"+", topic[0]} and reference(topic_filter[1:], topic[1:])


levels = st.lists(st.sampled_from(["a", "b", "", "c1"]), min_size=1, max_size=4)
filters = st.lists(st.sampled_from(["a", "b", "", "+"]), min_size=1, max_size=4)


@given(filters, st.booleans(), levels)
def test_filters_match_as_mqtt_says(wanted, deep, topic):
    wanted = [*wanted, "#"] if deep else wanted
    assert matches("/".join(wanted), "/".join(topic)) == reference(wanted, topic)


def test_a_wildcard_at_the_start_sees_no_reserved_topic():
    assert not matches("#", "$aws/events/x")
    assert not matches("+/x", "$aws/x")
    assert matches("$aws/#", "$aws/events/x")


def test_topics_and_filters_are_held_to_their_limits():
    assert topic_fault("a/b") is None
    assert topic_fault("$aws/rules/r/" + "t" * 256) is None
    assert topic_fault("t" * 256) is None
    assert all(topic_fault(bad) for bad in ("", "a/+", "#", "$SYS/x", "t" * 257, "/" * 8))
    assert all(filter_fault(bad) for bad in ("", "a/#/b", "x+", "$share/g/t"))
    assert filter_fault("+/a/#") is None
