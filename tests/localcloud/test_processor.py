from __future__ import annotations

import asyncio
import base64
import datetime as dt
import io
import json
import time
from typing import Any

import boto3
import pytest
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest, AWSResponse
from botocore.config import Config
from botocore.credentials import Credentials
from hypothesis import given, settings
from hypothesis import strategies as st

from stack.processor.handler import Processor
from stack.processor.metrics import Metrics
from stack.processor.quarantine import Quarantine
from stack.processor.readings import MAX_SEQ, Reading, canonical, sign
from stack.processor.requests import RecordWriter, record
from stack.processor.timeseries import Arrived, TimeSeries

pytestmark = pytest.mark.asyncio(loop_scope="module")

KEY = b"key"
AT_MS = 1_764_000_000_123


def reading(seq: int = 1, **more: Any) -> Reading:
    signals = {"temperature": 4.25, "humidity": 51}
    return Reading(**{"device": "dev-1", "kind": "cold", "site": "s", "run": "r", "seq": seq,
                      "ts": AT_MS + seq, "signals": signals, **more})  # fmt: skip


class Aws:
    """AWS's side of a boto3 client: notes requests, and answers what it is told to."""

    def __init__(self, service: str = "timestream-write") -> None:
        self.requests: list[Any] = []
        self.answers: list[tuple[int, dict[str, Any]]] = []
        self.client = boto3.client(
            service,
            region_name="eu-west-1",
            aws_access_key_id="AKID",
            aws_secret_access_key="SECRET",
            config=Config(retries={"total_max_attempts": 1}),
        )
        self.client.meta.events.register("before-send.*.*", self._answer)

    def _answer(self, request: Any, **_: Any) -> AWSResponse:
        if "DescribeEndpoints" in request.headers["X-Amz-Target"].decode():
            endpoint = {"Address": "cell.timestream.test", "CachePeriodInMinutes": 60}
            return response(request, 200, {"Endpoints": [endpoint]})
        self.requests.append(request)
        status, body = self.answers.pop(0) if self.answers else (200, {"RecordsIngested": {}})
        return response(request, status, body)

    def bodies(self) -> list[dict[str, Any]]:
        return [json.loads(request.body) for request in self.requests]


def response(request: Any, status: int, body: dict[str, Any]) -> AWSResponse:
    class Raw(io.BytesIO):
        def stream(self, **_: Any) -> Any:
            yield self.read()

    headers = {"content-type": "application/x-amz-json-1.0"}
    return AWSResponse(request.url, status, headers, Raw(json.dumps(body).encode()))


@pytest.fixture(scope="module")
def shared_aws() -> Aws:
    return Aws()


texts = st.text(st.characters(codec="utf-8"), min_size=1, max_size=20)


readings = st.builds(
    Reading, texts, texts, texts, texts, st.integers(0, MAX_SEQ - 1), st.integers(0, 2**53 - 1),
    st.dictionaries(
        st.from_regex(r"[a-z][a-z0-9_]{0,10}", fullmatch=True),
        st.floats(allow_nan=False, allow_infinity=False) | st.integers(-(2**60), 2**60),
        min_size=1, max_size=4,
    ),
)  # fmt: skip


@settings(deadline=None, max_examples=60)
@given(readings)
async def test_a_request_is_what_botocore_would_make_of_the_same_records(shared_aws, one):
    device, kind, site, run, seq, ts, signals = one
    shared_aws.requests.clear()
    RecordWriter(shared_aws.client, "d", "t").write([record(one, AT_MS, 7)], run, 7)

    (body,) = shared_aws.bodies()
    assert body == {
        "DatabaseName": "d",
        "TableName": "t",
        "CommonAttributes": {
            "Dimensions": [{"Name": "run", "Value": run}],
            "MeasureName": "reading",
            "MeasureValueType": "MULTI",
            "TimeUnit": "MILLISECONDS",
            "Version": 7,
        },
        "Records": [
            {
                "Dimensions": [
                    {"Name": "device", "Value": device},
                    {"Name": "class", "Value": kind},
                    {"Name": "site", "Value": site},
                ],
                "Time": str(ts),
                "MeasureValues": [
                    {"Name": "seq", "Type": "BIGINT", "Value": str(seq)},
                    {"Name": "arrived_ms", "Type": "BIGINT", "Value": str(AT_MS)},
                    {"Name": "processed_ms", "Type": "BIGINT", "Value": "7"},
                    *(
                        {"Name": name, "Type": "DOUBLE", "Value": repr(float(value))}
                        for name, value in signals.items()
                    ),
                ],
            }
        ],
    }


