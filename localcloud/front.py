"""The ASGI front: reads a request, finds its service, renders the answer or the error."""

from __future__ import annotations

import asyncio
import logging
import re
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import parse_qs

from localcloud.access.documents import SERVICES, check_document
from localcloud.admin import PREFIX
from localcloud.clients import is_own
from localcloud.connection import CONNECTION
from localcloud.faults.inject import ConnectionDropped
from localcloud.http import OWN_FAULT, AwsError, Request, Response, request_id
from localcloud.naming import operation_of
from localcloud.rendering import render_error
from localcloud.streaming import send_stream
from localcloud.validation import check_request

if TYPE_CHECKING:
    from collections.abc import Mapping

    from localcloud.access.control import AccessControl
    from localcloud.admin import Admin
    from localcloud.connection import Connection
    from localcloud.durable.requests import Requests
    from localcloud.faults.inject import Injector
    from localcloud.seams import Service

log = logging.getLogger(__name__)

MAX_BODY_BYTES = 64 * 1024 * 1024
# What all requests together may have waiting: a thousand clients cannot fill the memory.
MAX_HELD_BYTES = 512 * 1024 * 1024
MAX_DISCARDED_BYTES = 4 * MAX_BODY_BYTES

_SCOPE = re.compile(r"Credential=[^/]+/\d{8}/([a-z0-9-]+)/([a-z0-9-]+)/aws4_request")
_TARGETS = {
    "Kinesis_20131202": "kinesis",
    "Timestream_20181101": "timestream",
    "Firehose_20150804": "firehose",
    "GraniteServiceVersion20100801": "monitoring",
}

_TOO_LARGE = AwsError(
    "RequestEntityTooLargeException",
    f"a request has at most {MAX_BODY_BYTES // 1024 // 1024} MiB here",
    413,
)
_TOO_MANY = AwsError(
    "ServiceUnavailable",
    f"requests of {MAX_HELD_BYTES // 1024 // 1024} MiB are being read: try again later",
    503,
)

# Timestream counts what it refuses; CloudWatch's three protocols are decoded first.
_CHECKED_HERE = {"kinesis", "firehose", "lambda", "logs"}

# What a service calls a parameter that its model does not allow, where that is its own name.
_REFUSALS = {"logs": "InvalidParameterException"}

Scope = dict[str, Any]


class Fallback(Protocol):
    """Answers what no own service answers."""

    async def handle(self, request: Request) -> Response:
        """Answers a request."""


class _ClientGoneError(Exception):
    """The client closed its connection in the middle of its request."""


