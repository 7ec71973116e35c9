"""PutRecords by hand: a body that was made in bulk, signed by botocore, sent by aiohttp.

A client made by aiobotocore tells endpoint, region and credentials; it serializes and parses a
record at a time, which costs more than all else that a reading goes through.
"""

from __future__ import annotations

import socket
import ssl
from typing import TYPE_CHECKING, Any, Self

import aiohttp
import orjson
from aiobotocore.session import get_session
from botocore.credentials import ReadOnlyCredentials
from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError

from fleetcast.errors import TargetError
from simulator.transports import answers
from simulator.transports.signature import Signature

if TYPE_CHECKING:
    from fleetcast.target import Target
    from simulator.transports.answers import Answer

CONNECT_S, ANSWER_S = 5.0, 15.0
_GATEWAY_ERRORS = {502, 504}
# No connection came about, or the request could not be signed.
_NEVER_SENT = (
    aiohttp.ClientConnectorError,
    aiohttp.ConnectionTimeoutError,
    socket.gaierror,
    BotoCoreError,
)


class RefusedError(Exception):
    """The whole request was refused.

    Args:
        code: AWS's error code, or the HTTP status where there is none.
    """

    def __init__(self, code: str) -> None:
        super().__init__(code)
        self.code = code


class NoAnswerError(Exception):
    """The request may have been taken or not: its answer did not come, or makes no sense."""


class NeverConnectedError(Exception):
    """Nothing of the request left this machine."""


class PutRecords:
    """Sends to one stream over a pool of connections; an async context manager.

    Args:
        target: Where the stream is.
        stream: Its name.
        connections: Most connections.

    Attributes:
        summary: What DescribeStreamSummary told.
    """

    def __init__(self, target: Target, stream: str, connections: int) -> None:
        self._target = target
        self._stream = stream
        self._connections = connections
        self._session: aiohttp.ClientSession | None = None
        self._credentials: Any = None
        self._url = ""
        self._region = ""
        # By operation.
        self._signatures: dict[str, Signature] = {}
        self.summary: dict[str, Any] = {}

    async def __aenter__(self) -> Self:
        """Asks for the stream, so that what is wrong shows before anything is sent.

        Raises:
            TargetError: it cannot be sent to.
        """
        session = get_session()
        try:
            async with self._target.client(
                "kinesis",
                connect_timeout=CONNECT_S,
                read_timeout=ANSWER_S,
                retries={"max_attempts": 0},
            ) as client:
                told = await client.describe_stream_summary(StreamName=self._stream)
                self._url = client.meta.endpoint_url.rstrip("/") + "/"
                self._region = client.meta.region_name
            given = self._target.client_kwargs()
            if "aws_access_key_id" in given:
                self._credentials = ReadOnlyCredentials(
                    given["aws_access_key_id"], given["aws_secret_access_key"], None
                )
            else:
                self._credentials = await session.get_credentials()
        except (ClientError, BotoCoreError, OSError) as error:
            raise TargetError(preflight(self._target, self._stream, error)) from error
        self.summary = told["StreamDescriptionSummary"]
        bundle = session.get_config_variable("ca_bundle")
        trust = (
            ssl.create_default_context(cafile=bundle)
            if bundle and self._url.startswith("https")
            else True
        )
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=self._connections, ssl=trust),
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_S, sock_read=ANSWER_S),
            auto_decompress=False,
            skip_auto_headers={"User-Agent", "Accept-Encoding", "Accept"},
            trust_env=self._target.endpoint_url is None,
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._session is not None:
            await self._session.close()

    async def put(self, body: bytes, count: int) -> Answer:
        """Sends a request once.

        Args:
            body: As `plain_body` and the like make it.
            count: Records in it.

        Returns:
            What became of its `count` records.

        Raises:
            RefusedError: it was refused.
            NeverConnectedError: it was surely not taken.
            NoAnswerError: it may have been taken.
        """
        try:
            status, text = await self._post("PutRecords", body)
        except _NEVER_SENT as error:
            raise NeverConnectedError(f"{type(error).__name__}: {error}") from error
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            raise NoAnswerError(f"no answer: {type(error).__name__}") from error
        if status != 200:  # noqa: PLR2004 - HTTP's OK
            code = _error_code(status, text)
            if code == str(status) and status in _GATEWAY_ERRORS:
                # Of something in between, which does not know what became of the request.
                raise NoAnswerError(f"status {status}")
            raise RefusedError(code)
        try:
            return answers.read(text, count)
        except ValueError as error:
            raise NoAnswerError(str(error)) from error

    async def shards(self) -> list[dict[str, Any]]:
        """The stream's shards, as ListShards tells them.

        Raises:
            TargetError: they are not told.
        """
        found: list[dict[str, Any]] = []
        asked: dict[str, Any] = {"StreamName": self._stream}
        while asked:
            try:
                status, text = await self._post("ListShards", orjson.dumps(asked))
                answer = orjson.loads(text)
            except (aiohttp.ClientError, OSError, ValueError, BotoCoreError) as error:
                raise TargetError(preflight(self._target, self._stream, error)) from error
            if status != 200:  # noqa: PLR2004 - HTTP's OK
                code = _error_code(status, text)
                raise TargetError(
                    f"the shards of stream {self._stream} are not told ({code}), which aggregating "
                    "needs: allow kinesis:ListShards, or send without --aggregate"
                )
            found += answer["Shards"]
            token = answer.get("NextToken")
            asked = {"NextToken": token} if token else {}
        return found

    async def _post(self, operation: str, body: bytes) -> tuple[int, bytes]:
        """Sends a signed request; (status, body) of the answer."""
        if self._session is None:
            raise RuntimeError("not connected")
        signature = self._signatures.get(operation)
        if signature is None:
            headers = {
                "Content-Type": "application/x-amz-json-1.1",
                "X-Amz-Target": f"Kinesis_20131202.{operation}",
            }
            signature = Signature(self._url, headers, self._region)
            self._signatures[operation] = signature
        headers = signature.headers(body, await self._keys())
        async with self._session.post(self._url, data=body, headers=headers) as answer:
            return answer.status, await answer.read()

    async def _keys(self) -> ReadOnlyCredentials:
        """The credentials of now: those that expire are fetched anew in time."""
        if isinstance(self._credentials, ReadOnlyCredentials):
            return self._credentials
        return await self._credentials.get_frozen_credentials()


def preflight(target: Target, stream: str, error: Exception) -> str:
    """Why the stream cannot be sent to, and what to do."""
    where = target.endpoint_url or f"AWS in {target.region}"
    if isinstance(error, ClientError):
        code = str(error.response.get("Error", {}).get("Code"))
        if code == "ResourceNotFoundException":
            return f"stream {stream} is not on {where}: deploy the stack again"
        return f"stream {stream} on {where}: {code}: check the permissions of your credentials"
    if isinstance(error, NoCredentialsError):
        return "no AWS credentials were found: configure a profile or set AWS_ACCESS_KEY_ID"
    if target.name == "local":
        return f"no local cloud answers on {where}: run fleetcast cloud start"
    return f"{where} cannot be reached: {error}"


def _error_code(status: int, text: bytes) -> str:
    """AWS's code of an error answer; the status where it is not one of AWS's."""
    try:
        told = orjson.loads(text)["__type"]
        return str(told).rpartition("#")[2].partition(":")[0] or str(status)
    except (ValueError, KeyError, TypeError):
        return str(status)
