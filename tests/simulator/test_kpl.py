from __future__ import annotations

import base64

from aws_kinesis_agg import deaggregator
from hypothesis import given, settings
from hypothesis import strategies as st

from localcloud.firehose.kpl import split as split_by_firehose
from simulator import kpl
from stack.processor.aggregated import split

keys = st.text(st.characters(codec="utf-8"), min_size=1, max_size=12)
# AWS's library takes a reading without an explicit hash key for one with the first in the table.
readings = st.sampled_from([st.none(), st.integers(0, 2**128 - 1).map(str)]).flatmap(
    lambda hash_keys: st.lists(
        st.tuples(st.binary(max_size=300), keys, hash_keys), min_size=1, max_size=30
    )
)


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
@given(readings)
def test_the_official_library_reads_back_what_was_aggregated(some):
    data = kpl.aggregate(*map(list, zip(*some, strict=True)))
    assert read_officially(data) == some


@settings(deadline=None, max_examples=100)
@given(readings)
def test_firehose_and_the_processor_read_back_what_was_aggregated(some):
    payloads, names, hash_keys = map(list, zip(*some, strict=True))
    data = kpl.aggregate(payloads, names, hash_keys)
    expected = list(zip(payloads, names, strict=True))
    assert split(data) == expected
    told = split_by_firehose(data)
    assert [one[0] for one in told] == payloads


def test_large_tables_and_large_readings_are_read_back():
    count = 20_000
    payloads = [b"%d" % n for n in range(count - 1)] + [b"x" * 70_000]
    names = [f"dev-{n}" for n in range(count - 2)] + ["k" * 3000, "dev-0"]
    data = kpl.aggregate(payloads, names)
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
    whole = bytearray(kpl.aggregate([b"one", b"two"], ["a", "b"]))
    place = data.draw(st.integers(4, len(whole) - 1))
    whole[place] ^= 1 << data.draw(st.integers(0, 7))
    assert split(bytes(whole)) is None
