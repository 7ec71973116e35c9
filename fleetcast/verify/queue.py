"""Looking through an SQS queue that others read, too: what is not taken goes back into it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

BATCH = 10
# Longest that messages seen and not taken stay hidden from others while the queue is read.
HIDDEN_S = 30


async def look_through(
    client: Any,
    queue_url: str,
    wait_s: int,
    take: Callable[[Sequence[dict[str, Any]]], Awaitable[list[str]]],
) -> None:
    """Shows all messages of a queue.

    Args:
        client: An `sqs` client.
        queue_url: The queue.
        wait_s: How long a receive waits for a first message, whole seconds.
        take: Is shown some messages at a time; returns the handles of those that go back.
    """
    others: list[str] = []
    try:
        while True:
            answer = await client.receive_message(
                QueueUrl=queue_url,
                MaxNumberOfMessages=BATCH,
                WaitTimeSeconds=wait_s,
                VisibilityTimeout=HIDDEN_S,
            )
            messages = answer.get("Messages", ())
            if not messages:
                return
            others += await take(messages)
    finally:
        for first in range(0, len(others), BATCH):
            await client.change_message_visibility_batch(
                QueueUrl=queue_url,
                Entries=[
                    {"Id": str(i), "ReceiptHandle": handle, "VisibilityTimeout": 0}
                    for i, handle in enumerate(others[first : first + BATCH])
                ],
            )
