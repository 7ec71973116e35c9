"""Execution environments: one process each, driven through the Runtime API and watched.

Whatever a handler does, its invocation ends: with what it answered, or as AWS ends it when the time
or the memory is used up, or the process is gone. The process and its descendants end with it then.
"""

from __future__ import annotations

import asyncio
import os
import sys
import time
import uuid
from collections import deque
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import orjson

from localcloud.functions import processes
from localcloud.functions.output import read_lines
from localcloud.functions.platform_log import PlatformLog, Report, now
from localcloud.functions.runtime_api import Invocation, RuntimeApi

if TYPE_CHECKING:
    from collections.abc import Mapping

LAUNCHER = Path(__file__).with_name("launcher.py")
# AWS ends an initialization after this time, and begins it anew within the first invocation.
INIT_TIMEOUT_S = 10.0
WATCH_S = 0.1
LAST_WORDS_S = 1.0
TAIL_LINES = 50
_SIGNALS = {4: "illegal instruction", 6: "aborted", 9: "killed", 11: "segmentation fault",
            15: "terminated"}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Result:
    """How an invocation ended. `error` is None, or AWS's `Unhandled`."""

    payload: bytes
    error: str | None
    duration_ms: float
    request_id: str
    log_tail: str = ""


@dataclass(frozen=True, slots=True)
class EnvironmentSettings:
    """What a process is started with.

    Attributes:
        handler: `module.function`.
        folder: Where the code lies.
        variables: Its whole environment.
        arn: The function's ARN.
        timeout_s: After which an invocation is killed.
        memory_mb: Which a process and its descendants may use together.
    """

    handler: str
    folder: Path
    variables: Mapping[str, str]
    arn: str
    timeout_s: float
    memory_mb: int


class _EndedError(Exception):
    """The invocation cannot be answered by the process any more: (errorType, message)."""

    def __init__(self, kind: str, what: str, status: str = "error") -> None:
        super().__init__(what)
        self.kind = kind
        self.what = what
        self.status = status


