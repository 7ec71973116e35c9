"""What the processor refused: the run's messages are taken from the quarantine queue and kept.

A message is deleted only after it lies, flushed to disk, in the run's quarantine.jsonl; messages
of other runs go back into the queue. Which reading a message is about, its payload tells.
"""

from __future__ import annotations

import base64
import binascii
import json
import os
from typing import TYPE_CHECKING, Any

import numpy as np

from fleetcast.pipeline.model import path_of
from fleetcast.verify.archive import at_path
from fleetcast.verify.queue import look_through
from fleetcast.verify.truth import ACKED, Bools, payload_hashes
from fleetcast.verify.verdict import Refused

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from fleetcast.pipeline.model import Quarantine
    from fleetcast.verify.truth import Truth

FILE_NAME = "quarantine.jsonl"


class QuarantineReader:
    """The run's refused readings; may be asked again as more arrives.

    Args:
        client: An `sqs` client.
        queue_url: The quarantine queue.
        truth: What was sent.
        run_dir: The run's folder.
        wait_s: How long a receive waits for a first message, whole seconds.
        shape: How a pipeline of others writes a message; as our processor does if not given.
    """

    def __init__(
        self,
        client: Any,
        queue_url: str,
        truth: Truth,
        run_dir: Path,
        *,
        wait_s: int,
        shape: Quarantine | None = None,
    ) -> None:
        self._client = client
        self._queue_url = queue_url
        self._truth = truth
        self._path = run_dir / FILE_NAME
        self._wait_s = wait_s
        self._shape = shape
        self._kept: dict[str, tuple[int, str]] = {}
        for entry in read_quarantine(run_dir):
            self._kept[entry["message_id"]] = (self._number(entry), str(entry.get("reason")))

    async def poll(self) -> None:
        """Takes what is in the queue now."""
        await look_through(self._client, self._queue_url, self._wait_s, self._sort)

    async def _sort(self, messages: Sequence[dict[str, Any]]) -> list[str]:
        """Keeps and deletes the run's messages; returns the handles of the others."""
        others: list[str] = []
        mine: list[str] = []
        fresh: list[dict[str, Any]] = []
        for message in messages:
            entry = _entry(message) if self._shape is None else _entry_of(message, self._shape)
            k = -1 if entry is None else self._number(entry)
            if entry is None or k < 0:
                others.append(message["ReceiptHandle"])
                continue
            mine.append(message["ReceiptHandle"])
            if entry["message_id"] not in self._kept:
                self._kept[entry["message_id"]] = (k, str(entry.get("reason")))
                fresh.append(entry)
        self._append(fresh)
        if mine:
            await self._client.delete_message_batch(
                QueueUrl=self._queue_url,
                Entries=[{"Id": str(i), "ReceiptHandle": handle} for i, handle in enumerate(mine)],
            )
        return others

    def _append(self, entries: Sequence[dict[str, Any]]) -> None:
        if not entries:
            return
        with self._path.open("a") as file:
            for entry in entries:
                file.write(json.dumps(entry) + "\n")
            file.flush()
            os.fsync(file.fileno())

    def _number(self, entry: dict[str, Any]) -> int:
        """Which reading a message is about; -1 where it is none of the run's."""
        if isinstance(entry.get("payload_sha256"), str):
            return self._truth.find_sha256(entry["payload_sha256"])
        try:
            payload = base64.b64decode(entry["payload_base64"], validate=True)
        except (KeyError, TypeError, ValueError, binascii.Error):
            return -1
        return int(self._truth.find(payload_hashes([payload]))[0])

    @property
    def quarantined(self) -> Bools:
        """Which readings are in quarantine, by number."""
        found = np.zeros(len(self._truth.outcome), dtype=np.bool_)
        found[[k for k, _ in self._kept.values()]] = True
        return found

    def refused(self) -> Refused:
        """What was found so far."""
        truth = self._truth
        reasons: dict[int, str] = {}
        for k, reason in self._kept.values():
            reasons.setdefault(k, reason)
        due = (truth.outcome == ACKED) & truth.must_refuse
        quarantined = self.quarantined
        wrong = unexpected = 0
        for k, reason in reasons.items():
            if not truth.refusal[k]:
                unexpected += 1
            elif self._shape is None and reason != truth.reasons[truth.refusal[k]]:
                wrong += 1
        return Refused(
            expected=int(due.sum()),
            quarantined=len(reasons),
            missing=int((due & ~quarantined).sum()),
            wrong_reason=wrong,
            unexpected=unexpected,
            repeated=len(self._kept) - len(reasons),
        )


def read_quarantine(run_dir: Path) -> Iterator[dict[str, Any]]:
    """The entries of a run's quarantine.jsonl; a line cut off by a crash is still in the queue."""
    path = run_dir / FILE_NAME
    for line in path.read_text(errors="replace").splitlines() if path.exists() else ():
        try:
            entry = json.loads(line)
        except ValueError:
            continue
        if isinstance(entry, dict) and "message_id" in entry:
            yield entry


def _entry_of(message: dict[str, Any], shape: Quarantine) -> dict[str, Any] | None:
    """The same of a message as a pipeline of others writes it. It tells no reason that we know."""
    told: Any = message["Body"]
    if shape.payload is not None:
        try:
            told = at_path(json.loads(told), path_of(shape.payload))
        except ValueError:
            return None
    if not isinstance(told, str):
        return None
    text = told if shape.encoding == "base64" else base64.b64encode(told.encode()).decode()
    return {"message_id": message["MessageId"], "payload_base64": text}


def _entry(message: dict[str, Any]) -> dict[str, Any] | None:
    try:
        body = json.loads(message["Body"])
    except ValueError:
        return None
    return {"message_id": message["MessageId"], **body} if isinstance(body, dict) else None
