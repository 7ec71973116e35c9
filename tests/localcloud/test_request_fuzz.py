"""Whatever is sent, the cloud answers in a protocol's shape or closes: no 500, no hang."""

from __future__ import annotations

import base64
import contextlib
import copy
import json
import socket
from typing import Any
from urllib.parse import urlencode

import cbor2
import pytest
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st

from localcloud.naming import SIGNING_NAMES, models, operation_names
from tests.localcloud.calls import CALLS, Row

ANSWER_S = 30.0
FUZZ = settings(
    max_examples=150,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
OWN = ("kinesis", "timestream", "firehose", "monitoring", "lambda")
MOTO = ("sqs", "sns", "s3", "iot", "iam", "kms", "logs", "secretsmanager", "sts", "")
TARGETS = {
    "kinesis": "Kinesis_20131202", "timestream": "Timestream_20181101",
    "firehose": "Firehose_20150804", "monitoring": "GraniteServiceVersion20100801",
    "sqs": "AmazonSQS", "kms": "TrentService", "logs": "Logs_20140328",
    "secretsmanager": "secretsmanager",
}  # fmt: skip


@pytest.fixture(scope="module")
def port(blocking_port: int) -> int:
    return blocking_port


def exchange(port: int, sent: bytes) -> bytes:
    """What comes back until the cloud closes; the client closes its side when it has sent."""
    with socket.create_connection(("127.0.0.1", port), timeout=ANSWER_S) as client:
        parts = []
        with contextlib.suppress(ConnectionError):
            client.sendall(sent)
            client.shutdown(socket.SHUT_WR)
        with contextlib.suppress(ConnectionError):
            while part := client.recv(65_536):
                parts.append(part)
        return b"".join(parts)


def check(told: bytes) -> None:
    """That what came back is an HTTP answer with no sign of a crash, or nothing."""
    if not told:
        event("closed")
        return
    assert told.startswith(b"HTTP/1.1 "), told[:200]
    status = int(told[9:12])
    event(f"status {status}")
    assert status != 500, told[:2000]
    assert b"Traceback" not in told
    assert b"<!doctype" not in told.lower()


def signed(service: str) -> str:
    return (
        f"Authorization: AWS4-HMAC-SHA256 Credential=k/20260101/us-east-1/{service}/aws4_request, "
        "SignedHeaders=host, Signature=0"
    )


TOKEN = st.text(
    st.characters(min_codepoint=33, max_codepoint=126, exclude_characters=":\r\n "), max_size=12
)
PATHS = st.one_of(
    st.sampled_from(["/", "*", "//", "/%", "/%zz", "/%00", "/a?b", "/_fleetcast/status",
                     "/_fleetcast/faults", "/service/x/operation/ListMetrics",
                     "/2015-03-31/functions", "/2015-03-31/functions/%00/invocations"]),
    st.text(st.characters(min_codepoint=33, max_codepoint=126), max_size=30).map(lambda t: f"/{t}"),
)  # fmt: skip
HEADERS = st.lists(
    st.one_of(
        st.sampled_from([signed(service) for service in (*OWN, *MOTO)]),
        st.sampled_from([
            "Content-Type: application/x-www-form-urlencoded", "Content-Type: application/json",
            "Content-Type: application/x-amz-cbor-1.1", "smithy-protocol: rpc-v2-cbor",
            "X-Amz-Target: Kinesis_20131202.PutRecords", "X-Amz-Target: .", "X-Amz-Target: a.b",
            "Transfer-Encoding: chunked", "Expect: 100-continue", "Connection: close",
            "Upgrade: websocket", "Connection: Upgrade", "X-Amz-Invocation-Type: Event",
            "X-Amz-Copy-Source: %", "Content-MD5: x", "Range: bytes=a-b", "Host: \xff",
            "Content-Encoding: aws-chunked", "X-Amz-Date: never",
        ]),
        st.tuples(TOKEN, TOKEN).map(": ".join),
    ),
    max_size=5,
)  # fmt: skip


@FUZZ
@given(
    method=st.sampled_from(["GET", "POST", "PUT", "DELETE", "HEAD", "OPTIONS", "PATCH", "TRACE"]),
    path=PATHS,
    headers=HEADERS,
    body=st.binary(max_size=200),
    length=st.sampled_from(["right", "none", "short", "long", "wrong"]),
)
def test_raw_requests(port, method, path, headers, body, length):
    if path.startswith("/_fleetcast/faults") and method == "POST":
        body = b"{}"
    sizes = {"right": len(body), "short": len(body) // 2, "long": len(body) + 5, "wrong": "x1"}
    lines = [f"{method} {path} HTTP/1.1", "Host: 127.0.0.1", *headers]
    if length in sizes:
        lines.append(f"Content-Length: {sizes[length]}")
    check(exchange(port, "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + body))


@FUZZ
@given(st.binary(max_size=400))
def test_bytes_that_are_no_request(port, sent):
    check(exchange(port, sent))


ODD = st.one_of(
    st.none(), st.booleans(), st.integers(), st.integers(-3, 3), st.floats(), st.text(max_size=20),
    st.just([]), st.just({}), st.just([None]), st.just([[]]), st.just({"": None}), st.just("A" * 5000),
    st.just("arn:aws:kinesis:us-east-1:123456789012:stream/s"), st.just("fuzz"),
)  # fmt: skip


@st.composite
def values(draw: Any, shape: Any, depth: int = 0) -> Any:
    """A value of a shape, of which a part is odd."""
    if draw(st.integers(0, 59)) == 0:
        return draw(ODD)
    kind, limits = shape.type_name, shape.metadata
    if kind == "structure":
        body = {}
        for name, member in shape.members.items():
            wanted = name in shape.required_members
            if depth < 5 and draw(st.integers(0, 9)) < (9 if wanted else 2):
                body[name] = draw(values(member, depth + 1))
        return body
    if kind == "list":
        count = draw(st.integers(max(0, limits.get("min", 0)), max(1, limits.get("min", 0), 2)))
        return [draw(values(shape.member, depth + 1)) for _ in range(min(count, 3))]
    if kind == "map":
        return {"k": draw(values(shape.value, depth + 1))} if draw(st.booleans()) else {}
    return draw(scalars(shape))


@st.composite
def scalars(draw: Any, shape: Any) -> Any:
    kind, limits = shape.type_name, shape.metadata
    if kind == "string":
        if limits.get("enum"):
            return draw(st.sampled_from(limits["enum"]))
        return draw(st.sampled_from(["fuzz", "fuzz-2", "1", "shardId-000000000000",
                                     "arn:aws:iam::123456789012:role/r", "python3.12",
                                     'SELECT 1 FROM "fuzz"."fuzz"']))  # fmt: skip
    if kind in {"integer", "long"}:
        low = int(limits.get("min", 0))
        return draw(st.integers(low, int(limits.get("max", low + 10_000))))
    if kind in {"float", "double"}:
        return draw(st.floats(0, 100))
    if kind == "boolean":
        return draw(st.booleans())
    if kind == "timestamp":
        return draw(st.sampled_from([0, 1_764_000_000, 1_764_000_000.5]))
    return draw(st.sampled_from(["", "eA==", "not base64"]))


def _shape(service: str, operation: str) -> Any:
    model = next(model for model in models(service) if operation in model.operation_names)
    return model.operation_model(operation)


@st.composite
def calls(draw: Any, services: tuple[str, ...]) -> tuple[str, str, Any]:
    service = draw(st.sampled_from(services))
    operation = draw(st.sampled_from(sorted(operation_names(service))))
    shape = _shape(service, operation).input_shape
    return service, operation, draw(values(shape)) if shape is not None else {}


def post(port: int, service: str, body: bytes, *headers: str, path: str = "/") -> None:
    lines = [f"POST {path} HTTP/1.1", "Host: 127.0.0.1", signed(service), *headers,
             f"Content-Length: {len(body)}"]  # fmt: skip
    check(exchange(port, "\r\n".join(lines).encode() + b"\r\n\r\n" + body))


def plain(value: Any) -> bytes:
    """JSON with lone surrogates and numbers beyond what is usual, as a client could send it."""
    return json.dumps(value).encode()


@settings(FUZZ, max_examples=400)
@given(calls(("kinesis", "timestream", "firehose", "monitoring")))
def test_requests_of_the_json_protocol(port, call):
    service, operation, body = call
    if operation == "SubscribeToShard":  # an answer without an end
        return
    event(f"{service} {operation}")
    target = f"X-Amz-Target: {TARGETS[service]}.{operation}"
    post(port, service, plain(body), target, "Content-Type: application/x-amz-json-1.1")


def _ready(rows: list[Row]) -> list[tuple[str, dict[str, Any]]]:
    """The calls of a table that need no answer of another, as they go into JSON."""
    ready = []
    for operation, parameters in rows:
        with contextlib.suppress(KeyError):
            given = parameters({}) if callable(parameters) else parameters
            ready.append((operation, _encoded(given)))
    return ready


def _encoded(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _encoded(one) for name, one in value.items()}
    if isinstance(value, list):
        return [_encoded(one) for one in value]
    return base64.b64encode(value).decode() if isinstance(value, bytes) else value


READY = {
    SIGNING_NAMES.get(service, service): [
        call
        for other, rows in CALLS
        if SIGNING_NAMES.get(other, other) == SIGNING_NAMES.get(service, service)
        for call in _ready(rows)
    ]
    for service, _ in CALLS
}


@st.composite
def changed(draw: Any, value: Any) -> Any:
    """`value` with one thing in it changed, taken away or added."""
    if isinstance(value, dict) and value and draw(st.integers(0, 4)):
        name = draw(st.sampled_from(sorted(value)))
        rest = {other: one for other, one in value.items() if other != name}
        if draw(st.integers(0, 9)) == 0:
            return rest
        return {**rest, name: draw(changed(value[name]))}
    if isinstance(value, list) and value and draw(st.booleans()):
        at = draw(st.integers(0, len(value) - 1))
        return [*value[:at], draw(changed(value[at])), *value[at + 1 :]]
    if isinstance(value, int) and draw(st.booleans()):
        return value + draw(st.sampled_from([-1, 1, 2**31, -(2**63), 0.5]))
    if isinstance(value, str) and draw(st.booleans()):
        return draw(st.sampled_from([value + "x", value[1:], value * 2, value.lower(), "0"]))
    return draw(ODD)


@settings(FUZZ, max_examples=400)
@given(st.data())
def test_valid_requests_with_one_thing_changed(port, data):
    service = data.draw(st.sampled_from(sorted(READY)))
    creating = [call for call in READY[service] if call[0].startswith("Create")]
    for operation, body in creating:
        send_own(port, service, operation, body)
    for _ in range(data.draw(st.integers(1, 3))):
        operation, body = data.draw(st.sampled_from(READY[service]))
        event(f"{service} {operation}")
        send_own(port, service, operation, data.draw(changed(body)))


def send_own(port: int, service: str, operation: str, body: Any) -> None:
    if service in {"iot", "lambda"}:
        send_rest(port, service, operation, body)
        return
    target = f"X-Amz-Target: {TARGETS[service]}.{operation}"
    post(port, service, plain(body), target, "Content-Type: application/x-amz-json-1.1")


@FUZZ
@given(calls(("monitoring",)))
def test_requests_in_cbor(port, call):
    service, operation, body = call
    path = f"/service/GraniteServiceVersion20100801/operation/{operation}"
    post(port, service, cbor2.dumps(body), "smithy-protocol: rpc-v2-cbor",
         "Content-Type: application/cbor", path=path)  # fmt: skip


@FUZZ
@given(calls(("monitoring", "sns", "iam", "sts")))
def test_requests_of_the_query_protocol(port, call):
    service, operation, body = call
    flat = _flat(body) if isinstance(body, dict) else {}
    form = urlencode({"Action": operation, **flat}, errors="replace").encode()
    post(port, service, form, "Content-Type: application/x-www-form-urlencoded")


def _flat(value: Any, prefix: str = "") -> dict[str, Any]:
    if isinstance(value, dict):
        pairs = value.items()
    elif isinstance(value, list):
        pairs = ((f"member.{index + 1}", one) for index, one in enumerate(value))
    else:
        return {prefix: value}
    flat = {}
    for name, one in pairs:
        flat |= _flat(one, f"{prefix}.{name}" if prefix else str(name))
    return flat


@settings(FUZZ, max_examples=300)
@given(calls(("lambda", "iot")))
def test_requests_of_the_rest_protocol(port, call):
    send_rest(port, *call)


def send_rest(port: int, service: str, operation: str, body: Any) -> None:
    if not isinstance(body, dict):
        return
    model = _shape(service, operation)
    path, query = model.http["requestUri"].partition("?")[0], {}
    sent = copy.deepcopy(body)
    for name, shape in model.input_shape.members.items() if model.input_shape else ():
        where, wire = shape.serialization.get("location"), shape.serialization.get("name", name)
        value = sent.pop(name, "fuzz") if where in {"uri", "querystring"} else None
        if where == "uri":
            text = urlencode({"": str(value)}, errors="replace")[1:] or "x"
            path = path.replace(f"{{{wire}}}", text).replace(f"{{{wire}+}}", text)
        elif where == "querystring" and name in body:
            query[wire] = value
    text = urlencode(query, doseq=True, errors="replace")
    lines = [f"{model.http['method']} {path}?{text} HTTP/1.1", "Host: 127.0.0.1", signed(service),
             "Content-Type: application/json"]  # fmt: skip
    raw = plain(sent)
    lines.append(f"Content-Length: {len(raw)}")
    told = exchange(port, "\r\n".join(lines).encode(errors="replace") + b"\r\n\r\n" + raw)
    check(told)


@FUZZ
@given(calls(("sqs", "kms", "logs", "secretsmanager")))
def test_requests_that_moto_answers(port, call):
    service, operation, body = call
    target = f"X-Amz-Target: {TARGETS[service]}.{operation}"
    post(port, service, plain(body), target, "Content-Type: application/x-amz-json-1.1")
