from __future__ import annotations

import asyncio
import datetime as dt
import json
import logging

import pytest
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials, ReadOnlyCredentials
from hypothesis import given, settings
from hypothesis import strategies as st

from fleetcast.errors import TargetError
from fleetcast.target import Target
from simulator.batch import ACKED, FAILED
from simulator.columns import of_bytes, of_texts
from simulator.transports import bodies
from simulator.transports.kinesis import KinesisTransport
from simulator.transports.signature import Signature
from tests.simulator.fake_kinesis import FakeKinesis

TOKEN = "a-session-token-that-no-log-may-have"
SECRET = "a-secret-key-that-no-log-may-have"


class Issuer:
    """Gives credentials that expire at once, each time others, as a container's role does."""

    def __init__(self) -> None:
        self.given = 0
        self.port = 0

    async def __aenter__(self):
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_):
        self._server.close()

    async def _serve(self, reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        self.given += 1
        soon = dt.datetime.now(dt.UTC) + dt.timedelta(seconds=30)
        body = json.dumps(
            {
                "AccessKeyId": f"AKID{self.given}",
                "SecretAccessKey": SECRET,
                "Token": TOKEN,
                "Expiration": soon.strftime("%Y-%m-%dT%H:%M:%SZ"),
            }
        ).encode()
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
        await writer.drain()
        writer.close()


def put_heads(fake) -> list[dict[str, str]]:
    heads = []
    for head in fake.heads:
        lines = [line.split(": ", 1) for line in head.strip().split("\r\n")[1:]]
        headers = {name.lower(): value for name, value in lines}
        if headers["x-amz-target"].endswith("PutRecords"):
            heads.append(headers)
    return heads


@pytest.fixture
def as_a_container(monkeypatch):
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_CONFIG_FILE", "/nonexistent")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/nonexistent")

    def go(issuer_port: int, kinesis_port: int) -> Target:
        monkeypatch.setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", f"http://127.0.0.1:{issuer_port}/")
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{kinesis_port}")
        return Target.named("aws", region="eu-west-1")

    return go


@pytest.mark.asyncio
async def test_requests_are_signed_with_the_credentials_of_the_moment_and_no_log_has_them(
    as_a_container, readings_of, caplog
):
    decided = []
    caplog.set_level(logging.DEBUG)
    # What creating a client and asking for the stream logs is botocore's; sending logs nothing.
    async with Issuer() as issuer, FakeKinesis() as fake:
        target = as_a_container(issuer.port, fake.port)
        async with KinesisTransport(target, "s", decided.append) as transport:
            caplog.clear()
            for number in range(3):
                transport.send(readings_of([b"%d" % number], first=number))
                await asyncio.wait_for(transport.drain(), 60)
        heads = put_heads(fake)
        bodies = fake.bodies[-3:]
    assert [int(batch.rows["outcome"][0]) for batch in decided] == [ACKED] * 3
    assert SECRET not in caplog.text
    assert TOKEN not in caplog.text
    ids = [head["authorization"].partition("Credential=")[2].split("/")[0] for head in heads]
    assert len(set(ids)) == 3
    for head, key_id, body in zip(heads, ids, bodies, strict=True):
        again = AWSRequest(
            "POST", f"http://127.0.0.1:{fake.port}/", {
                "Content-Type": head["content-type"], "X-Amz-Target": head["x-amz-target"],
                "X-Amz-Date": head["x-amz-date"], "X-Amz-Security-Token": TOKEN,
            }, body,
        )  # fmt: skip
        again.context["timestamp"] = head["x-amz-date"]
        signer = SigV4Auth(Credentials(key_id, SECRET, TOKEN), "kinesis", "eu-west-1")
        text = signer.string_to_sign(again, signer.canonical_request(again))
        assert head["authorization"].endswith(f"Signature={signer.signature(text, again)}")
        assert head["x-amz-security-token"] == TOKEN


@pytest.mark.asyncio
async def test_credentials_that_can_no_longer_be_had_fail_readings_and_are_told(
    as_a_container, readings_of, monkeypatch
):
    decided = []
    async with FakeKinesis() as fake:
        async with Issuer() as issuer:
            target = as_a_container(issuer.port, fake.port)
            transport = KinesisTransport(target, "s", decided.append, attempts=1)
            await transport.__aenter__()
        monkeypatch.setattr("botocore.utils.ContainerMetadataFetcher.SLEEP_TIME", 0)
        transport.send(readings_of([b"late"]))
        await asyncio.wait_for(transport.drain(), 60)
        await transport.__aexit__()
        assert put_heads(fake) == []
    assert [int(batch.rows["outcome"][0]) for batch in decided] == [FAILED]
    assert "redential" in transport.traffic.last_error
    assert SECRET not in transport.traffic.last_error


@pytest.mark.asyncio
async def test_missing_credentials_are_told_before_anything_is_sent(monkeypatch, as_a_container):
    target = as_a_container(1, 1)
    monkeypatch.delenv("AWS_CONTAINER_CREDENTIALS_FULL_URI")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    with pytest.raises(TargetError, match="no AWS credentials were found"):
        async with KinesisTransport(target, "s", list):
            pytest.fail("it connected")


@settings(deadline=None, max_examples=100)
@given(
    st.text(min_size=1, max_size=20),
    st.lists(
        st.tuples(
            st.binary(max_size=400), st.text(st.characters(codec="utf-8"), min_size=1, max_size=30)
        ),
        min_size=1,
        max_size=40,
    ),
    st.sampled_from([0, bodies.FEW]),
)
def test_a_body_is_what_a_json_encoder_would_make_of_the_same_records(stream, some, few):
    import base64  # noqa: PLC0415

    if not stream.isprintable():
        stream = "s"
    # A request has a part of what left at a time.
    payloads, keys = map(list, zip((b"before", "1"), *some, (b"after", "2"), strict=True))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bodies, "FEW", few)
        records = bodies.record_texts(of_bytes(payloads), of_texts(keys))
    assert json.loads(bodies.plain_body(stream, records[1:-1])) == {
        "StreamName": stream,
        "Records": [
            {"Data": base64.b64encode(payload).decode(), "PartitionKey": key}
            for payload, key in some
        ],
    }


@settings(deadline=None, max_examples=60)
@given(
    st.lists(
        st.tuples(
            st.binary(max_size=300),
            st.sampled_from(["AKIDA", "AKIDB"]),
            st.sampled_from([None, "", "token"]),
            st.integers(0, 2),
        ),
        min_size=1,
        max_size=6,
    ),
    st.sampled_from(["http://127.0.0.1:4566/", "https://kinesis.eu-west-1.amazonaws.com/"]),
)
def test_every_request_is_signed_as_botocore_signs_it_by_itself(some, url):
    given_headers = {"Content-Type": "application/x-amz-json-1.1", "X-Amz-Target": "K.PutRecords"}
    signature = Signature(url, given_headers, "eu-west-1")
    for body, key_id, token, second in some:
        credentials = ReadOnlyCredentials(key_id, SECRET, token)
        now = dt.datetime(2026, 1, 31, 23, 59, 57 + second, tzinfo=dt.UTC)
        alone = AWSRequest("POST", url, headers=given_headers, data=body)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("simulator.transports.signature.get_current_datetime", lambda at=now: at)
            patch.setattr("botocore.auth.get_current_datetime", lambda at=now: at)
            SigV4Auth(credentials, "kinesis", "eu-west-1").add_auth(alone)
            assert signature.headers(body, credentials) == dict(alone.headers.items())