async def test_a_request_goes_to_the_endpoint_that_was_found_signed_over_its_body():
    aws = Aws()
    RecordWriter(aws.client, "d", "t").write([record(reading(), AT_MS, 7)], "r", 7)
    (sent,) = aws.requests
    headers = {name.lower(): value.decode() if isinstance(value, bytes) else value
               for name, value in sent.headers.items()}  # fmt: skip

    again = AWSRequest(
        sent.method, sent.url, {"host": "cell.timestream.test",
                                **{n: headers[n] for n in ("content-type", "x-amz-target")}},
        sent.body,
    )  # fmt: skip
    again.context["timestamp"] = headers["x-amz-date"]
    signer = SigV4Auth(Credentials("AKID", "SECRET"), "timestream", "eu-west-1")
    again.headers["X-Amz-Date"] = headers["x-amz-date"]
    text = signer.string_to_sign(again, signer.canonical_request(again))

    assert sent.url == "https://cell.timestream.test"
    assert int(headers["content-length"]) == len(sent.body)
    assert headers["authorization"].endswith(f"Signature={signer.signature(text, again)}")


@pytest.mark.parametrize("at_once", [1, 5])
async def test_calls_hold_a_hundred_records_of_one_run(at_once):
    aws = Aws()
    readings = [Arrived(n, reading(n, run=f"r{n % 2}"), AT_MS) for n in range(250)]

    written = TimeSeries(aws.client, "d", "t", at_once).write(readings, lambda: 60_000)

    assert (written.rejected, written.failed) == ({}, {})
    calls = [
        (body["CommonAttributes"]["Dimensions"][0]["Value"], len(body["Records"]))
        for body in aws.bodies()
    ]
    assert sorted(calls) == [("r0", 25), ("r0", 100), ("r1", 25), ("r1", 100)]
    seqs = [r["MeasureValues"][0]["Value"] for body in aws.bodies() for r in body["Records"]]
    assert sorted(map(int, seqs)) == list(range(250))


async def test_a_throttled_call_is_made_again_with_a_higher_version(monkeypatch):
    monkeypatch.setattr("stack.processor.timeseries.BACKOFF_S", (0.002, 0.01))
    aws = Aws()
    aws.answers = [(400, {"__type": "ThrottlingException", "message": "slow down"})] * 2

    written = TimeSeries(aws.client, "d", "t", 5).write(
        [Arrived(0, reading(), AT_MS)], lambda: 60_000
    )

    assert (written.rejected, written.failed) == ({}, {})
    versions = [body["CommonAttributes"]["Version"] for body in aws.bodies()]
    assert len(versions) == 3
    assert versions == sorted(versions)


async def test_without_time_left_a_throttled_call_is_reported(monkeypatch):
    aws = Aws()
    aws.answers = [(400, {"__type": "ThrottlingException", "message": "slow down"})]

    written = TimeSeries(aws.client, "d", "t", 5).write(
        [Arrived(n, reading(n), AT_MS) for n in (3, 5)], lambda: 1000
    )

    assert written.rejected == {}
    assert written.failed.keys() == {3, 5}
    assert "slow down" in written.failed[3]


