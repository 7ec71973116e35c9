"""The ASGI front: reads a request, finds its service, renders the answer or the error."""

from __future__ import annotations

import asyncio
import logging
import re
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import parse_qs
from xml.sax.saxutils import escape

import cbor2
import orjson

from localcloud.http import AwsError, Request, Response, error_response
from localcloud.streaming import send_stream

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from localcloud.seams import Service

log = logging.getLogger(__name__)

MAX_BODY_BYTES = 64 * 1024 * 1024
LOOPBACK_HOSTS = {"127.0.0.1", "localhost", "[::1]"}
ADMIN_PREFIX = "/_fleetcast/"

_SCOPE = re.compile(r"Credential=[^/]+/\d{8}/([a-z0-9-]+)/([a-z0-9-]+)/aws4_request")
_TARGETS = {
    "Kinesis_20131202": "kinesis",
    "Timestream_20181101": "timestream",
    "Firehose_20150804": "firehose",
    "GraniteServiceVersion20100801": "monitoring",
}

Scope = dict[str, Any]
Receive = "Callable[[], Awaitable[dict[str, Any]]]"
Send = "Callable[[dict[str, Any]], Awaitable[None]]"


class Fallback(Protocol):
    """Answers what no own service answers."""

    async def handle(self, request: Request) -> Response:
        """Answers a request."""


class Front:
    """The ASGI application.

    Args:
        services: Own services by signing name.
        fallback: Who answers the rest.
        admin: Pages under `/_fleetcast/`, by the rest of the path, giving a JSON value.
        region: Region of requests that name none.
    """

    def __init__(
        self,
        services: Mapping[str, Service],
        fallback: Fallback,
        admin: Mapping[str, Callable[[], Any]],
        region: str,
    ) -> None:
        self._services = services
        self._fallback = fallback
        self._admin = admin
        self._region = region

    async def __call__(self, scope: Scope, receive: Any, send: Any) -> None:
        """Answers one ASGI request; only `http` scopes are served."""
        if scope["type"] != "http":
            return
        headers = {
            name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]
        }
        body = await _read_body(receive)
        if body is None:
            response = Response(413, b"request body is too large", {"content-type": "text/plain"})
        else:
            path = scope["raw_path"].decode("latin-1").split("?", 1)[0]
            query = scope["query_string"].decode("latin-1")
            if path.startswith(ADMIN_PREFIX):
                response = self._answer_admin(path, headers)
            else:
                service, region = _service_of(headers, query, self._region)
                target = headers.get("x-amz-target", "")
                request = Request(
                    scope["method"], path, query, headers, body, service,
                    target.rpartition(".")[2], region,
                )  # fmt: skip
                response = await self._answer(request)
        if response.stream is not None:
            await send_stream(response, receive, send)
            return
        await send(
            {
                "type": "http.response.start",
                "status": response.status,
                "headers": [
                    *(
                        (name.encode("latin-1"), value.encode("latin-1"))
                        for name, value in response.headers.items()
                        if name != "content-length"
                    ),
                    (b"content-length", _content_length(scope, response)),
                ],
            }
        )
        await send({"type": "http.response.body", "body": response.body})

    def _answer_admin(self, path: str, headers: dict[str, str]) -> Response:
        host = headers.get("host", "").rpartition(":")[0] or headers.get("host", "")
        if host not in LOOPBACK_HOSTS:
            return Response(403, b'{"error":"the admin API answers loopback hosts only"}')
        page = self._admin.get(path.removeprefix(ADMIN_PREFIX))
        if page is None:
            return Response(404, b'{"error":"no such admin page"}')
        return Response(
            200,
            orjson.dumps(page(), option=orjson.OPT_INDENT_2 | orjson.OPT_SORT_KEYS),
            {"content-type": "application/json"},
        )

    async def _answer(self, request: Request) -> Response:
        try:
            service = self._services.get(request.service)
            if service is not None:
                response = await service.handle(request)
                if response is not None:
                    return response
            return await self._fallback.handle(request)
        except AwsError as error:
            return render_error(request, error)
        except asyncio.CancelledError:
            raise
        except Exception:
            log.exception("%s %s failed", request.service, request.operation or request.path)
            return render_error(
                request,
                AwsError("InternalFailure", "the local cloud failed; see its log", status=500),
            )


def render_error(request: Request, error: AwsError) -> Response:
    """The error in the protocol that the request came in."""
    content_type = request.headers.get("content-type", "")
    if "smithy-protocol" in request.headers:
        return Response(
            error.status,
            cbor2.dumps({"__type": error.code, "message": error.message, **error.extra}),
            {"content-type": "application/cbor", "smithy-protocol": "rpc-v2-cbor"},
        )
    if content_type.startswith("application/x-www-form-urlencoded"):
        kind = "Sender" if error.status < 500 else "Receiver"  # noqa: PLR2004 - HTTP's classes
        text = (
            f"<ErrorResponse><Error><Type>{kind}</Type><Code>{escape(error.code)}</Code>"
            f"<Message>{escape(error.message)}</Message></Error></ErrorResponse>"
        )
        return Response(error.status, text.encode(), {"content-type": "text/xml"})
    return error_response(error, content_type or "application/json")


async def _read_body(receive: Any) -> bytes | None:
    """The whole body; None where it exceeds the bound (the rest is read and thrown away)."""
    parts: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return b""
        part = message.get("body", b"")
        size += len(part)
        if size <= MAX_BODY_BYTES:
            parts.append(part)
        if not message.get("more_body"):
            return b"".join(parts) if size <= MAX_BODY_BYTES else None


def _service_of(headers: dict[str, str], query: str, default_region: str) -> tuple[str, str]:
    """(signing name, region) of a request: credential scope first, then the target prefix."""
    scope = _SCOPE.search(headers.get("authorization", ""))
    if scope:
        return scope.group(2), scope.group(1)
    if "X-Amz-Credential" in query:
        parts = parse_qs(query).get("X-Amz-Credential", [""])[0].split("/")
        if len(parts) == 5:  # noqa: PLR2004 - key, date, region, service, aws4_request
            return parts[3], parts[2]
    prefix = headers.get("x-amz-target", "").partition(".")[0]
    return _TARGETS.get(prefix, ""), default_region


def _content_length(scope: Scope, response: Response) -> bytes:
    if scope["method"] == "HEAD" and "content-length" in response.headers:
        return response.headers["content-length"].encode()
    return str(len(response.body)).encode()
