"""The metrics of SQS, whose queues moto keeps: asked for every few seconds, as AWS samples them."""

from __future__ import annotations

import asyncio
import logging
import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from localcloud.seams import CloudContext

log = logging.getLogger(__name__)

POLL_S = 5.0
_METRICS = {
    "ApproximateNumberOfMessages": "ApproximateNumberOfMessagesVisible",
    "ApproximateNumberOfMessagesNotVisible": "ApproximateNumberOfMessagesNotVisible",
    "ApproximateNumberOfMessagesDelayed": "ApproximateNumberOfMessagesDelayed",
}


class QueueMetrics:
    """Publishes AWS/SQS metrics of every queue.

    ApproximateAgeOfOldestMessage counts from when the queue was last seen empty: moto does not
    tell when its oldest message came.
    """

    def __init__(self, context: CloudContext) -> None:
        self._context = context
        self._filled_since: dict[str, float] = {}

    async def run(self) -> None:
        """Polls for ever."""
        sqs = await self._context.client("sqs")
        while True:
            await asyncio.sleep(POLL_S)
            try:
                await self._poll(sqs)
            except Exception:
                log.exception("queue metrics failed")

    async def _poll(self, sqs: Any) -> None:
        for url in (await sqs.list_queues()).get("QueueUrls", []):
            name = url.rpartition("/")[2]
            answer = await sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["All"])
            attributes = answer["Attributes"]
            where = {"QueueName": name}
            put = self._context.metrics.put
            waiting = 0
            for attribute, metric in _METRICS.items():
                count = int(attributes.get(attribute, 0))
                waiting += count
                put("AWS/SQS", metric, count, unit="Count", dimensions=where)
            now = time.time()
            since = self._filled_since.setdefault(name, now) if waiting else None
            if since is None:
                self._filled_since.pop(name, None)
            age_s = now - since if since else 0.0
            put("AWS/SQS", "ApproximateAgeOfOldestMessage", age_s, unit="Seconds", dimensions=where)
