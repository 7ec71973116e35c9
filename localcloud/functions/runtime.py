"""Execution environments: one process each, driven through the Lambda Runtime API.

The API is the documented one (2018-06-01): the runtime asks for the next invocation, and posts its
response or its error. Each environment has a listener of its own, so that the path needs no id.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import signal
import sys
import time
import uuid
from collections import deque
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

log = logging.getLogger(__name__)

LAUNCHER = Path(__file__).with_name("launcher.py")
INIT_TIMEOUT_S = 30.0
MAX_LINE_BYTES = 1024 * 1024
TAIL_LINES = 50
_API = "/2018-06-01/runtime/"


@dataclass(frozen=True, slots=True)
class Result:
    """How an invocation ended. `error` is None, or AWS's `Unhandled`."""

    payload: bytes
    error: str | None
    duration_ms: float
    request_id: str
    log_tail: str = ""


@dataclass(slots=True)
class _Invocation:
    request_id: str
    event: bytes
    deadline_ms: int
    done: asyncio.Future[tuple[bytes, bool]]
    taken: bool = False


@dataclass(frozen=True, slots=True)
class EnvironmentSettings:
    """What a process is started with.

    Attributes:
        handler: `module.function`.
        folder: Where the code lies.
        variables: Its whole environment.
        arn: The function's ARN.
        timeout_s: After which an invocation is killed.
    """

    handler: str
    folder: Path
    variables: Mapping[str, str]
    arn: str
    timeout_s: float


