from __future__ import annotations

import datetime as dt
import re
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from localcloud.firehose import prefix
from localcloud.firehose.positions import Positions
from localcloud.firehose.throttle import Quota, Throttle, quota_of
from localcloud.firehose.timeformat import format_time
from localcloud.firehose.transform import Record, parse_answer
from localcloud.http import AwsError

AUGUST = dt.datetime(2018, 8, 27, 10, 30, 5, 123_456, tzinfo=dt.UTC)
TOKYO = AUGUST.astimezone(ZoneInfo("Asia/Tokyo"))

# What java.time.format.DateTimeFormatter.ofPattern(...).format(...) prints in the English locale.
JAVA = [
    ("yyyy", AUGUST, "2018"), ("yy", AUGUST, "18"), ("y", AUGUST, "2018"), ("u", AUGUST, "2018"),
    ("M", AUGUST, "8"), ("MM", AUGUST, "08"), ("MMM", AUGUST, "Aug"), ("MMMM", AUGUST, "August"),
    ("MMMMM", AUGUST, "A"), ("d", AUGUST, "27"), ("D", AUGUST, "239"), ("DDD", AUGUST, "239"),
    ("Q", AUGUST, "3"), ("QQ", AUGUST, "03"), ("QQQ", AUGUST, "Q3"), ("QQQQ", AUGUST, "3rd quarter"),
    ("E", AUGUST, "Mon"), ("EEEE", AUGUST, "Monday"), ("EEEEE", AUGUST, "M"),
    ("a", AUGUST, "AM"), ("HH", AUGUST, "10"), ("h", AUGUST, "10"), ("kk", AUGUST, "10"),
    ("K", AUGUST, "10"), ("mm", AUGUST, "30"), ("s", AUGUST, "5"), ("ss", AUGUST, "05"),
    ("SSS", AUGUST, "123"), ("SSSSSSSSS", AUGUST, "123456000"), ("A", AUGUST, "37805123"),
    ("n", AUGUST, "123456000"), ("N", AUGUST, "37805123456000"),
    ("X", AUGUST, "Z"), ("x", AUGUST, "+00"), ("Z", AUGUST, "+0000"), ("VV", AUGUST, "Z"),
    ("X", TOKYO, "+09"), ("XX", TOKYO, "+0900"), ("XXX", TOKYO, "+09:00"), ("Z", TOKYO, "+0900"),
    ("VV", TOKYO, "Asia/Tokyo"), ("HH a hh", TOKYO, "19 PM 07"),
    ("'year='yyyy'/month='MM'/day='dd'/hour='HH", AUGUST, "year=2018/month=08/day=27/hour=10"),
    ("''yy''", AUGUST, "'18'"), ("'o''clock'", AUGUST, "o'clock"), ("yyyy/MM/dd", AUGUST, "2018/08/27"),
]  # fmt: skip


@pytest.mark.parametrize(("pattern", "moment", "expected"), JAVA)
def test_patterns_are_java_s(pattern, moment, expected):
    assert format_time(pattern, moment) == expected


@pytest.mark.parametrize(
    "pattern", ["YYYY", "ww", "HHH", "ddd", "z", "O", "T", "[yy]", "'open", "aa"]
)
def test_patterns_that_java_or_we_do_not_know_are_refused(pattern):
    with pytest.raises(AwsError, match="InvalidArgumentException"):
        format_time(pattern, AUGUST)


# The guide's examples. Where its text and its table differ (hours, slashes), what Firehose does.
@pytest.mark.parametrize(
    ("given", "given_error", "expected", "expected_error"),
    [
        ("", "F/!{firehose:error-output-type}/", "2018/08/27/10/", "F/processing-failed/"),
        ("P", "", "P2018/08/27/10/", "Pprocessing-failed/2018/08/27/10/"),
        ("P/", "E/", "P/2018/08/27/10/", "E/processing-failed/2018/08/27/10/"),
        (
            "P/year=!{timestamp:yyyy}/",
            "E/!{timestamp:'year='yyyy}/!{firehose:error-output-type}",
            "P/year=2018/",
            "E/year=2018/processing-failed",
        ),
    ],
)
def test_prefixes_evaluate_as_in_the_guide(given, given_error, expected, expected_error):
    prefix.check(given, given_error)

    assert prefix.expand(given, AUGUST) == expected
    kind = prefix.PROCESSING_FAILED
    assert prefix.expand_error(given, given_error, AUGUST, kind) == expected_error


