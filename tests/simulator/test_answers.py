from __future__ import annotations

import json

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from simulator.transports import answers

numbers = st.integers(10**9, 10**10 - 1).map(str)
shards = st.integers(0, 12).map(lambda n: f"shardId-{n:012d}")
# As Kinesis has them, and whatever an emulator or a broken answer may have.
taken = st.fixed_dictionaries({"SequenceNumber": numbers, "ShardId": shards})
odd = st.fixed_dictionaries(
    {
        "SequenceNumber": numbers
        | st.sampled_from([None, "", "12a4567890", "\u0661" * 10, "1\\2"]),
        "ShardId": shards | st.sampled_from([None, "", 'shardId-00"000000001', "shardId-\u00e4"]),
        "ErrorCode": st.sampled_from([None, "InternalFailure"]),
    }
)
refused = st.fixed_dictionaries(
    {"ErrorCode": st.just("InternalFailure"), "ErrorMessage": st.text()}
)
lists = st.lists(taken, min_size=1, max_size=8)


@pytest.fixture(scope="module", autouse=True, params=[0, answers.FEW], ids=["cut", "few"])
def few(request):
    """Answers of a few records, as such and as if they were of many."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(answers, "FEW", request.param)
        yield


def whole(records: list[dict], separators: tuple[str, str] = (",", ":"), **more: object) -> bytes:
    told = {"FailedRecordCount": 0, "Records": records, **more}
    return json.dumps(told, separators=separators).encode()


def check(text: bytes, records: list[dict]) -> None:
    answer = answers.read(text, len(records))
    assert answer.numbers.tolist() == [one.get("SequenceNumber") or None for one in records]
    assert answer.shards.tolist() == [one.get("ShardId") or None for one in records]
    if all(answer.numbers):
        assert answer.codes == []
    else:
        assert answer.codes == [str(one.get("ErrorCode", "")) for one in records]


@given(lists)
def test_an_answer_whose_records_were_all_taken_is_read_as_a_table(records):
    in_order = [{name: one[name] for name in ("SequenceNumber", "ShardId")} for one in records]
    text = whole(in_order, EncryptionType="KMS")
    assert answers._as_table(text, len(records)) is not None
    check(text, records)


@settings(max_examples=300)
@given(
    lists | st.lists(taken | odd | refused, min_size=1, max_size=8),
    st.sampled_from([(",", ":"), (", ", ": ")]),
    st.dictionaries(st.sampled_from(["A", "Records ", "B"]), st.lists(taken, max_size=3)),
)
@example([{"SequenceNumber": "1", "ShardId": 's"'}], (",", ":"), {})
@example([{"ShardId": "s", "SequenceNumber": "1"}], (",", ":"), {})
def test_any_answer_is_read_as_json_tells_it(records, separators, more):
    check(whole(records, separators, **more), records)


@settings(max_examples=300)
@given(lists, st.data())
def test_an_answer_that_is_broken_in_one_byte_is_refused_or_read_as_json_tells_it(records, data):
    text = bytearray(whole(records))
    text[data.draw(st.integers(0, len(text) - 1))] = data.draw(st.integers(0, 255))
    try:
        expected = json.loads(text)["Records"]
        told = [one.get("SequenceNumber") or None for one in expected]
    except (ValueError, KeyError, TypeError, AttributeError):
        expected, told = None, None
    try:
        answer = answers.read(bytes(text), len(records))
    except ValueError:
        return
    assert expected is not None
    assert answer.numbers.tolist() == told


@pytest.mark.parametrize(
    "text",
    [b"", b"[]", b"null", b'{"Records":{}}', b'{"Records":[1]}', b'{"Records":[[{}]]}', b"}][{"],
)
def test_what_is_no_answer_is_refused(text):
    with pytest.raises(ValueError, match="the answer"):
        answers.read(text, 1)


@given(lists, st.integers(1, 20))
def test_an_answer_of_other_records_is_refused(records, count):
    if count != len(records):
        with pytest.raises(ValueError, match="the answer has other records than the request"):
            answers.read(whole(records), count)
