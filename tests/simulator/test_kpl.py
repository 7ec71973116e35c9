from __future__ import annotations

import base64

import numpy as np
from aws_kinesis_agg import aggregator, deaggregator
from hypothesis import given, settings
from hypothesis import strategies as st

from localcloud.firehose.kpl import split as split_by_firehose
from simulator import kpl
from simulator.columns import of_bytes, of_texts
from stack.processor.aggregated import split

keys = st.text(st.characters(codec="utf-8"), min_size=1, max_size=12)
readings = st.lists(
    st.tuples(st.binary(max_size=300), keys | st.sampled_from(["a", "b"])), min_size=1, max_size=30
)
# AWS's library takes a reading without an explicit hash key for one with the first in the table.
hash_keys = st.sampled_from([st.none(), st.integers(0, 2**128 - 1).map(str)])


def aggregate(payloads: list[bytes], names: list[str]) -> bytes:
    """One record of readings."""
    (record,) = kpl.aggregate(of_bytes(payloads), of_texts(names), np.array([len(names)]))
    return record


def read_officially(data: bytes) -> list[tuple[bytes, str, str | None]]:
    """(data, partition key, explicit hash key) as AWS's library reads a Lambda's event."""
    event = {
        "kinesis": {
            "kinesisSchemaVersion": "1.0",
            "sequenceNumber": "49",
            "partitionKey": "of the record",
            "approximateArrivalTimestamp": 1.0,
            "data": base64.b64encode(data).decode(),
        },
        "eventSource": "aws:kinesis", "eventVersion": "1.0", "eventID": "shardId-0:49",
        "eventName": "aws:kinesis:record", "invokeIdentityArn": "arn", "awsRegion": "us-east-1",
        "eventSourceARN": "arn",
    }  # fmt: skip
    return [
        (
            base64.b64decode(one["kinesis"]["data"]),
            one["kinesis"]["partitionKey"],
            one["kinesis"].get("explicitHashKey"),
        )
        for one in deaggregator.deaggregate_records([event])
    ]


@settings(deadline=None, max_examples=150)
@given(st.lists(readings, min_size=1, max_size=5), st.integers(0, 3))
def test_the_official_library_reads_back_what_was_aggregated(groups, before):
    # Cut out of longer columns, as batches are.
    some = [(b"before", "of others")] * before + [one for group in groups for one in group]
    payloads, names = map(list, zip(*some, strict=True))
    records = kpl.aggregate(
        of_bytes(payloads)[before:], of_texts(names)[before:], np.array(list(map(len, groups)))
    )
    for record, group in zip(records, groups, strict=True):
        assert read_officially(record) == [(payload, name, None) for payload, name in group]
        assert record.count(b"of others") == 0


@settings(deadline=None, max_examples=100)
@given(readings)
def test_a_key_is_in_the_table_of_its_record_once(some):
    payloads, names = map(list, zip(*some, strict=True))
    plain = sum(map(len, payloads)) + sum(len(name.encode()) for name in set(names))
    assert len(aggregate(payloads, names)) <= plain + 20 + 2 * len(set(names)) + 9 * len(names)


@settings(deadline=None, max_examples=100)
@given(readings)
def test_firehose_and_the_processor_read_back_what_was_aggregated(some):
    payloads, names = map(list, zip(*some, strict=True))
    data = aggregate(payloads, names)
    assert split(data) == some
    assert [one[0] for one in split_by_firehose(data)] == payloads


@settings(deadline=None, max_examples=100)
@given(readings, hash_keys.flatmap(lambda one: st.lists(one, min_size=30, max_size=30)))
def test_firehose_and_the_processor_read_what_the_official_library_aggregated(some, hashes):
    official = aggregator.RecordAggregator()
    for (payload, name), hashed in zip(some, hashes, strict=False):
        assert official.add_user_record(name, payload, hashed) is None
    _, _, data = official.clear_and_get().get_contents()
    assert split(data) == some
    assert [one[0] for one in split_by_firehose(data)] == [payload for payload, _ in some]


def test_large_tables_and_large_readings_are_read_back():
    count = 20_000
    payloads = [b"%d" % n for n in range(count - 1)] + [b"x" * 70_000]
    names = [f"dev-{n}" for n in range(count - 2)] + ["k" * 30_000, "dev-0"]
    data = aggregate(payloads, names)
    expected = [(p, k, None) for p, k in zip(payloads, names, strict=True)]
    assert read_officially(data) == expected
    assert split(data) == list(zip(payloads, names, strict=True))


@settings(deadline=None, max_examples=300)
@given(st.binary(max_size=200), st.data())
def test_what_only_looks_aggregated_is_left_as_it_is(noise, data):
    import hashlib  # noqa: PLC0415

    assert split(noise) is None
    assert split(kpl.MAGIC + noise) is None
    digest = hashlib.md5(noise, usedforsecurity=False).digest()
    told = split(kpl.MAGIC + noise + digest)
    assert told is None or all(isinstance(one, bytes) for one, _ in told)
    whole = bytearray(aggregate([b"one", b"two"], ["a", "b"]))
    place = data.draw(st.integers(4, len(whole) - 1))
    whole[place] ^= 1 << data.draw(st.integers(0, 7))
    assert split(bytes(whole)) is None
