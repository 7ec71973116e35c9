"""Requests, responses and errors as the services of the local cloud see them."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import orjson

from localcloud import cbor

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator


# What is told of a fault that is the cloud's own; its log has the rest.
OWN_FAULT = "the local cloud failed; see its log"


@dataclass(frozen=True, slots=True)
class Request:
    """One HTTP request, already read whole.

    Attributes:
        method: Upper-case HTTP method.
        path: Raw path, percent-encoded, without the query.
        query: Raw query string without `?`.
        headers: Lower-case names to values (last one wins).
        body: The body's bytes, content-encoding not undone.
        service: AWS signing name (`kinesis`, `lambda`, `monitoring`, ...), from the credential
            scope or the target prefix; empty where neither is there.
        operation: Operation of `X-Amz-Target` (after the dot), or empty.
        region: Region of the credential scope, or the cloud's own.
        kept: What was found out about it, for whoever asks again.
    """

    method: str
    path: str
    query: str
    headers: dict[str, str]
    body: bytes
    service: str
    operation: str
    region: str
    kept: dict[str, Any] = field(default_factory=dict, init=False, repr=False, compare=False)
    _parsed: dict[str, Any] | None = field(default=None, init=False, repr=False, compare=False)

    def json(self) -> dict[str, Any]:
        """The body as a JSON object, or as the CBOR map that stands for one.

        It is parsed once: whoever asks gets the same object.

        Raises:
            AwsError: SerializationException, where it is none.
        """
        if self._parsed is not None:
            return self._parsed
        is_cbor = cbor.is_cbor(self.headers.get("content-type", ""))
        try:
            value = cbor.loads(self.body) if is_cbor else orjson.loads(self.body or b"{}")
        except ValueError as error:
            kind = "CBOR" if is_cbor else "JSON"
            raise AwsError(
                "SerializationException", f"request body is not {kind}: {error}"
            ) from error
        if not isinstance(value, dict):
            raise AwsError("SerializationException", "request body is not a JSON object")
        object.__setattr__(self, "_parsed", value)  # frozen for everyone else
        return value


@dataclass(frozen=True, slots=True)
class Response:
    """One HTTP response. `headers` are lower-case; content-length is added by the front.

    Attributes:
        stream: Parts of a body that goes on, in the place of `body`.
    """

    status: int = 200
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)
    stream: AsyncGenerator[bytes, None] | None = None


class AwsError(Exception):
    """An error with AWS's code and message; the front renders it in the protocol's shape.

    Args:
        code: AWS error code, such as `ResourceNotFoundException`.
        message: What is wrong.
        status: HTTP status (400 for most).
        extra: Further members of the error body (`RejectedRecords`, ...).
    """

    def __init__(self, code: str, message: str, status: int = 400, **extra: Any) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code
        self.message = message
        self.status = status
        self.extra = extra


def request_id() -> str:
    """An id for an answer, in the form of a UUID; nothing secret, so made without the system."""
    text = f"{random.getrandbits(128):032x}"
    return f"{text[:8]}-{text[8:12]}-4{text[13:16]}-a{text[17:20]}-{text[20:]}"


def json_response(value: Any, status: int = 200, content_type: str = "") -> Response:
    """A JSON response; `content_type` defaults to AWS JSON 1.1."""
    return Response(
        status,
        b"" if value is None else orjson.dumps(value),
        {
            "content-type": content_type or "application/x-amz-json-1.1",
            "x-amzn-requestid": request_id(),
        },
    )


def error_response(error: AwsError, content_type: str = "application/x-amz-json-1.1") -> Response:
    """The JSON form of an error, as the json and rest-json protocols have it, or that in CBOR."""
    members = {
        "__type": error.code,
        "message": error.message,
        "Message": error.message,
        **error.extra,
    }
    return Response(
        error.status,
        cbor.dumps(members) if cbor.is_cbor(content_type) else orjson.dumps(members),
        {
            "content-type": content_type,
            "x-amzn-errortype": error.code,
            "x-amzn-requestid": request_id(),
        },
    )
