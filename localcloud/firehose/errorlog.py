"""Delivery and transformation errors in CloudWatch Logs, where CloudWatchLoggingOptions say so.

Form: "Monitor Amazon Data Firehose using CloudWatch Logs" of the Firehose developer guide. The log
group and stream are not made here, as Firehose does not make them for an API user either.
"""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections import deque
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from localcloud.seams import CloudContext

log = logging.getLogger(__name__)

MAX_WAITING = 1000
MAX_EVENTS = 100


class ErrorLog:
    """Writes errors of one delivery stream; when the log cannot follow, the oldest are dropped.

    Args:
        context: The cloud.
        stream_arn: ARN of the delivery stream.
    """

    def __init__(self, context: CloudContext, stream_arn: str) -> None:
        self._context = context
        self._stream_arn = stream_arn
        self._waiting: deque[tuple[tuple[str, str, str], dict[str, Any]]] = deque(
            maxlen=MAX_WAITING
        )
        self._task: asyncio.Task[None] | None = None

    def add(
        self,
        options: dict[str, Any],
        *,
        bucket_arn: str,
        version: int,
        error: tuple[str, str],
        role_arn: str,
        processor: str = "",
    ) -> None:
        """Logs an error code and message, if `options` (CloudWatchLoggingOptions) ask for it."""
        if not options.get("Enabled"):
            return
        code, message = error
        entry: dict[str, Any] = {
            "deliveryStreamARN": self._stream_arn,
            "destination": bucket_arn,
            "deliveryStreamVersionId": version,
            "message": message,
            "errorCode": code,
        }
        if processor:
            entry["processor"] = processor
        event = {"timestamp": int(time.time() * 1000), "message": json.dumps(entry)}
        where = (options["LogGroupName"], options["LogStreamName"], role_arn)
        self._waiting.append((where, event))
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._write())

    async def close(self) -> None:
        """Waits until what was logged is written."""
        if self._task is not None:
            await self._task

    async def _write(self) -> None:
        logs = await self._context.client("logs")
        while self._waiting:
            where, event = self._waiting.popleft()
            events = [event]
            while self._waiting and self._waiting[0][0] == where and len(events) < MAX_EVENTS:
                events.append(self._waiting.popleft()[1])
            group, stream, role_arn = where
            access = self._context.access
            try:
                with access.acting(access.role(role_arn, self._stream_arn.rpartition("/")[2])):
                    await logs.put_log_events(
                        logGroupName=group, logStreamName=stream, logEvents=events
                    )
            except Exception as error:  # noqa: BLE001 - delivery goes on without its log
                log.warning("%s: errors not logged to %s: %s", self._stream_arn, group, error)
