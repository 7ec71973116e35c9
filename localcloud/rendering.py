"""Errors in the shape that the client of each wire protocol reads."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING
from xml.sax.saxutils import escape

import cbor2

from localcloud import cbor
from localcloud.http import AwsError, Response, error_response
from localcloud.naming import protocol_of

if TYPE_CHECKING:
    from localcloud.http import Request

SERVER_ERROR = 500
_XML = '<?xml version="1.0" encoding="UTF-8"?>\n'
# What XML 1.0 cannot carry, escaped or not.
_NO_XML = dict.fromkeys([*range(9), 11, 12, *range(14, 32), 0xFFFE, 0xFFFF, *range(0xD800, 0xE000)])


def render_error(request: Request, error: AwsError) -> Response:
    """The error in the protocol that the request came in."""
    protocol = protocol_of(request)
    if protocol == "cbor":
        return _cbor(request, error)
    if protocol == "json":
        kind = request.headers.get("content-type", "")
        known = kind.startswith("application/x-amz-json-")
        return error_response(error, kind if known else "application/x-amz-json-1.1")
    if protocol == "rest-json":
        return error_response(error, "application/json")
    request_id = str(uuid.uuid4())
    code, message = _text(error.code), _text(error.message)
    if protocol == "ec2":
        text = (
            f"<Response><Errors><Error><Code>{code}</Code><Message>{message}</Message></Error>"
            f"</Errors><RequestID>{request_id}</RequestID></Response>"
        )
    elif protocol == "rest-xml" and request.service in {"s3", ""}:
        text = (
            f"<Error><Code>{code}</Code><Message>{message}</Message>"
            f"<Resource>{_text(request.path)}</Resource><RequestId>{request_id}</RequestId></Error>"
        )
    else:
        kind = "Sender" if error.status < SERVER_ERROR else "Receiver"
        text = (
            f"<ErrorResponse><Error><Type>{kind}</Type><Code>{code}</Code>"
            f"<Message>{message}</Message></Error><RequestId>{request_id}</RequestId>"
            "</ErrorResponse>"
        )
    return Response(
        error.status,
        b"" if request.method == "HEAD" else (_XML + text).encode(),
        {
            "content-type": "text/xml",
            "x-amzn-requestid": request_id,
            "x-amz-request-id": request_id,
        },
    )


def _cbor(request: Request, error: AwsError) -> Response:
    if "smithy-protocol" not in request.headers:
        return error_response(error, cbor.CONTENT_TYPE)
    body = cbor2.dumps({"__type": error.code, "message": error.message, **error.extra})
    headers = {"content-type": "application/cbor", "smithy-protocol": "rpc-v2-cbor"}
    return Response(error.status, body, {**headers, "x-amzn-requestid": str(uuid.uuid4())})


def _text(value: str) -> str:
    return escape(value.translate(_NO_XML))
