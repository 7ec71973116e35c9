"""Readings as lines, into a file or standard output: for other tools, and for a look at them."""

from __future__ import annotations

import asyncio
import contextlib
import os
import queue
import threading
import time
from collections import deque
from typing import TYPE_CHECKING, Self

from fleetcast.errors import TargetError
from simulator.batch import ACKED, FAILED, UNKNOWN
from simulator.transports import Traffic

if TYPE_CHECKING:
    from pathlib import Path

    from simulator.batch import Batch
    from simulator.transports import Done


class LineTransport:
    """Writes payloads, one a line, to a file descriptor.

    A reading is acknowledged when the operating system has taken it. Who reads slowly, as at the
    end of a pipe, makes a backlog; the schedule does not wait.

    Args:
        done: Is told every reading when its outcome is decided.
        path: The file, which is made anew; None is standard output.
    """

    def __init__(self, done: Done, path: Path | None = None) -> None:
        self._done = done
        self._path = path
        self._out = -1
        self._queue: queue.SimpleQueue[Batch | None] = queue.SimpleQueue()
        self._open = 0
        # What was taken and has no outcome, in its order.
        self._taken: deque[Batch] = deque()
        self._idle = asyncio.Event()
        self._idle.set()
        self._loop = asyncio.get_running_loop()
        # Of its own, and a daemon: a pipe that nobody reads must not keep the process.
        self._thread = threading.Thread(target=self._write, name="lines", daemon=True)
        self.traffic = Traffic()

    async def __aenter__(self) -> Self:
        try:
            self._out = (
                os.dup(1)
                if self._path is None
                else os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
            )
        except OSError as error:
            where = "standard output" if self._path is None else self._path
            raise TargetError(f"{where} cannot be written: {error.strerror}") from error
        self._thread.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        self._queue.put(None)

    @property
    def in_flight(self) -> int:
        """See `Transport`."""
        return len(self._taken[0]) if self._taken else 0

    @property
    def backlog(self) -> int:
        """See `Transport`."""
        return self._open - self.in_flight

    def send(self, batch: Batch) -> None:
        """See `Transport`."""
        self._open += len(batch)
        self._idle.clear()
        self._taken.append(batch)
        self._queue.put(batch)

    def _write(self) -> None:
        """Writes what comes, until None does; runs in the thread."""
        while (batch := self._queue.get()) is not None:
            text = b"\n".join([*batch.payloads, b""])
            sent_ns, error = time.time_ns(), None
            try:
                _write_all(self._out, text)
            except OSError as problem:
                error = problem
            told = (batch, sent_ns, time.time_ns(), len(text), error)
            try:
                self._loop.call_soon_threadsafe(self._wrote, *told)
            except RuntimeError:
                break  # the loop has ended: the run was abandoned
        os.close(self._out)

    def _wrote(
        self, batch: Batch, sent_ns: int, done_ns: int, size: int, error: OSError | None
    ) -> None:
        if not self._taken or self._taken[0] is not batch:
            return  # given up meanwhile
        self._taken.popleft()
        batch.rows["sent_ns"], batch.rows["attempts"] = sent_ns, 1
        self.traffic.requests += 1
        if error is None:
            batch.rows["acked_ns"], batch.rows["outcome"] = done_ns, ACKED
            self.traffic.records += len(batch)
            self.traffic.bytes += size
        else:
            self.traffic.failed(error)
            # A part of it may have been written before.
            batch.rows["outcome"] = UNKNOWN
        self._finish(batch)

    def _finish(self, batch: Batch) -> None:
        self._open -= len(batch)
        self._done(batch)
        if not self._open:
            self._idle.set()

    async def drain(self) -> None:
        """See `Transport`."""
        await self._idle.wait()

    async def abandon(self, grace_s: float) -> None:
        """See `Transport`."""
        with contextlib.suppress(queue.Empty):
            while (batch := self._queue.get_nowait()) is not None:
                batch.rows["outcome"] = FAILED
                self._taken.remove(batch)
                self._finish(batch)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._idle.wait(), grace_s)
        while self._taken:
            stuck = self._taken.popleft()
            stuck.rows["attempts"], stuck.rows["outcome"] = 1, UNKNOWN
            self._finish(stuck)


def _write_all(out: int, text: bytes) -> None:
    view = memoryview(text)
    while view:
        view = view[os.write(out, view) :]