def test_each_random_string_is_another_of_eleven_characters():
    done = prefix.expand("!{firehose:random-string}/!{firehose:random-string}/", AUGUST)
    first, second = re.fullmatch(r"(\w{11})/(\w{11})/2018/08/27/10/", done).groups()

    assert first != second


@given(st.lists(st.integers(0, 4), min_size=1, max_size=12), st.randoms())
def test_the_delivered_position_is_before_every_record_that_is_not_settled(sizes, random):
    told = []
    positions = Positions(lambda shard, position: told.append(position))
    positions.begin("s", 100)
    spans, end = [], 100
    for size in sizes:
        end += size
        spans.append((end - size, positions.take("s", end, size)))
    left = [(begin, span) for begin, span in spans for _ in range(span.waiting)]
    random.shuffle(left)
    while left:
        assert positions.delivered["s"] <= min(begin for begin, _ in left)
        positions.settle(left.pop()[1], 1)

    assert positions.delivered["s"] == positions.read["s"] == told[-1] == end
    assert told == sorted(set(told))


def record(number: int) -> Record:
    return Record(f"r{number}", b"data", 0)


@pytest.mark.parametrize(
    ("payload", "code"),
    [
        (b'{"records": [{"recordId": "r1", "result": "Ok", "data": "eA=="}]}', "Lambda.MissingRecordId"),
        (
            (b'{"records": [{"recordId": "r1", "result": "Dropped"}, '
            b'{"recordId": "r1", "result": "Dropped"}]}'),
            "Lambda.DuplicatedRecordId",
        ),
        (
            (b'{"records": [{"recordId": "r1", "result": "Dropped"}, '
            b'{"recordId": "r2", "result": "Dropped"}, {"recordId": "x", "result": "Dropped"}]}'),
            "Lambda.JsonProcessingException",
        ),
        (b'{"records": [{"recordId": "r1", "result": "Fine"}]}', "Lambda.JsonProcessingException"),
        (b'{"records": [{"recordId": "r1", "result": "Ok"}]}', "Lambda.JsonProcessingException"),
        (b'{"records": [{"recordId": "r1", "result": "Ok", "data": "%"}]}',
         "Lambda.JsonProcessingException"),
        (b"null", "Lambda.JsonProcessingException"),
        (b"not json", "Lambda.JsonProcessingException"),
    ],
)  # fmt: skip
def test_an_answer_that_breaks_the_status_model_fails_with_its_code(payload, code):
    assert parse_answer(payload, [record(1), record(2)]) == ({}, code)


def test_an_answer_may_be_in_any_order():
    payload = (
        b'{"records": [{"recordId": "r2", "result": "ProcessingFailed", "data": "zz"}, '
        b'{"recordId": "r1", "result": "Ok", "data": "eA=="}]}'
    )
    answer, code = parse_answer(payload, [record(1), record(2)])

    assert code == ""
    assert {i: (r.status, r.data) for i, r in answer.items()} == {
        "r1": ("Ok", b"x"),
        "r2": ("ProcessingFailed", b""),
    }


def test_a_quota_admits_what_a_second_brings():
    now = [0.0]
    throttle = Throttle(Quota(records=3, requests=2, bytes=100), lambda: now[0])

    assert throttle.admit_request()
    assert [throttle.admit_record(size) for size in (60, 60, 40, 0, 0)] == [
        True, False, True, True, False,
    ]  # fmt: skip
    assert throttle.admit_request()
    assert not throttle.admit_request()
    now[0] = 0.5
    assert throttle.admit_request()
    assert [throttle.admit_record(50), throttle.admit_record(0)] == [True, False]


def test_the_large_regions_have_the_larger_quota():
    assert quota_of("us-east-1").records == 500_000
    assert quota_of("eu-central-1").bytes == 1024 * 1024
