"""The metrics of SQS, whose queues moto keeps: asked for when something may have changed."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from localcloud.cloudwatch.topics import Fallback
    from localcloud.http import Request, Response
    from localcloud.seams import CloudContext

log = logging.getLogger(__name__)

PUBLISH_S = 5.0
# After a call that may have changed a queue; soon enough for alarms with periods of ten seconds.
TOUCHED_S = 2.0
# Messages come back from receivers and out of delays with time alone: nobody calls for that.
QUIET_POLL_S = 60.0
# Calls that put messages into queues, directly or by a subscription, or take them out.
_TOUCHING = {"sqs", "sns", "s3", "events"}
_READING = {"GetQueueAttributes", "GetQueueUrl", "ListQueues", "ListQueueTags"}
_METRICS = {
    "ApproximateNumberOfMessages": "ApproximateNumberOfMessagesVisible",
    "ApproximateNumberOfMessagesNotVisible": "ApproximateNumberOfMessagesNotVisible",
    "ApproximateNumberOfMessagesDelayed": "ApproximateNumberOfMessagesDelayed",
}


@dataclass(slots=True)
class _Queue:
    """What was last seen of a queue."""

    counts: dict[str, int]
    filled_since_s: float | None = None

    @property
    def changes_by_itself(self) -> bool:
        """Whether messages will become visible without a call."""
        return any(self.counts[metric] for metric in list(_METRICS.values())[1:])


class QueueMetrics:
    """Publishes AWS/SQS metrics of every queue, every few seconds.

    Queues are asked again when a call may have changed them. ApproximateAgeOfOldestMessage counts
    from when the queue was last seen empty: moto does not tell when its oldest message came.

    Attributes:
        failures: How often they could not be published.
    """

    def __init__(self, context: CloudContext) -> None:
        self._context = context
        self._queues: dict[str, _Queue] = {}
        self._touched = asyncio.Event()
        self._touched.set()
        self._polled_s = 0.0
        self.failures = 0

    def watch(self, inner: Fallback) -> Fallback:
        """Who answers, with an eye on what may change queues."""
        return _Watched(inner, self)

    def touch(self) -> None:
        """A queue may have changed."""
        self._touched.set()

    async def run(self) -> None:
        """Publishes for ever."""
        sqs = await self._context.client("sqs")
        while True:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._touched.wait(), PUBLISH_S - TOUCHED_S)
            await asyncio.sleep(TOUCHED_S)
            try:
                await self._publish(sqs)
            except Exception:
                # What was to be asked is asked the next time; the gap in the metrics is told.
                self._polled_s = float("-inf")
                self.failures += 1
                log.exception("queue metrics failed")

    async def _publish(self, sqs: Any) -> None:
        restless = any(queue.changes_by_itself for queue in self._queues.values())
        quiet_s = time.monotonic() - self._polled_s
        if self._touched.is_set() or restless or quiet_s >= QUIET_POLL_S:
            self._touched.clear()
            self._polled_s = time.monotonic()
            await self._poll(sqs)
        now = time.time()
        put = self._context.metrics.put
        for name, queue in self._queues.items():
            where = {"QueueName": name}
            for metric, count in queue.counts.items():
                put("AWS/SQS", metric, count, unit="Count", dimensions=where)
            age_s = 0.0 if queue.filled_since_s is None else now - queue.filled_since_s
            put("AWS/SQS", "ApproximateAgeOfOldestMessage", age_s, unit="Seconds", dimensions=where)

    async def _poll(self, sqs: Any) -> None:
        """Asks moto for every queue."""
        seen: dict[str, _Queue] = {}
        async for answer in sqs.get_paginator("list_queues").paginate():
            for url in answer.get("QueueUrls", []):
                name = url.rpartition("/")[2]
                with contextlib.suppress(sqs.exceptions.QueueDoesNotExist):
                    seen[name] = await self._ask(sqs, url, self._queues.get(name))
        self._queues = seen

    async def _ask(self, sqs: Any, url: str, before: _Queue | None) -> _Queue:
        answer = await sqs.get_queue_attributes(QueueUrl=url, AttributeNames=list(_METRICS))
        counts = {
            metric: int(answer["Attributes"].get(attribute, 0))
            for attribute, metric in _METRICS.items()
        }
        if not any(counts.values()):
            return _Queue(counts)
        since_s = before.filled_since_s if before else None
        return _Queue(counts, time.time() if since_s is None else since_s)


class _Watched:
    def __init__(self, inner: Fallback, queues: QueueMetrics) -> None:
        self._inner = inner
        self._queues = queues

    async def handle(self, request: Request) -> Response:
        response = await self._inner.handle(request)
        reading = request.method == "GET" or request.operation in _READING
        if request.service in _TOUCHING and not reading:
            self._queues.touch()
        return response
