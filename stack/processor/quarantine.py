"""Refused readings into the quarantine queue, with their payload and the reason."""

from __future__ import annotations

import base64
import hashlib
import json
import random
import time
from typing import TYPE_CHECKING, Any

from botocore.exceptions import BotoCoreError, ClientError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

BATCH = 10
ATTEMPTS = 4
# SQS takes 256 KiB for a batch of messages; base64 adds a third.
MAX_PAYLOAD = 150_000
MAX_BATCH_BYTES = 250_000


def message(refused: Mapping[str, Any], payload: bytes) -> str:
    """The message body of one refused reading.

    A payload that no message can hold is told by its hash and size; it lies in the archive, to
    be found by the sequence number's neighbours and the hash.
    """
    if len(payload) <= MAX_PAYLOAD:
        kept = {"payload_base64": base64.b64encode(payload).decode()}
    else:
        kept = {
            "payload_sha256": hashlib.sha256(payload).hexdigest(),
            "payload_bytes": str(len(payload)),
        }
    return json.dumps({**refused, **kept}, separators=(",", ":"))


class Quarantine:
    """Sends to one queue.

    Args:
        client: A boto3 `sqs` client.
        queue_url: The queue.
    """

    def __init__(self, client: Any, queue_url: str) -> None:
        self._client = client
        self._queue_url = queue_url

    def send(self, messages: Sequence[tuple[int, str]]) -> set[int]:
        """Sends (index, body) pairs; returns the indexes of those that could not be sent."""
        failed: set[int] = set()
        batch: list[tuple[int, str]] = []
        size = 0
        for index, body in messages:
            if batch and (len(batch) == BATCH or size + len(body) > MAX_BATCH_BYTES):
                failed |= self._send_batch(batch)
                batch, size = [], 0
            batch.append((index, body))
            size += len(body)
        if batch:
            failed |= self._send_batch(batch)
        return failed

    def _send_batch(self, batch: Sequence[tuple[int, str]]) -> set[int]:
        left = dict(batch)
        for attempt in range(ATTEMPTS):
            try:
                answer = self._client.send_message_batch(
                    QueueUrl=self._queue_url,
                    Entries=[
                        {"Id": str(index), "MessageBody": body} for index, body in left.items()
                    ],
                )
            except (ClientError, BotoCoreError):
                pass  # all of them are still left
            else:
                refused = {int(entry["Id"]) for entry in answer.get("Failed", ())}
                left = {index: body for index, body in left.items() if index in refused}
            if not left:
                break
            time.sleep(random.uniform(0, 0.2 * 2**attempt))  # noqa: S311 - jitter
        return set(left)