@dataclass(slots=True, eq=False)
class Environment:
    """One process that runs one invocation at a time."""

    settings: EnvironmentSettings
    on_line: Callable[[str], None]
    generation: int = 0
    idle_since_s: float = 0.0
    alive: bool = False
    tail: deque[str] = field(default_factory=lambda: deque(maxlen=TAIL_LINES))
    _process: asyncio.subprocess.Process | None = None
    _server: asyncio.Server | None = None
    _current: _Invocation | None = None
    _arrived: asyncio.Event = field(default_factory=asyncio.Event)
    _ready: asyncio.Event = field(default_factory=asyncio.Event)
    _init_error: bytes | None = None
    _tasks: list[asyncio.Task[None]] = field(default_factory=list)
    _serving: set[asyncio.Task[None]] = field(default_factory=set)

    async def start(self) -> None:
        """Starts the process; it is ready when it asks for its first invocation."""
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        port = self._server.sockets[0].getsockname()[1]
        self._process = await asyncio.create_subprocess_exec(
            sys.executable,
            str(LAUNCHER),
            self.settings.handler,
            cwd=self.settings.folder,
            env={
                **self.settings.variables,
                "AWS_LAMBDA_RUNTIME_API": f"127.0.0.1:{port}",
                "FLEETCAST_PARENT": str(os.getpid()),
            },
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            limit=MAX_LINE_BYTES,
            start_new_session=True,
        )
        self.alive = True
        self._tasks = [
            asyncio.create_task(self._read_output()),
            asyncio.create_task(self._watch()),
        ]

    async def invoke(self, event: bytes) -> Result:
        """Runs one invocation; the process is killed where it exceeds its time."""
        request_id = str(uuid.uuid4())
        began = time.perf_counter()
        self.tail.clear()
        waiting = asyncio.create_task(self._ready.wait())
        try:
            await asyncio.wait_for(waiting, INIT_TIMEOUT_S)
        except TimeoutError:
            await self.kill()
            return _failed(
                "Runtime.InitTimeout", "the function did not start in time", request_id, began
            )
        if self._init_error is not None:
            await self.kill()
            elapsed = (time.perf_counter() - began) * 1000
            return Result(self._init_error, "Unhandled", elapsed, request_id, self._log_tail())
        if not self.alive:
            return self._exited(request_id, began)
        timeout_s = self.settings.timeout_s
        invocation = _Invocation(
            request_id,
            event,
            int((time.time() + timeout_s) * 1000),
            asyncio.get_running_loop().create_future(),
        )
        began = time.perf_counter()
        self.on_line(f"START RequestId: {request_id} Version: $LATEST")
        self._current = invocation
        self._arrived.set()
        try:
            payload, failed = await asyncio.wait_for(invocation.done, timeout_s)
        except TimeoutError:
            await self.kill()
            text = f"{_now()} {request_id} Task timed out after {timeout_s:.2f} seconds"
            self.on_line(text)
            self._end(request_id, began)
            return _failed(None, text, request_id, began)
        except ConnectionError:
            self._end(request_id, began)
            return self._exited(request_id, began)
        except asyncio.CancelledError:
            # Nobody waits for the answer any more, and the process may be in the middle of it.
            await self.kill()
            raise
        finally:
            self._current = None
        self._end(request_id, began)
        elapsed = (time.perf_counter() - began) * 1000
        return Result(
            payload, "Unhandled" if failed else None, elapsed, request_id, self._log_tail()
        )

    async def kill(self) -> None:
        """Ends the process and its listener; safe to call twice."""
        self.alive = False
        if self._process is not None and self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            await self._process.wait()
        if self._server is not None:
            self._server.close()
        for task in (*self._tasks, *self._serving):
            if task is not asyncio.current_task():
                task.cancel()

    def _end(self, request_id: str, began: float) -> None:
        elapsed = (time.perf_counter() - began) * 1000
        memory = self.settings.variables.get("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "128")
        self.on_line(f"END RequestId: {request_id}")
        self.on_line(
            f"REPORT RequestId: {request_id}\tDuration: {elapsed:.2f} ms\t"
            f"Billed Duration: {int(elapsed) + 1} ms\tMemory Size: {memory} MB"
        )

    def _exited(self, request_id: str, began: float) -> Result:
        code = self._process.returncode if self._process else None
        what = f"signal: {-code}" if code is not None and code < 0 else f"exit status {code}"
        text = f"RequestId: {request_id} Error: Runtime exited with error: {what}"
        return _failed("Runtime.ExitError", text, request_id, began)

    def _log_tail(self) -> str:
        return "\n".join(self.tail)

    async def _watch(self) -> None:
        if self._process is None:
            return
        await self._process.wait()
        self.alive = False
        self._ready.set()
        if self._current is not None and not self._current.done.done():
            self._current.done.set_exception(ConnectionError("the runtime exited"))

    async def _read_output(self) -> None:
        if self._process is None or self._process.stdout is None:
            return
        reader = self._process.stdout
        while True:
            try:
                line = await reader.readline()
            except ValueError:
                self.on_line("[a line of more than 1 MiB was dropped]")
                continue
            if not line:
                return
            text = line.decode("utf-8", "replace").rstrip("\r\n")
            self.tail.append(text)
            self.on_line(text)

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
                body = await _read_body(reader, headers)
                await self._answer(writer, method, path.partition("?")[0], body)
        except (asyncio.IncompleteReadError, ConnectionError, ValueError):
            return
        finally:
            if task is not None:
                self._serving.discard(task)
            writer.close()

    async def _answer(
        self, writer: asyncio.StreamWriter, method: str, path: str, body: bytes
    ) -> None:
        parts = path.removeprefix(_API).split("/")
        current = self._current
        if method == "GET" and parts == ["invocation", "next"]:
            await self._send_next(writer)
            return
        if method == "POST" and parts == ["init", "error"]:
            self._init_error = body
            self._ready.set()
        elif (
            method == "POST"
            and parts[0] == "invocation"
            and parts[2:] in (["response"], ["error"])
            and current is not None
            and parts[1] == current.request_id
        ):
            if not current.done.done():
                current.done.set_result((body, parts[2] == "error"))
        else:
            _send(writer, 404, b'{"errorType":"UnknownRequest"}')
            await writer.drain()
            return
        _send(writer, 202, b'{"status":"OK"}')
        await writer.drain()

    async def _send_next(self, writer: asyncio.StreamWriter) -> None:
        self._ready.set()
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
                "Lambda-Runtime-Invoked-Function-Arn": self.settings.arn,
            },
        )
        await writer.drain()


async def _read_body(reader: asyncio.StreamReader, headers: Mapping[str, str]) -> bytes:
    if headers.get("transfer-encoding", "").lower() == "chunked":
        parts = []
        while size := int((await reader.readuntil(b"\r\n")).split(b";")[0], 16):
            parts.append(await reader.readexactly(size))
            await reader.readexactly(2)
        await reader.readuntil(b"\r\n")
        return b"".join(parts)
    return await reader.readexactly(int(headers.get("content-length") or 0))


def _send(
    writer: asyncio.StreamWriter, status: int, body: bytes, headers: Mapping[str, str] | None = None
) -> None:
    lines = [f"HTTP/1.1 {status} {'OK' if status < 300 else 'Not Found'}"]  # noqa: PLR2004
    lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
    lines += ["Content-Type: application/json", f"Content-Length: {len(body)}", "", ""]
    writer.write("\r\n".join(lines).encode("latin-1") + body)


def _failed(kind: str | None, text: str, request_id: str, began: float) -> Result:
    value = {"errorMessage": text} if kind is None else {"errorType": kind, "errorMessage": text}
    elapsed = (time.perf_counter() - began) * 1000
    return Result(json.dumps(value).encode(), "Unhandled", elapsed, request_id)


def _now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S.000Z", time.gmtime())
