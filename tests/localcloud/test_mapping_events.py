from __future__ import annotations

import json

import pytest

from localcloud.functions.kinesis_event import Item, encoder, event, remaining
from localcloud.functions.mapping import Checkpoints
from localcloud.functions.runtime import Result
from localcloud.functions.windows import Window
from localcloud.seams import StreamBatch

ITEMS = [Item(n, str(100 + n), 0, "{}") for n in range(4)]


def left(answer, *, partial: bool = True, stateful: bool = False, error: str | None = None):
    """Positions that have to be delivered again after this answer."""
    payload = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
    result = Result(payload, error, 1.0, "r")
    return [item.position for item in remaining(ITEMS, result, partial=partial, stateful=stateful)]


ALL = [0, 1, 2, 3]


def failures(*identifiers):
    return {"batchItemFailures": [{"itemIdentifier": one} for one in identifiers]}


@pytest.mark.parametrize(
    "answer", [None, {}, b"", {"batchItemFailures": []}, {"batchItemFailures": None}, ""]
)
def test_an_empty_or_null_answer_is_a_success(answer):
    assert left(answer) == []


@pytest.mark.parametrize(
    "answer",
    [
        failures(""),
        failures(None),
        failures("999"),
        failures("102", "999"),
        failures(102),
        {"batchItemFailures": [{"itemIdentifer": "102"}]},
        {"batchItemFailures": ["102"]},
        {"batchItemFailures": "102"},
        {"batchItemFailures": {"itemIdentifier": "102"}},
        "done",
        [1],
        b"{",
    ],
)
def test_an_answer_that_names_no_record_of_the_batch_fails_all_of_it(answer):
    assert left(answer) == ALL


def test_the_lowest_failure_is_the_checkpoint():
    assert left(failures("103", "101")) == [1, 2, 3]
    assert left(failures("100")) == ALL


def test_without_the_setting_only_an_error_is_a_failure():
    assert left(failures("101"), partial=False) == []
    assert left(b"{", partial=False) == []
    assert left(None, partial=False, error="Unhandled") == ALL


def test_in_a_tumbling_window_an_answer_needs_a_state():
    assert left({"state": {}}, partial=False, stateful=True) == []
    assert left({}, partial=False, stateful=True) == ALL
    assert left(None, stateful=True) == ALL
    assert left({"state": 1, **failures("102")}, stateful=True) == [2, 3]


def test_the_text_of_an_event_is_the_json_of_its_records():
    key = 'ké"\\\n'
    batch = StreamBatch(
        [b"x", b"\xff"],
        [key, "k"],
        [1_764_000_000_123, 1_764_000_001_000],
        next_position=9,
        behind_ms=0,
        shard_ended=False,
        number_prefix="49",
        first_number=100,
    )
    encode = encoder("shardId-1", "arn:s", "us-east-1", "arn:role")
    members = Window(0, 60_000, {"n": 1}).members("shardId-1", "arn:s", final=False, early=True)

    items = encode(batch)
    told = json.loads(event(items, members))

    assert [item[:3] for item in items] == [
        (7, "49107", 1_764_000_000_123), (8, "49108", 1_764_000_001_000),
    ]  # fmt: skip
    records = told.pop("Records")
    assert records[0] == {
        "kinesis": {
            "kinesisSchemaVersion": "1.0",
            "partitionKey": key,
            "sequenceNumber": "49107",
            "data": "eA==",
            "approximateArrivalTimestamp": 1_764_000_000.123,
        },
        "eventSource": "aws:kinesis",
        "eventVersion": "1.0",
        "eventID": "shardId-1:49107",
        "eventName": "aws:kinesis:record",
        "invokeIdentityArn": "arn:role",
        "awsRegion": "us-east-1",
        "eventSourceARN": "arn:s",
    }
    assert records[1]["kinesis"]["data"] == "/w=="
    assert records[1]["kinesis"]["approximateArrivalTimestamp"] == 1_764_000_001.0
    assert told == {
        "window": {"start": "1970-01-01T00:00:00Z", "end": "1970-01-01T00:01:00Z"},
        "state": {"n": 1},
        "shardId": "shardId-1",
        "eventSourceARN": "arn:s",
        "isFinalInvokeForWindow": False,
        "isWindowTerminatedEarly": True,
    }
    assert json.loads(event((), None)) == {"Records": []}


def test_checkpoints_are_restored_as_they_were():
    kept = Checkpoints({"a": 3}, {"b"}, {"a": Window(0, 1000, {"n": 1})})

    assert Checkpoints.from_json(json.loads(json.dumps(kept.to_json()))) == kept
