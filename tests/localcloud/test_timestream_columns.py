"""A body that is taken apart has what a parser finds in it, and values of many are those of one."""

from __future__ import annotations

import json
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from localcloud.http import AwsError
from localcloud.timestream.columns import MAX_RECORDS, Call, pairs_of, take_apart
from localcloud.timestream.values import Rejected, integers, value, values

COMMON = {"Dimensions": [{"Name": "run", "Value": "r1"}], "MeasureName": "m", "Version": 7}
RECORD = {
    "Dimensions": [{"Name": "device", "Value": "d1"}],
    "Time": "1714564800000",
    "MeasureValues": [
        {"Name": "seq", "Type": "BIGINT", "Value": "1"},
        {"Name": "t", "Type": "DOUBLE", "Value": "2.5"},
    ],
}

odd = st.sampled_from(
    ['"', "\\", "\n", "ü", ",", "]", "}", '"},{"', '"Value":"', "\x7f", "\ud800", '","Time":"', " "]
)
texts = st.lists(odd | st.characters(codec="utf-8"), max_size=4).map("".join)
names = st.sampled_from(["seq", "t", "Ω", 'a"b', ""])
measures = st.fixed_dictionaries(
    {"Name": names, "Type": st.sampled_from(["DOUBLE", "BIGINT", "VARCHAR"]), "Value": texts},
)
records = st.fixed_dictionaries(
    {
        "Dimensions": st.lists(
            st.fixed_dictionaries({"Name": names, "Value": texts | st.just("d1")}), max_size=2
        ),
        "Time": st.integers(-5, 10**14).map(str) | texts,
        "MeasureValues": st.lists(measures, max_size=3),
    },
    optional={"Version": st.integers(0, 3), "MeasureName": names},
)
bodies = st.fixed_dictionaries(
    {"DatabaseName": names, "TableName": names},
    optional={"CommonAttributes": st.just(COMMON), "Other": names},
)
cuts = st.tuples(st.integers(0, 2000), st.integers(0, 30), odd | st.just(""))


def written(members: dict[str, Any], given_records: list[dict[str, Any]], **how: Any) -> bytes:
    body = {**members, "Records": given_records}
    text = json.dumps(body, separators=(",", ":"), **how)
    return text.encode("utf-8", "surrogatepass")


def put_together(call: Call) -> dict[str, Any]:
    """The body that a parser would find."""
    found: list[dict[str, Any]] = [{}] * len(call.times)
    for part in call.parts:
        for at, row in zip(part.at, part.rows, strict=True):
            found[at] = {
                "Dimensions": orjson.loads(call.dimensions[at]),
                "Time": call.times[at],
                "MeasureValues": [
                    {"Name": name, "Type": kind, "Value": text}
                    for (name, kind), text in zip(part.measures, row, strict=True)
                ],
            }
    return {**call.members, "Records": found}


def test_a_body_of_one_program_is_taken_apart():
    call = take_apart(written({"DatabaseName": "d", "TableName": "t"}, [RECORD] * MAX_RECORDS))
    assert call is not None
    assert put_together(call)["Records"] == [RECORD] * MAX_RECORDS
    assert pairs_of(call.dimensions[0]) == (("device", "d1"),)


def test_a_series_may_come_with_other_measures():
    other = {**RECORD, "MeasureValues": RECORD["MeasureValues"][:1]}
    for given_records in ([RECORD, other, RECORD], [other, RECORD], [RECORD]):
        call = take_apart(written({"DatabaseName": "d"}, given_records))
        assert call is not None
        assert put_together(call)["Records"] == given_records


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b'{"DatabaseName":"d","Records":[]}',
        written({"DatabaseName": "d"}, [RECORD] * (MAX_RECORDS + 1)),
        written({"DatabaseName": "d"}, [RECORD]) + b" ",
        written({"DatabaseName": "d", "Records": [], "ResourceARN": "a"}, [RECORD]),
        written({"DatabaseName": "d"}, [RECORD])[:-1] + b',"TableName":"t"}',
        written({"DatabaseName": "d"}, [{**RECORD, "Version": 2}]),
        written({"DatabaseName": "d"}, [RECORD]).replace(b"d1", b"d\n1"),
        written({"DatabaseName": "d"}, [RECORD]).replace(b"2.5", b"\xff"),
        written({"DatabaseName": "d"}, [RECORD]).replace(b',"Time":"1714564800000"', b""),
        written({"DatabaseName": "d"}, [RECORD]).replace(b'","MeasureValues":[', b""),
        written({"DatabaseName": "d"}, [{**RECORD, "MeasureValues": []}]),
    ],
)
def test_another_body_is_left_to_the_parser(body):
    assert take_apart(body) is None


@given(bodies, st.lists(records, min_size=1, max_size=3), st.none() | cuts, st.booleans())
def test_what_is_taken_apart_is_what_a_parser_finds(members, given_records, cut, ascii_only):
    body = written(members, given_records, ensure_ascii=ascii_only)
    if cut is not None:
        at, length, instead = cut
        body = body[:at] + instead.encode("utf-8", "surrogatepass") + body[at + length :]
    call = take_apart(body)
    if call is not None:
        assert put_together(call) == orjson.loads(body)


numbers = (
    st.floats().map(repr)
    | st.integers(-(2**65), 2**65).map(str)
    | st.sampled_from(
        [
            "",
            "-0",
            "-0.0",
            "007",
            "+5",
            " 5",
            "5 ",
            "5\n",
            "1,2",
            "[1",
            "2]",
            "1e999",
            "1_0",
            "٣",
            "NaN",
            "Infinity",
            "1.",
            ".5",
            "5E3",
            "1e-400",
            "null",
            "true",
            '"1"',
            str(10**19),
            "{}",
        ],
    )
)
KINDS = st.sampled_from(["DOUBLE", "BIGINT", "TIMESTAMP", "BOOLEAN", "VARCHAR"])


@given(KINDS, st.lists(numbers, min_size=1, max_size=4))
def test_many_values_are_read_as_one_is(kind, some):
    found = values(kind, some)
    if found is not None:
        assert list(map(repr, found)) == [repr(value("m", kind, text)) for text in some]


@given(KINDS, st.floats(-1e300, 1e300).map(repr) | st.integers(-(2**40), 2**40).map(str))
def test_what_one_value_is_many_are(kind, text):
    try:
        one = value("m", kind, text)
    except (AwsError, Rejected):
        assert values(kind, [text, text]) is None
    else:
        assert repr(values(kind, [text, text])) == repr([one, one])


@given(st.lists(numbers, min_size=1, max_size=3))
def test_whole_numbers_have_up_to_19_digits(some):
    found = integers(some)
    whole = [text for text in some if text.removeprefix("-").isdecimal() and text.isascii()]
    short = [text for text in whole if len(text.removeprefix("-")) <= 19]
    assert found == (list(map(int, some)) if short == some else None)
