"""Messages of queues, kept in a log: what was sent and not deleted is there after a restart.

A message that was received and not deleted is visible again then, as it is when its visibility
time-out ends; how often it was received is counted anew, and its receipt handles are forgotten.
"""

# What is kept lies inside moto.

from __future__ import annotations

import threading
from base64 import b64decode, b64encode
from typing import TYPE_CHECKING, Any

import orjson

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from localcloud.durable.log import Log

KIND = "queues"
_FIELDS = (
    "id", "body", "message_attributes", "sender_id", "sent_timestamp", "deduplication_id",
    "group_id", "sequence_number", "delayed_until", "system_attributes",
)  # fmt: skip
_BYTES = "fleetcast:bytes"


class KeptMessages:
    """The messages of all queues, by the queue's ARN and the message's id.

    Args:
        log: Where they are.

    Attributes:
        restored: Whether messages that come are kept; while requests are made again, none are.
    """

    def __init__(self, log: Log) -> None:
        self._log = log
        self._lock = threading.RLock()
        self._segments: dict[tuple[str, str], int] = {}
        self._live: dict[int, int] = {}
        self.restored = False

    def added(self, arn: str, message: Any) -> None:
        """A message is in a queue.

        Raises:
            NotKeptError: it could not be written.
        """
        with self._lock:
            self._add(arn, _told(message))

    def removed(self, arn: str, ids: Iterable[str]) -> None:
        """Messages are not in a queue any more.

        Raises:
            NotKeptError: it could not be written.
        """
        with self._lock:
            gone = [one for one in ids if (arn, one) in self._segments]
            if not gone:
                return
            self._log.append([orjson.dumps(["gone", arn, gone])])
            for one in gone:
                self._live[self._segments.pop((arn, one))] -= 1
            for segment in self._log.segments[:-1]:
                if self._live.get(segment, 0):
                    break
                self._log.drop(segment)
                self._live.pop(segment, None)

    def cleared(self, arn: str) -> None:
        """A queue has no message any more.

        Raises:
            NotKeptError: it could not be written.
        """
        with self._lock:
            self.removed(arn, [one for queue, one in self._segments if queue == arn])

    def restore(self, put: Callable[[str, Any], bool]) -> int:
        """Puts the messages back, and writes the log anew without what is gone.

        Args:
            put: Puts a message into the queue of an ARN; False where there is none.

        Returns:
            How many there were.

        Raises:
            TargetError: the log is damaged.
        """
        from moto.sqs.models import Message  # noqa: PLC0415 - slow to import

        left: dict[tuple[str, str], dict[str, Any]] = {}
        older = self._log.segments
        for _, entry in self._log.entries():
            kind, arn, told = orjson.loads(entry)
            if kind == "gone":
                for one in told:
                    left.pop((arn, one), None)
            else:
                left[arn, told["id"]] = told
        count = 0
        self._log.begin_segment()
        for (arn, _), told in left.items():
            message = Message(told["id"], told["body"])
            for name, value in told.items():
                setattr(message, name, _value(value))
            if put(arn, message):
                self._add(arn, told)
                count += 1
        for segment in older:
            self._log.drop(segment)
        self.restored = True
        return count

    def close(self) -> None:
        """Ends writing."""
        self._log.close()

    def _add(self, arn: str, told: dict[str, Any]) -> None:
        segment = self._log.append([orjson.dumps(["sent", arn, told], default=_plain)])
        self._segments[arn, told["id"]] = segment
        self._live[segment] = self._live.get(segment, 0) + 1


def _told(message: Any) -> dict[str, Any]:
    return {name: getattr(message, name) for name in _FIELDS}


def _plain(value: Any) -> Any:
    """What JSON has no form for."""
    if isinstance(value, bytes):
        return {_BYTES: b64encode(value).decode()}
    raise TypeError(f"a message has a {type(value).__name__}")


def _value(value: Any) -> Any:
    if isinstance(value, dict):
        if _BYTES in value:
            return b64decode(value[_BYTES])
        return {name: _value(one) for name, one in value.items()}
    return value
