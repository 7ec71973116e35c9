"""The Lambda Runtime API of one environment (2018-06-01), over its own listener.

The runtime asks for the next invocation, and posts its response or its error.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import orjson

if TYPE_CHECKING:
    from collections.abc import Mapping

# As Lambda names it in the error of a response that is larger.
MAX_RESPONSE_BYTES = 6_291_556
_API = "/2018-06-01/runtime/"
_REASONS = {200: "OK", 202: "Accepted", 404: "Not Found", 413: "Payload Too Large"}


@dataclass(slots=True)
class Invocation:
    """One event on its way through the runtime; `done` gets (payload, whether it failed)."""

    request_id: str
    event: bytes
    deadline_ms: int
    done: asyncio.Future[tuple[bytes, bool]]
    taken: bool = False


@dataclass(slots=True, eq=False)
class RuntimeApi:
    """Serves one process.

    Attributes:
        arn: The function's ARN.
        ready: Is set when the process first asks for an event, fails to start, or ends.
        init_error: What the process posted when it could not start.
    """

    arn: str
    ready: asyncio.Event = field(default_factory=asyncio.Event)
    init_error: bytes | None = None
    _current: Invocation | None = None
    _arrived: asyncio.Event = field(default_factory=asyncio.Event)
    _server: asyncio.Server | None = None
    _serving: set[asyncio.Task[None]] = field(default_factory=set)

    async def start(self) -> int:
        """Listens; returns the port."""
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        port: int = self._server.sockets[0].getsockname()[1]
        return port

    def close(self) -> None:
        """Ends the listener and its connections."""
        if self._server is not None:
            self._server.close()
        for task in self._serving:
            task.cancel()

    def offer(self, invocation: Invocation | None) -> None:
        """Gives the process its next invocation, or takes one back."""
        self._current = invocation
        if invocation is not None:
            self._arrived.set()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        if task is not None:
            self._serving.add(task)
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
                method, path, _ = head[0].split(" ", 2)
                headers = {
                    name.strip().lower(): value.strip()
                    for name, _, value in (line.partition(":") for line in head[1:])
                }
                body, size = await _read_body(reader, headers)
                await self._answer(writer, method, path.partition("?")[0], body, size)
        except (asyncio.IncompleteReadError, asyncio.LimitOverrunError, OSError, ValueError):
            return
        except asyncio.CancelledError:
            # The environment is over. asyncio's own callback stumbles over a cancelled task.
            return
        finally:
            if task is not None:
                self._serving.discard(task)
            writer.close()

    async def _answer(
        self, writer: asyncio.StreamWriter, method: str, path: str, body: bytes, size: int
    ) -> None:
        parts = path.removeprefix(_API).split("/")
        current = self._current
        status, told = 202, b'{"status":"OK"}'
        if method == "GET" and parts == ["invocation", "next"]:
            await self._send_next(writer)
            return
        if method == "POST" and parts == ["init", "error"]:
            self.init_error = body
            self.ready.set()
        elif (
            method == "POST"
            and parts[0] == "invocation"
            and parts[2:] in (["response"], ["error"])
            and current is not None
            and parts[1] == current.request_id
        ):
            failed = parts[2] == "error"
            if size > MAX_RESPONSE_BYTES:
                status, failed, body = 413, True, _too_large(size)
                told = body
            if not current.done.done():
                current.done.set_result((body, failed))
        else:
            status, told = 404, b'{"errorType":"UnknownRequest"}'
        _send(writer, status, told)
        await writer.drain()

    async def _send_next(self, writer: asyncio.StreamWriter) -> None:
        self.ready.set()
        while self._current is None or self._current.taken:
            self._arrived.clear()
            await self._arrived.wait()
        invocation = self._current
        invocation.taken = True
        _send(
            writer,
            200,
            invocation.event,
            {
                "Lambda-Runtime-Aws-Request-Id": invocation.request_id,
                "Lambda-Runtime-Deadline-Ms": str(invocation.deadline_ms),
                "Lambda-Runtime-Invoked-Function-Arn": self.arn,
            },
        )
        await writer.drain()


def _too_large(size: int) -> bytes:
    return orjson.dumps(
        {
            "errorType": "Function.ResponseSizeTooLarge",
            "errorMessage": f"Response payload size ({size} bytes) exceeded maximum allowed "
            f"payload size ({MAX_RESPONSE_BYTES} bytes).",
        }
    )


async def _read_body(reader: asyncio.StreamReader, headers: Mapping[str, str]) -> tuple[bytes, int]:
    """(body, its size); of a body that is too large only the size is kept."""
    parts: list[bytes] = []
    size = 0

    async def take(count: int) -> None:
        nonlocal size
        left = count
        while left:
            part = await reader.readexactly(min(left, 64 * 1024))
            left -= len(part)
            size += len(part)
            if size <= MAX_RESPONSE_BYTES:
                parts.append(part)

    if headers.get("transfer-encoding", "").lower() == "chunked":
        while length := int((await reader.readuntil(b"\r\n")).split(b";")[0], 16):
            await take(length)
            await reader.readexactly(2)
        await reader.readuntil(b"\r\n")
    else:
        await take(int(headers.get("content-length") or 0))
    return b"".join(parts), size


def _send(
    writer: asyncio.StreamWriter, status: int, body: bytes, headers: Mapping[str, str] | None = None
) -> None:
    lines = [f"HTTP/1.1 {status} {_REASONS[status]}"]
    lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
    lines += ["Content-Type: application/json", f"Content-Length: {len(body)}", "", ""]
    # One after the other they would be sent, and wake the function, twice.
    writer.writelines(("\r\n".join(lines).encode("latin-1"), body))
