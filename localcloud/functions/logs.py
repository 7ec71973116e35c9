"""What functions print: to CloudWatch Logs in batches, its embedded metrics to the store at once."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections import deque
from typing import TYPE_CHECKING

from localcloud.http import AwsError
from localcloud.logs.emf import MalformedEmfError, extract, looks_like_emf

if TYPE_CHECKING:
    from localcloud.seams import CloudContext, LogSink

log = logging.getLogger(__name__)

FLUSH_S = 1.0
MAX_BUFFERED = 50_000
MAX_BUFFERED_BYTES = 4 * 1024 * 1024
MAX_BATCH = 1000


class FunctionLogs:
    """Takes lines from functions and writes them to their log groups once a second.

    Args:
        context: The cloud.
        sink: Who keeps them.
    """

    def __init__(self, context: CloudContext, sink: LogSink) -> None:
        self._context = context
        self._sink = sink
        self._lines: deque[tuple[str, str, int, str]] = deque()
        self._size = 0
        self._task: asyncio.Task[None] | None = None
        self.emf_samples = 0
        self.emf_malformed = 0
        self.dropped = 0
        self.last_refusal = ""
        self._told: set[str] = set()

    async def start(self) -> None:
        """Starts writing."""
        self._task = asyncio.create_task(self._run())

    async def stop(self) -> None:
        """Stops; what is buffered is written before."""
        if self._task:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
            await self._flush()

    def add(self, group: str, stream: str, line: str) -> None:
        """Takes one line; when the buffer is full the oldest is dropped and counted."""
        if looks_like_emf(line):
            try:
                self.emf_samples += extract(line, self._context.metrics)
            except MalformedEmfError as error:
                self.emf_malformed += 1
                error.count(group, self._context.metrics)
                log.warning("malformed embedded metrics in %s: %s", group, error)
        while self._lines and (
            len(self._lines) >= MAX_BUFFERED or self._size + len(line) > MAX_BUFFERED_BYTES
        ):
            self._size -= len(self._lines.popleft()[3])
            self.dropped += 1
        self._lines.append((group, stream, int(time.time() * 1000), line))
        self._size += len(line)

    def refuse(self, group: str, reason: str) -> None:
        """Drops a line that its function may not write; AWS does so in silence, this log tells."""
        self.dropped += 1
        self.last_refusal = reason
        if reason not in self._told:
            self._told.add(reason)
            log.warning("log lines for %s are dropped: %s", group, reason)

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(FLUSH_S)
            await self._flush()

    async def _flush(self) -> None:
        batches: dict[tuple[str, str], list[tuple[int, str]]] = {}
        while self._lines:
            group, stream, at_ms, line = self._lines.popleft()
            self._size -= len(line)
            # CloudWatch Logs takes no empty message.
            batches.setdefault((group, stream), []).append((at_ms, line or " "))
        for (group, stream), events in batches.items():
            for first in range(0, len(events), MAX_BATCH):
                part = events[first : first + MAX_BATCH]
                try:
                    await self._sink.write(group, stream, part)
                except AwsError as error:
                    # The group was deleted under us, as a destroy does.
                    self.dropped += len(part)
                    log.info("log lines of %s dropped: %s", group, error)
                except Exception:
                    # Ours: these lines are gone, and must not be missing from the count.
                    self.dropped += len(part)
                    log.exception("log lines of %s dropped", group)
