from __future__ import annotations

import datetime as dt

import pytest
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import ReadOnlyCredentials
from hypothesis import given, settings
from hypothesis import strategies as st

from simulator.transports.sigv4 import RequestSigner

HEADERS = {"content-type": "application/x-amz-json-1.1", "x-amz-target": "Kinesis.PutRecords"}
URLS = [
    "https://kinesis.eu-west-1.amazonaws.com/",
    "https://kinesis.eu-west-1.amazonaws.com:443/",
    "http://127.0.0.1:4566/",
    "http://localhost:80/",
    "http://[::1]:4566/",
    "http://LocalHost:4566/kinesis here/",
    "https://vpce-1.kinesis.us-gov-west-1.vpce.amazonaws.com/",
]
secrets = st.text("abzAZ019+/=", min_size=1, max_size=40)


def signed_by_botocore(
    url: str, region: str, body: bytes, keys: ReadOnlyCredentials, at: str
) -> str:
    request = AWSRequest("POST", url, {**HEADERS, "x-amz-date": at}, body)
    if keys.token:
        request.headers["x-amz-security-token"] = keys.token
    request.context["timestamp"] = at
    signer = SigV4Auth(keys, "kinesis", region)
    text = signer.string_to_sign(request, signer.canonical_request(request))
    signer._inject_signature_to_request(request, signer.signature(text, request))
    return str(request.headers["Authorization"])


@settings(deadline=None, max_examples=100)
@given(
    st.sampled_from(URLS),
    st.sampled_from(["eu-west-1", "us-gov-west-1"]),
    st.lists(
        st.tuples(st.binary(max_size=200), secrets, st.none() | secrets, st.integers(0, 2**32)),
        min_size=1,
        max_size=4,
    ),
)
def test_signatures_are_those_of_botocore_whatever_was_signed_before(url, region, some):
    signer = RequestSigner("kinesis", region, url)
    for body, secret, token, now_s in some:
        keys = ReadOnlyCredentials("AKID", secret, token)
        headers = signer.signed(HEADERS, body, keys, now_s)
        at = dt.datetime.fromtimestamp(now_s, dt.UTC).strftime("%Y%m%dT%H%M%SZ")
        assert headers.pop("authorization") == signed_by_botocore(url, region, body, keys, at)
        assert headers.pop("x-amz-security-token", None) == token
        assert headers == {**HEADERS, "x-amz-date": at}


@pytest.mark.parametrize("token", ["", None])
def test_without_a_session_there_is_no_token(token):
    signer = RequestSigner("kinesis", "eu-west-1", URLS[0])
    keys = ReadOnlyCredentials("AKID", "secret", token)
    assert "x-amz-security-token" not in signer.signed(HEADERS, b"", keys, 0)
