"""What functions print: to CloudWatch Logs in batches, its embedded metrics to the store."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections import deque
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError

from localcloud.functions.emf import MalformedEmfError, extract, looks_like_emf

if TYPE_CHECKING:
    from localcloud.seams import CloudContext

log = logging.getLogger(__name__)

FLUSH_S = 1.0
MAX_BUFFERED = 50_000
MAX_BUFFERED_BYTES = 4 * 1024 * 1024
MAX_BATCH = 1000


class FunctionLogs:
    """Takes lines from functions and writes them to their log groups once a second."""

    def __init__(self, context: CloudContext) -> None:
        self._context = context
        self._lines: deque[tuple[str, str, int, str]] = deque()
        self._size = 0
        self._known: set[tuple[str, str]] = set()
        self._task: asyncio.Task[None] | None = None
        self.emf_samples = 0
        self.emf_malformed = 0
        self.dropped = 0

    async def start(self) -> None:
        """Starts writing."""
        self._task = asyncio.create_task(self._run())

    async def stop(self) -> None:
        """Stops; what is buffered goes with the cloud's memory."""
        if self._task:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

    def add(self, group: str, stream: str, line: str) -> None:
        """Takes one line; when the buffer is full the oldest is dropped and counted."""
        if looks_like_emf(line):
            try:
                self.emf_samples += extract(line, self._context.metrics)
            except MalformedEmfError as error:
                self.emf_malformed += 1
                log.warning("malformed embedded metrics in %s: %s", group, error)
        while self._lines and (
            len(self._lines) >= MAX_BUFFERED or self._size + len(line) > MAX_BUFFERED_BYTES
        ):
            self._size -= len(self._lines.popleft()[3])
            self.dropped += 1
        self._lines.append((group, stream, int(time.time() * 1000), line))
        self._size += len(line)

    async def _run(self) -> None:
        client = await self._context.client("logs")
        while True:
            await asyncio.sleep(FLUSH_S)
            try:
                await self._flush(client)
            except Exception:
                log.exception("writing function logs failed")

    async def _flush(self, client: Any) -> None:
        batches: dict[tuple[str, str], list[dict[str, Any]]] = {}
        while self._lines:
            group, stream, at_ms, line = self._lines.popleft()
            self._size -= len(line)
            batches.setdefault((group, stream), []).append({"timestamp": at_ms, "message": line})
        for (group, stream), events in batches.items():
            await self._ensure(client, group, stream)
            for first in range(0, len(events), MAX_BATCH):
                part = events[first : first + MAX_BATCH]
                try:
                    await client.put_log_events(
                        logGroupName=group, logStreamName=stream, logEvents=part
                    )
                except ClientError as error:
                    # The group was deleted under us, as a destroy does.
                    self._known.discard((group, stream))
                    self.dropped += len(part)
                    log.info("log lines of %s dropped: %s", group, error)

    async def _ensure(self, client: Any, group: str, stream: str) -> None:
        if (group, stream) in self._known:
            return
        exists = client.exceptions.ResourceAlreadyExistsException
        with contextlib.suppress(exists):
            await client.create_log_group(logGroupName=group)
        with contextlib.suppress(exists):
            await client.create_log_stream(logGroupName=group, logStreamName=stream)
        self._known.add((group, stream))
