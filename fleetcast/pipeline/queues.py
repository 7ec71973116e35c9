"""Queues of a pipeline, which its file names as people do."""

from __future__ import annotations

from typing import Any


async def queue_url(client: Any, queue: str) -> str:
    """The URL of a queue.

    Args:
        client: An `sqs` client.
        queue: Its name or URL.

    Raises:
        ClientError: there is no such queue, or it may not be asked for.
    """
    if "://" in queue:
        return queue
    return str((await client.get_queue_url(QueueName=queue))["QueueUrl"])