class Front:
    """The ASGI application.

    Args:
        services: Own services by signing name.
        fallback: Who answers the rest.
        admin: Who answers under `/_fleetcast/`.
        faults: Faults on requests.
        access: Who may make which request.
        region: Region of requests that name none.
        requests: Keeps requests, where the cloud has a folder.

    Attributes:
        restoring: What is being taken back, while nobody but the cloud itself is served.
    """

    def __init__(
        self,
        services: Mapping[str, Service],
        fallback: Fallback,
        admin: Admin,
        faults: Injector,
        access: AccessControl,
        region: str,
        *,
        requests: Requests | None = None,
    ) -> None:
        self.restoring = ""
        self._requests = requests
        self._services = services
        self._fallback = fallback
        self._admin = admin
        self._faults = faults
        self._access = access
        self._region = region
        self._held_bytes = 0

    async def __call__(self, scope: Scope, receive: Any, send: Any) -> None:
        """Answers one ASGI request; only `http` scopes are served."""
        if scope["type"] != "http":
            return
        headers = {
            name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]
        }
        try:
            response = await self._read_and_answer(scope, headers, receive)
        except _ClientGoneError:
            return
        except ConnectionDropped:
            scope[CONNECTION].drop()
            # uvicorn would send its own 500 to a client that it believes to be there.
            while (await receive())["type"] != "http.disconnect":
                pass
            return
        if response.stream is not None:
            await send_stream(response, receive, send)
            return
        start = {
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
        connection: Connection = scope[CONNECTION]
        with connection.at_once():
            await send(start)
            await send({"type": "http.response.body", "body": response.body})

    async def _read_and_answer(
        self, scope: Scope, headers: dict[str, str], receive: Any
    ) -> Response:
        path = scope["raw_path"].decode("latin-1").split("?", 1)[0]
        query = scope["query_string"].decode("latin-1")
        service, region = _service_of(headers, query, self._region)
        operation = headers.get("x-amz-target", "").rpartition(".")[2]

        def request(body: bytes) -> Request:
            return Request(
                scope["method"], path, query, headers, body, service, operation, region
            )  # fmt: skip

        parts: list[bytes] = []
        try:
            refusal = await self._read(receive, headers, parts)
            if refusal is not None:
                rendered = render_error(request(b""), refusal)
                # What the client still sends is not read.
                return Response(
                    rendered.status, rendered.body, {**rendered.headers, "connection": "close"}
                )
            body = b"".join(parts)
            if path.startswith(PREFIX):
                return self._admin.answer(scope["method"], path, headers, body)
            return await self._answer(request(body), scope[CONNECTION])
        finally:
            self._held_bytes -= sum(map(len, parts))

    async def _read(
        self, receive: Any, headers: dict[str, str], parts: list[bytes]
    ) -> AwsError | None:
        """Reads the body into `parts`; what is wrong with it, where it exceeds a bound.

        Raises:
            _ClientGoneError: the client closed its connection first.
        """
        declared = headers.get("content-length", "")
        refusal = _TOO_LARGE if declared.isdecimal() and int(declared) > MAX_BODY_BYTES else None
        if refusal is not None and "expect" in headers:
            return refusal
        size = 0
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise _ClientGoneError
            part = message.get("body", b"")
            size += len(part)
            if size > MAX_BODY_BYTES:
                refusal = refusal or _TOO_LARGE
            elif self._held_bytes + len(part) > MAX_HELD_BYTES:
                refusal = refusal or _TOO_MANY
            if refusal is None:
                parts.append(part)
                self._held_bytes += len(part)
            elif parts:
                self._held_bytes -= sum(map(len, parts))
                parts.clear()
            # The rest is thrown away, not left: most clients read no answer before they have sent.
            if not message.get("more_body") or size > MAX_DISCARDED_BYTES:
                return refusal

    async def _answer(self, request: Request, connection: Connection) -> Response:
        try:
            if self._faults.concerns(request.service):
                return await self._faults.answer(request, connection, self._handle)
            return await self._handle(request)
        except AwsError as error:
            return render_error(request, error)
        except (asyncio.CancelledError, ConnectionDropped):
            raise
        except Exception:
            log.exception("%s %s failed", request.service, request.operation or request.path)
            return render_error(
                request,
                AwsError("InternalFailure", OWN_FAULT, status=500),
            )

    async def _handle(self, request: Request) -> Response:
        if self.restoring and not is_own(request):
            raise AwsError("ServiceUnavailable", f"{self.restoring}: try again later", 503)
        if request.service in _CHECKED_HERE:
            check_request(request, _REFUSALS.get(request.service, "ValidationException"))
        if self._access.enabled and request.service in SERVICES and request.method != "GET":
            check_document(request, operation_of(request))
        who = self._access.who(request)
        if who is not None:
            self._access.authorize(request, who)
        if self._requests is not None and not self.restoring and self._requests.keeps(request):
            return await self._requests.answer(request, self.serve)
        return await self.serve(request)

    async def serve(self, request: Request) -> Response:
        """Answers a request that may be made.

        Raises:
            AwsError: in the words of the service.
        """
        service = self._services.get(request.service)
        if service is not None:
            response = await service.handle(request)
            if response is not None:
                if "x-amzn-requestid" not in response.headers:
                    response.headers["x-amzn-requestid"] = request_id()
                self._access.changed(request)
                return response
        response = await self._fallback.handle(request)
        self._access.changed(request)
        return response


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
