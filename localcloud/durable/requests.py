"""Requests that change what there is: kept, and made again when the cloud starts anew.

Kept is what the control planes answered with success, with its moment. What is put into streams,
tables, queues and delivery streams is kept by those themselves.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import re
import struct
from typing import TYPE_CHECKING, Any

import orjson

from fleetcast.errors import TargetError
from localcloud.durable import moment
from localcloud.durable.moment import Moment
from localcloud.http import AwsError, Request
from localcloud.naming import operation_of, protocol_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from localcloud.durable.log import Log
    from localcloud.http import Response

    Answer = Callable[[Request], Awaitable[Response]]

log = logging.getLogger(__name__)

_READS = re.compile(
    r"^(BatchGet|Decode|Describe|Get|Head|List|Lookup|Preview|Query|Scan|Search|Select|Simulate|Test|"
    r"Validate|Verify)"
)
# Written elsewhere, or nothing that stays: data planes, invocations, cryptography, metrics, lines.
_PASSING: dict[str, frozenset[str]] = {
    "firehose": frozenset({"PutRecord", "PutRecordBatch"}),
    "iot": frozenset({"Publish"}),
    "kinesis": frozenset({"PutRecord", "PutRecords", "SubscribeToShard"}),
    "kms": frozenset(
        {
            "Decrypt",
            "DeriveSharedSecret",
            "Encrypt",
            "GenerateDataKey",
            "GenerateDataKeyPair",
            "GenerateDataKeyPairWithoutPlaintext",
            "GenerateDataKeyWithoutPlaintext",
            "GenerateMac",
            "GenerateRandom",
            "ReEncrypt",
            "Sign",
        }
    ),
    "lambda": frozenset({"Invoke", "InvokeAsync", "InvokeWithResponseStream"}),
    "logs": frozenset(
        {"FilterLogEvents", "PutLogEvents", "StartLiveTail", "StartQuery", "StopQuery"}
    ),
    "monitoring": frozenset({"PutMetricData", "SetAlarmState"}),
    "sns": frozenset({"Publish", "PublishBatch"}),
    "sqs": frozenset(
        {
            "ChangeMessageVisibility",
            "ChangeMessageVisibilityBatch",
            "DeleteMessage",
            "DeleteMessageBatch",
            "PurgeQueue",
            "ReceiveMessage",
            "SendMessage",
            "SendMessageBatch",
        }
    ),
    "timestream": frozenset(
        {
            "CancelQuery",
            "CreateBatchLoadTask",
            "ExecuteScheduledQuery",
            "PrepareQuery",
            "ResumeBatchLoadTask",
            "WriteRecords",
        }
    ),
}
# These answer by themselves and wait for their own engines, which make requests: in no one's turn.
_BY_THEMSELVES = frozenset({"firehose", "kinesis", "lambda", "timestream"})
_GOOD = 300
_LENGTH = struct.Struct("<I")


class Requests:
    """The log of requests.

    Args:
        kept: Where they are.
    """

    def __init__(self, kept: Log) -> None:
        self._log = kept
        self._turn = asyncio.Lock()
        self.made_again = 0

    def keeps(self, request: Request) -> bool:
        """Whether a request is one that changes what there is."""
        if request.method in {"GET", "HEAD"} and not request.operation:
            return protocol_of(request) == "query" and _changes(request)
        return _changes(request)

    async def answer(self, request: Request, serve: Answer) -> Response:
        """Answers a request, and keeps it before the answer is given where it succeeded.

        Raises:
            AwsError: it failed, or could not be kept.
        """
        made = Moment()
        async with self._in_turn(request):
            with moment.during(made):
                response = await serve(request)
            if response.status < _GOOD:
                self._log.append([_encoded(request, made)])
            return response

    def note(self, service: str, operation: str, body: dict[str, Any], made: Moment) -> None:
        """Keeps what a service did of itself, as a request that it answers when it is made again.

        Raises:
            NotKeptError: it could not be written.
        """
        request = Request("POST", "/", "", {}, orjson.dumps(body), service, operation, "")
        self._log.append([_encoded(request, made)])

    async def replay(self, serve: Answer, at: Callable[[int], None]) -> None:
        """Makes all of them again.

        Args:
            serve: Answers one.
            at: Is told the time of each before it is made, nanoseconds since the epoch.

        Raises:
            TargetError: the log is damaged, or a request does not succeed again.
        """
        for _, entry in self._log.entries():
            request, made = _decoded(entry)
            at(made.epoch_ns)
            try:
                with moment.during(made):
                    response = await serve(request)
                status, problem = response.status, response.body[:200].decode("utf-8", "replace")
            except AwsError as error:
                status, problem = error.status, str(error)
            if status >= _GOOD:
                name = operation_of(request) or f"{request.method} {request.path}"
                raise TargetError(
                    f"{self._log.folder}: {request.service or 's3'} {name} succeeded once and fails "
                    f"now ({problem}): start the version of fleetcast that wrote it, or begin anew "
                    "with another --data folder"
                )
            self.made_again += 1

    def close(self) -> None:
        """Ends writing."""
        self._log.close()

    def status(self) -> dict[str, Any]:
        """What it takes."""
        return {"requests_made_again": self.made_again}

    @contextlib.asynccontextmanager
    async def _in_turn(self, request: Request) -> AsyncIterator[None]:
        """One after the other where moto answers: its threads would mix up their order."""
        if request.service in _BY_THEMSELVES:
            yield
        else:
            async with self._turn:
                yield


def _changes(request: Request) -> bool:
    operation = operation_of(request)
    return not (_READS.match(operation) or operation in _PASSING.get(request.service, ()))


def _encoded(request: Request, made: Moment) -> bytes:
    head = orjson.dumps(
        {
            "at_ns": made.epoch_ns,
            "seed": made.seed,
            "method": request.method,
            "path": request.path,
            "query": request.query,
            "headers": request.headers,
            "service": request.service,
            "operation": request.operation,
            "region": request.region,
        }
    )
    return b"".join((_LENGTH.pack(len(head)), head, request.body))


def _decoded(entry: bytes) -> tuple[Request, Moment]:
    (length,) = _LENGTH.unpack_from(entry)
    start = _LENGTH.size + length
    told = orjson.loads(entry[_LENGTH.size : start])
    request = Request(
        told["method"], told["path"], told["query"], told["headers"], entry[start:],
        told["service"], told["operation"], told["region"],
    )  # fmt: skip
    return request, Moment(told["at_ns"], told["seed"])