async def test_rejected_records_are_told_apart_from_those_that_are_there_already():
    aws = Aws()
    rejected = [
        {"RecordIndex": 1, "Reason": "too old"},
        {"RecordIndex": 2, "Reason": "version", "ExistingVersion": 9},
    ]
    aws.answers = [
        (419, {"__type": "RejectedRecordsException", "message": "m", "RejectedRecords": rejected})
    ]

    written = TimeSeries(aws.client, "d", "t", 5).write(
        [Arrived(n, reading(n), AT_MS) for n in (10, 11, 12)], lambda: 60_000
    )

    assert written == type(written)({11: "too old"}, {})


async def test_metrics_are_lines_of_a_hundred_values_with_the_counts_in_the_first(capsys):
    Metrics("N", "dev").publish({"Received": 250}, "Latency", list(range(250)), 5)

    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [len(line["Latency"]) for line in lines] == [100, 100, 50]
    assert [line.get("Received") for line in lines] == [250, None, None]
    assert lines[0]["_aws"]["CloudWatchMetrics"] == [
        {
            "Namespace": "N",
            "Dimensions": [["Environment"]],
            "Metrics": [
                {"Name": "Received", "Unit": "Count"},
                {"Name": "Latency", "Unit": "Milliseconds"},
            ],
        }
    ]
    assert lines[0]["Environment"] == "dev"


async def test_metrics_without_a_latency_are_one_line(capsys):
    Metrics("N", "dev").publish({"Received": 0}, "Latency", [], 5)

    (line,) = capsys.readouterr().out.splitlines()
    assert "Latency" not in json.loads(line)


# Against the local cloud


def payload(seq: int, **more: Any) -> bytes:
    value = {"v": 1, "run": "r", "device": "dev-1", "class": "cold", "site": 'a"b', "seq": seq,
             "ts": int(time.time() * 1000) + seq, "signals": {"temperature": 4.0}, **more}  # fmt: skip
    signature = sign(canonical(value), KEY)
    return canonical(value)[:-1] + f',"sig":"{signature}"}}'.encode()


def batch(*payloads: bytes) -> list[dict[str, Any]]:
    return [
        {
            "eventID": f"shardId-0:{n}",
            "kinesis": {
                "data": base64.b64encode(one).decode(),
                "sequenceNumber": str(n),
                "partitionKey": "k",
                "approximateArrivalTimestamp": time.time(),
            },
        }
        for n, one in enumerate(payloads)
    ]


async def test_every_record_of_a_batch_is_written_or_in_quarantine(cloud, name, capsys):
    kwargs = cloud.target.client_kwargs()
    writer = await cloud.client("timestream-write")
    await writer.create_database(DatabaseName=name)
    await writer.create_table(DatabaseName=name, TableName="rows")
    sqs = await cloud.client("sqs")
    url = (await sqs.create_queue(QueueName=name))["QueueUrl"]
    old = int((dt.datetime.now(dt.UTC) - dt.timedelta(days=90_000)).timestamp() * 1000)
    processor = Processor(
        lambda: KEY,
        TimeSeries(boto3.client("timestream-write", **kwargs), name, "rows", 5),
        Quarantine(boto3.client("sqs", **kwargs), url),
        {"temperature": {"max": 60}},
        Metrics("N", "dev"),
    )
    records = batch(
        payload(1),
        b"no JSON",
        payload(2, signals={"temperature": 61.0}),
        payload(3, ts=max(0, old)),
        payload(4)[:-4] + b'A"}',
    )

    answer = await asyncio.to_thread(processor.process, records, lambda: 60_000)

    assert answer == {"batchItemFailures": []}
    query = await cloud.client("timestream-query")
    text = f'SELECT seq, site FROM "{name}"."rows" ORDER BY seq'  # noqa: S608 - our own names
    rows = (await query.query(QueryString=text))["Rows"]
    assert [[c["ScalarValue"] for c in row["Data"]] for row in rows] == [["1", 'a"b'], ["2", 'a"b']]
    received = await sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10)
    told = [json.loads(message["Body"]) for message in received["Messages"]]
    assert {(t["reason"], t["sequence_number"]) for t in told} == {
        ("not_json", "1"),
        ("timestream_rejected", "3"),
        ("bad_signature", "4"),
    }
    metrics = json.loads(capsys.readouterr().out.splitlines()[-1])
    counts = {
        "ReadingsReceived": 5,
        "ReadingsWritten": 2,
        "ReadingsRefused": 3,
        "TimestreamRejected": 1,
        "CriticalReadings": 1,
    }
    assert {name: metrics[name] for name in counts} == counts