@dataclass(slots=True, eq=False)
class Environment:
    """One process that runs one invocation at a time."""

    settings: EnvironmentSettings
    log: PlatformLog
    generation: int = 0
    idle_since_s: float = 0.0
    alive: bool = False
    tail: deque[str] = field(default_factory=lambda: deque(maxlen=TAIL_LINES))
    _api: RuntimeApi | None = None
    _process: asyncio.subprocess.Process | None = None
    _tasks: list[asyncio.Task[None]] = field(default_factory=list)
    _exited: bool = False
    _watching: asyncio.TimerHandle | None = None
    _invocation: Invocation | None = None
    _overuse: _EndedError | None = None
    _peak: int = 0
    _started_s: float = 0.0
    _init_ms: float | None = None

    async def start(self) -> None:
        """Starts the process; it is ready when it asks for its first invocation."""
        self._api = RuntimeApi(self.settings.arn)
        port = await self._api.start()
        # What the process before it was ended for is not for this one.
        self._exited, self._overuse = False, None
        self._started_s = time.perf_counter()
        self.log.init_start()
        address = f"127.0.0.1:{port}"
        # A pipe of our own: asyncio's process is not over while a child of it holds its pipe.
        output, write_end = os.pipe()
        try:
            self._process = await asyncio.create_subprocess_exec(
                sys.executable,
                str(LAUNCHER),
                self.settings.handler,
                cwd=self.settings.folder,
                env={
                    **self.settings.variables,
                    processes.MARK: address,
                    "FLEETCAST_PARENT": str(os.getpid()),
                },
                stdin=asyncio.subprocess.DEVNULL,
                stdout=write_end,
                stderr=asyncio.subprocess.STDOUT,
                start_new_session=True,
            )
        finally:
            os.close(write_end)
        self.alive = True
        self._tasks = [
            asyncio.create_task(self._read_output(output)),
            asyncio.create_task(self._notice_exit(self._process, self._api, address)),
        ]

    async def invoke(self, event: bytes, request_id: str | None = None) -> Result:
        """Runs one invocation; the process is killed where it exceeds its time or memory."""
        request_id = request_id or str(uuid.uuid4())
        self.tail.clear()
        # A timer and no task: there is one for every invocation, and most end before it is due.
        self._watching = asyncio.get_running_loop().call_later(WATCH_S, self._watch)
        began = time.perf_counter()
        first = self._init_ms is None
        try:
            if first:
                # Where this fails, the first invocation starts the process anew in its own time.
                await self._initialize(INIT_TIMEOUT_S)
            began = time.perf_counter()
            self.log.start(request_id)
            async with asyncio.timeout(self.settings.timeout_s):
                payload, failed = await self._run(request_id, event, first=first)
        except TimeoutError:
            seconds = f"{self.settings.timeout_s:.2f} seconds"
            ended = _EndedError("Sandbox.Timedout", f"Task timed out after {seconds}", "timeout")
            return await self._end(request_id, began, ended, first=first)
        except _EndedError as error:
            return await self._end(request_id, began, error, first=first)
        except asyncio.CancelledError:
            # Nobody waits for the answer any more, and the process may be in the middle of it.
            await self.kill()
            raise
        finally:
            self._watching.cancel()
            if self._api is not None:
                self._api.offer(None)
        return self._answered(request_id, began, payload, failed=failed, first=first)

    async def _initialize(self, timeout_s: float | None) -> None:
        """Waits until the process is ready; what goes wrong shows in the invocation."""
        api = self._api
        if api is None:
            return
        try:
            async with asyncio.timeout(timeout_s):
                await api.ready.wait()
        except TimeoutError:
            self.log.init_failed(self._since_start_ms(), "timeout", None)
            await self.kill()
            return
        self._init_ms = self._since_start_ms()
        if api.init_error is not None:
            self.log.init_failed(self._init_ms, "error", _error_type(api.init_error))

    async def _run(self, request_id: str, event: bytes, *, first: bool) -> tuple[bytes, bool]:
        if not self.alive and self._init_ms is None:
            await self.start()
            await self._initialize(None)
        invocation = await self._offered(request_id, event)
        if invocation.done.cancelled() and not invocation.taken and not first:
            # It ended between two invocations, as after an answer that was refused, and did not
            # see this one: a new process does.
            await self.kill()
            await self.start()
            await self._initialize(None)
            invocation = await self._offered(request_id, event)
        if not invocation.done.cancelled():
            return invocation.done.result()
        if self._overuse is not None:
            raise self._overuse
        process = self._process
        raise _EndedError(
            "Runtime.ExitError", _how_it_ended(None if process is None else process.returncode)
        )

    async def _offered(self, request_id: str, event: bytes) -> Invocation:
        """An invocation that is done; cancelled, where the process ended instead."""
        api = self._api
        if api is None or self._process is None:
            raise _EndedError("Runtime.ExitError", "Runtime exited without providing a reason")
        invocation = Invocation(
            request_id,
            event,
            int((time.time() + self.settings.timeout_s) * 1000),
            asyncio.get_running_loop().create_future(),
        )
        if api.init_error is not None:
            invocation.done.set_result((api.init_error, True))
            return invocation
        api.offer(invocation)
        self._invocation = invocation
        if self._exited:
            invocation.done.cancel()
        await asyncio.wait({invocation.done})
        return invocation

    async def _end(
        self, request_id: str, began: float, ended: _EndedError, *, first: bool
    ) -> Result:
        """The result of an invocation that the process did not answer; it ends with it."""
        elapsed = (time.perf_counter() - began) * 1000
        report = self._report(request_id, elapsed, first=first)
        kind = ended.kind if ended.status == "error" else None
        await self.kill()
        if ended.status == "timeout":
            self.log.write(f"{now()} {request_id} {ended.what}")
        self.log.end(_failed(report, ended.status, kind))
        text = f"RequestId: {request_id} Error: {ended.what}"
        payload = orjson.dumps({"errorType": ended.kind, "errorMessage": text})
        return Result(payload, "Unhandled", elapsed, request_id, self._log_tail())

    def _answered(
        self, request_id: str, began: float, payload: bytes, *, failed: bool, first: bool
    ) -> Result:
        elapsed = (time.perf_counter() - began) * 1000
        report = self._report(request_id, elapsed, first=first)
        if failed and self._api is not None and self._api.init_error is not None:
            report = _failed(report, "error", _error_type(payload))
            self.alive = False
        self.log.end(report)
        error = "Unhandled" if failed else None
        return Result(payload, error, elapsed, request_id, self._log_tail())

    def _report(self, request_id: str, elapsed_ms: float, *, first: bool) -> Report:
        process = self._process
        if process is not None and process.returncode is None:
            self._peak = max(self._peak, processes.peak_bytes(process.pid))
        used = None if self._peak == 0 else -(-self._peak // processes.MIB)
        init_ms = self._init_ms if first else None
        return Report(request_id, elapsed_ms, self.settings.memory_mb, used, init_ms)

    async def kill(self) -> None:
        """Ends the process, its descendants and its listener; safe to call twice."""
        self.alive = False
        if self._process is not None:
            processes.end(self._process.pid)
            await self._process.wait()
        if self._api is not None:
            self._api.close()
        if self._tasks:
            # What it printed last is still on its way.
            await asyncio.wait({self._tasks[0]}, timeout=LAST_WORDS_S)
        for task in self._tasks:
            task.cancel()
        self._tasks = []

    def _since_start_ms(self) -> float:
        return (time.perf_counter() - self._started_s) * 1000

    def _log_tail(self) -> str:
        return "\n".join(self.tail)

    def _watch(self) -> None:
        """Ends the process when it uses more memory or processes than it may."""
        self._watching = asyncio.get_running_loop().call_later(WATCH_S, self._watch)
        process = self._process
        if process is None or process.returncode is not None:
            return
        limit = self.settings.memory_mb * processes.MIB
        pids = processes.tree(process.pid)
        used = processes.memory_bytes(pids, limit)
        self._peak = max(self._peak, used)
        if used > limit:
            self._overuse = _EndedError(
                "Runtime.OutOfMemory", "Runtime exited with error: signal: killed"
            )
        elif len(pids) > processes.MAX_PROCESSES:
            self._overuse = _EndedError(
                "Runtime.ExitError", "Runtime exited with error: signal: killed"
            )
        if self._overuse is not None:
            processes.end(process.pid)

    async def _notice_exit(
        self, process: asyncio.subprocess.Process, api: RuntimeApi, address: str
    ) -> None:
        await process.wait()
        unexpected, self.alive = self.alive, False
        # Its children may live on, in its group or in one of their own.
        processes.end(process.pid)
        if unexpected or self._overuse is not None:
            processes.end_marked(address)
        api.ready.set()
        self._exited = True
        if self._invocation is not None:
            self._invocation.done.cancel()

    async def _read_output(self, output: int) -> None:
        def take(line: str) -> None:
            self.tail.append(line)
            self.log.write(line)

        reader = asyncio.StreamReader()
        pipe = os.fdopen(output, "rb")
        transport, _ = await asyncio.get_running_loop().connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(reader), pipe
        )
        try:
            await read_lines(reader, take)
        finally:
            transport.close()


def _how_it_ended(code: int | None) -> str:
    if not code:
        return "Runtime exited without providing a reason"
    if code < 0:
        return f"Runtime exited with error: signal: {_SIGNALS.get(-code, -code)}"
    return f"Runtime exited with error: exit status {code}"


def _failed(report: Report, status: str, error_type: str | None) -> Report:
    return Report(
        report.request_id,
        report.duration_ms,
        report.memory_mb,
        report.max_memory_mb,
        report.init_ms,
        status,
        error_type,
    )


def _error_type(payload: bytes) -> str | None:
    try:
        answer = orjson.loads(payload)
    except orjson.JSONDecodeError:
        return None
    kind = answer.get("errorType") if isinstance(answer, dict) else None
    return str(kind) if kind else None
