"""The request path at its edges: malformed, oversized, slow, torn and crowded requests."""

from __future__ import annotations

import asyncio
import contextlib
import xml.etree.ElementTree as ET
from typing import Any

import pytest
import pytest_asyncio

from localcloud import connection, front

pytestmark = pytest.mark.asyncio(loop_scope="module")

SIGNED = (
    "Authorization: AWS4-HMAC-SHA256 Credential=k/20260101/us-east-1/{service}/aws4_request, "
    "SignedHeaders=host, Signature=0\r\n"
)
JSON = "Content-Type: application/x-amz-json-1.1\r\n"


def request(
    body: bytes = b"", *, line: str = "POST / HTTP/1.1", service: str = "kinesis",
    operation: str = "Kinesis_20131202.ListStreams", more: str = "", length: bool = True,
) -> bytes:  # fmt: skip
    """One request as bytes."""
    target = f"X-Amz-Target: {operation}\r\n{JSON}" if operation else ""
    size = f"Content-Length: {len(body)}\r\n" if length else ""
    head = f"{line}\r\nHost: 127.0.0.1\r\n{SIGNED.format(service=service)}{target}{size}{more}\r\n"
    return head.encode() + body


class Peer:
    """A client that writes what it likes."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        with contextlib.suppress(ConnectionError):
            await self.writer.drain()

    async def answer(self) -> tuple[int, dict[str, str], bytes]:
        head = (await self.reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        status, *lines = head.strip().split("\r\n")
        headers = {
            name.lower(): value.strip()
            for name, _, value in (line.partition(":") for line in lines)
        }
        size = int(headers.get("content-length", 0))
        return int(status.split()[1]), headers, await self.reader.readexactly(size)

    async def closed(self) -> bytes:
        """What comes until the cloud closes the connection."""
        parts = b""
        with contextlib.suppress(ConnectionError):
            while part := await self.reader.read(65_536):
                parts += part
        return parts


@pytest_asyncio.fixture(loop_scope="module")
async def peer(cloud):
    peers = []

    async def connect() -> Peer:
        reader, writer = await asyncio.open_connection("127.0.0.1", cloud.local.port)
        peers.append(writer)
        return Peer(reader, writer)

    yield connect
    for writer in peers:
        writer.close()


@pytest.mark.parametrize(
    ("service", "target", "body", "code"),
    [
        ("kinesis", "Kinesis_20131202.CreateStream", b"{", "SerializationException"),
        ("kinesis", "Kinesis_20131202.CreateStream", b"[]", "SerializationException"),
        ("kinesis", "Kinesis_20131202.CreateStream", b"\xff", "SerializationException"),
        ("kinesis", "Kinesis_20131202.Nothing", b"{}", "UnknownOperationException"),
        ("kinesis", "Nothing", b"{}", "UnknownOperationException"),
        ("timestream", "Timestream_20181101.WriteRecords", b"{", "SerializationException"),
        ("timestream", "Timestream_20181101.Nothing", b"{}", "UnknownOperationException"),
        ("firehose", "Firehose_20150804.PutRecord", b"7", "SerializationException"),
        ("firehose", "Firehose_20150804.Nothing", b"{}", "UnknownOperationException"),
        ("monitoring", "GraniteServiceVersion20100801.ListMetrics", b"{",
         "SerializationException"),
        ("monitoring", "GraniteServiceVersion20100801.X", b"{}", "UnknownOperationException"),
    ],
)  # fmt: skip
async def test_errors_of_the_json_protocol(raw, service, target, body, code):
    answer = await raw.json_call(service, target, body)
    assert answer.status == 400
    assert answer.headers["content-type"].startswith("application/x-amz-json-1")
    assert answer.headers["x-amzn-errortype"] == answer.json()["__type"] == code
    assert answer.json()["message"]


@pytest.mark.parametrize("path", ["/", "/?Action=Nothing", "/?Action=GetMetricData&Period=x"])
async def test_errors_of_the_query_protocol_are_xml(raw, path):
    answer = await raw.call("POST", path, b"Version=2010-08-01", service="monitoring", headers={
        "Content-Type": "application/x-www-form-urlencoded"})  # fmt: skip
    assert answer.status == 400
    error = ET.fromstring(answer.body)  # noqa: S314 - our own answer
    assert error.tag == "ErrorResponse"
    assert error.find("Error/Type").text == "Sender"
    assert error.find("Error/Code").text
    assert error.find("RequestId").text


async def test_errors_of_s3_have_no_wrapping(raw):
    answer = await raw.call("GET", "/no-such-bucket/key", service="s3")
    assert answer.status == 404
    error = ET.fromstring(answer.body)  # noqa: S314 - our own answer
    assert error.tag == "Error"
    assert error.find("Code").text == "NoSuchBucket"


async def test_errors_of_lambda_name_their_type_in_a_header(raw):
    answer = await raw.call("GET", "/2015-03-31/functions/nobody", service="lambda")
    assert answer.status == 404
    assert answer.headers["x-amzn-errortype"] == "ResourceNotFoundException"
    assert answer.headers["content-type"] == "application/json"
    assert "nobody" in answer.json()["message"]


@pytest.mark.parametrize(
    ("method", "path", "service"),
    [
        ("GET", "/no-such-thing/at/all", "iot"),
        ("POST", "/v1/nothing", "batch"),
        ("POST", "/", "nonsense"),
        ("DELETE", "/2015-03-31/nothing", "lambda"),
        ("PATCH", "/bucket/key", "s3"),
    ],
)
async def test_what_nobody_serves_is_an_aws_error(raw, method, path, service):
    answer = await raw.call(method, path, service=service)
    assert 400 <= answer.status < 600
    assert answer.status != 500
    assert not answer.body.lstrip().lower().startswith((b"<!doctype", b"<html"))
    assert b"Traceback" not in answer.body


async def test_what_moto_fails_on_is_told_as_not_served(raw):
    answer = await raw.json_call("secretsmanager", "secretsmanager.CreateSecret", {"Name": 5})
    assert answer.status == 501
    assert answer.json()["__type"] == "NotImplemented"
    assert "moto, which answers it here, failed" in answer.json()["message"]


async def test_a_body_that_is_declared_too_large_is_refused_before_it_is_sent(peer):
    client = await peer()
    size = front.MAX_BODY_BYTES + 1
    more = f"Content-Length: {size}\r\nExpect: 100-continue\r\n"
    await client.send(request(length=False, more=more))
    status, headers, body = await client.answer()
    assert (status, headers["connection"]) == (413, "close")
    assert b"RequestEntityTooLargeException" in body
    assert await client.closed() == b""


async def test_a_body_without_a_length_is_not_kept_beyond_the_bound(peer, monkeypatch, cloud):
    monkeypatch.setattr(front, "MAX_BODY_BYTES", 1000)
    client = await peer()
    chunk = b"64\r\n" + b"x" * 100 + b"\r\n"
    more = "Transfer-Encoding: chunked\r\n"
    await client.send(request(length=False, more=more) + chunk * 20 + b"0\r\n\r\n")
    assert (await client.answer())[0] == 413


async def test_all_requests_together_have_a_bound(peer, monkeypatch):
    monkeypatch.setattr(front, "MAX_HELD_BYTES", 1000)
    one, other = await peer(), await peer()
    await one.send(request(b"{" + b" " * 898 + b"}")[:-2])
    status = 200
    while status == 200:
        # Until the first has been read as far as it was sent.
        await other.send(request(b"{" + b" " * 198 + b"}"))
        status, headers, body = await other.answer()
    assert (status, headers["connection"]) == (503, "close")
    assert b"ServiceUnavailable" in body
    await one.send(b" }")
    assert (await one.answer())[0] == 200


async def test_a_head_without_an_end_is_cut_off(peer):
    client = await peer()
    await client.send(b"GET / HTTP/1.1\r\n" + b"X-Filler: y\r\n" * 6000)
    assert (await client.closed()).startswith(b"HTTP/1.1 431 ")


@pytest.mark.parametrize(
    "sent", [b"", b"POST / HTT", request(b"{}")[:-1]], ids=["nothing", "head", "body"]
)
async def test_a_client_that_stalls_is_given_up(peer, monkeypatch, sent):
    monkeypatch.setattr(connection, "STALLED_S", 0.2)
    client = await peer()
    await client.send(sent)
    assert await client.closed() == b""


async def test_a_client_that_trickles_is_given_up(peer, monkeypatch):
    monkeypatch.setattr(connection, "REQUEST_S", 0.3)
    client = await peer()
    await client.send(request(b"", length=False, more="Content-Length: 100000\r\n"))
    ended = asyncio.create_task(client.closed())
    while not ended.done():
        await client.send(b" ")
        await asyncio.sleep(0.02)
    assert await ended == b""


async def test_a_client_that_closes_its_side_gets_its_answer(peer):
    client = await peer()
    await client.send(request(b"{}"))
    client.writer.write_eof()
    assert (await client.answer())[0] == 200
    assert await client.closed() == b""


async def test_a_request_that_is_torn_off_is_not_carried_out(cloud, peer, name, eventually):
    client = await peer()
    body = f'{{"StreamName":"{name}","ShardCount":1}}'.encode()
    whole = request(body, operation="Kinesis_20131202.CreateStream")
    await client.send(whole.replace(b"Content-Length: ", b"Content-Length: 1"))
    client.writer.write_eof()
    assert await client.closed() == b""
    streams = await (await cloud.client("kinesis")).list_streams()
    assert name not in streams["StreamNames"]


async def test_requests_in_one_packet_are_answered_in_order(peer):
    client = await peer()
    limits = request(b"{}", operation="Kinesis_20131202.DescribeLimits")
    await client.send(limits + request(b"{}") + request(b"{") + limits)
    answers = [await client.answer() for _ in range(4)]
    assert [status for status, _, _ in answers] == [200, 200, 400, 200]
    assert b"ShardLimit" in answers[0][2]
    assert b"StreamNames" in answers[1][2]


async def test_a_chunked_body_is_read(peer):
    client = await peer()
    await client.send(
        request(length=False, more="Transfer-Encoding: chunked\r\n")
        + b'9\r\n{"Limit":\r\n3\r\n 3}\r\n0\r\n\r\n'
    )
    assert (await client.answer())[0] == 200


async def test_a_client_that_asks_first_is_told_to_go_on(peer):
    client = await peer()
    await client.send(request(length=False, more="Content-Length: 2\r\nExpect: 100-continue\r\n"))
    assert await client.reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
    await client.send(b"{}")
    assert (await client.answer())[0] == 200


async def test_keys_are_percent_decoded_once(cloud, raw, name):
    s3 = await cloud.client("s3")
    await s3.create_bucket(Bucket=name)
    path = f"/{name}/a%20b/%C3%BC%2525%2Fc"
    assert (await raw.call("PUT", path, b"x", service="s3")).status == 200
    listed = await s3.list_objects_v2(Bucket=name)
    assert [one["Key"] for one in listed["Contents"]] == ["a b/ü%25/c"]
    head = await raw.call("HEAD", path, service="s3")
    assert (head.status, head.headers["content-length"], head.body) == (200, "1", b"")


@pytest.mark.parametrize("method", ["HEAD", "OPTIONS", "TRACE", "PATCH"])
@pytest.mark.parametrize("service", ["kinesis", "lambda", "s3", "monitoring", "timestream", ""])
async def test_every_method_has_an_answer(raw, method, service):
    answer = await raw.call(method, "/", service=service)
    assert answer.status != 500
    if method == "HEAD":
        assert answer.body == b""


@pytest.mark.parametrize(
    "sent",
    [b"\x16\x03\x01\x02\x00\x01\x00", b"GET\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n", b"\r\n" * 3 + b"?",
     b"GET / HTTP/1.1\r\nContent-Length: -1\r\n\r\n",
     b"POST / HTTP/1.1\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n"],
)  # fmt: skip
async def test_what_is_not_http_is_refused_and_closed(peer, sent):
    client = await peer()
    await client.send(sent)
    client.writer.write_eof()
    told = await client.closed()
    assert told == b"" or told.startswith(b"HTTP/1.1 400 ")


async def test_a_thousand_connections_are_served_at_once(cloud, peer):
    async def once() -> int:
        client = await peer()
        await client.send(request(b"{"))
        first = (await client.answer())[0]
        waiting.append(client)
        if len(waiting) == 1000:
            together.set()
        await together.wait()
        await client.send(request(b"{}"))
        return first + (await client.answer())[0]

    waiting: list[Any] = []
    together = asyncio.Event()
    assert set(await asyncio.gather(*(once() for _ in range(1000)))) == {600}