async def test_records_that_could_not_be_written_are_reported(cloud, name):
    aws = Aws()
    aws.answers = [(500, {"__type": "InternalServerException", "message": "m"})]
    processor = Processor(
        lambda: KEY,
        TimeSeries(aws.client, "d", "t", 5),
        Quarantine(None, ""),
        {},
        Metrics("N", "dev"),
    )

    answer = processor.process(batch(payload(1), payload(2)), lambda: 0)

    assert answer == {"batchItemFailures": [{"itemIdentifier": "0"}, {"itemIdentifier": "1"}]}


def aggregated(*payloads: bytes) -> bytes:
    from aws_kinesis_agg.aggregator import RecordAggregator  # noqa: PLC0415

    together = RecordAggregator()
    for n, one in enumerate(payloads):
        together.add_user_record(f"dev-{n}", one)
    return together.clear_and_get().get_contents()[2]


async def test_readings_of_an_aggregated_record_are_each_written_or_in_quarantine(
    cloud, name, capsys
):
    kwargs = cloud.target.client_kwargs()
    writer = await cloud.client("timestream-write")
    await writer.create_database(DatabaseName=name)
    await writer.create_table(DatabaseName=name, TableName="rows")
    sqs = await cloud.client("sqs")
    url = (await sqs.create_queue(QueueName=name))["QueueUrl"]
    processor = Processor(
        lambda: KEY,
        TimeSeries(boto3.client("timestream-write", **kwargs), name, "rows", 5),
        Quarantine(boto3.client("sqs", **kwargs), url),
        {},
        Metrics("N", "dev"),
    )
    records = batch(payload(1), aggregated(payload(2), b"no JSON", payload(3)), payload(4))

    answer = await asyncio.to_thread(processor.process, records, lambda: 60_000)

    assert answer == {"batchItemFailures": []}
    query = await cloud.client("timestream-query")
    text = f'SELECT seq FROM "{name}"."rows" ORDER BY seq'  # noqa: S608 - our own names
    rows = (await query.query(QueryString=text))["Rows"]
    assert [row["Data"][0]["ScalarValue"] for row in rows] == ["1", "2", "3", "4"]
    received = await sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10)
    (told,) = (json.loads(message["Body"]) for message in received["Messages"])
    assert base64.b64decode(told["payload_base64"]) == b"no JSON"
    assert (told["sequence_number"], told["sub_sequence_number"]) == ("1", 1)
    assert (told["partition_key"], told["reason"]) == ("dev-1", "not_json")
    metrics = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert (metrics["ReadingsReceived"], metrics["ReadingsWritten"]) == (5, 4)


async def test_an_aggregated_record_of_which_a_reading_could_not_be_written_comes_again_whole():
    aws, queue = Aws(), Aws("sqs")
    aws.answers = [(500, {"__type": "InternalServerException", "message": "m"})]
    processor = Processor(
        lambda: KEY,
        TimeSeries(aws.client, "d", "t", 5),
        Quarantine(queue.client, "http://queue"),
        {},
        Metrics("N", "dev"),
    )

    answer = processor.process(batch(b"?", aggregated(payload(1), b"no JSON")), lambda: 0)

    # The other record is refused now; what this one refuses is told when it comes again.
    assert answer["batchItemFailures"][-1] == {"itemIdentifier": "1"}
    assert {tuple(e["Id"] for e in request["Entries"]) for request in queue.bodies()} == {("0",)}
