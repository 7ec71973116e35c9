"""Records that were put into a delivery stream and wait for their object, kept in a log."""

from __future__ import annotations

import logging
import struct
from typing import TYPE_CHECKING, NamedTuple

from localcloud.durable.log import NotKeptError

if TYPE_CHECKING:
    from localcloud.durable.log import Log

log = logging.getLogger(__name__)

KIND = "delivery-streams"
# Kind, and position and arrival of a record, or the position up to which all are delivered.
_RECORD = struct.Struct("<cqq")
_PUT, _DELIVERED = b"p", b"d"


class KeptPut(NamedTuple):
    """A record that was acknowledged and not delivered."""

    position: int
    arrival_ms: int
    data: bytes


class KeptPuts:
    """The records of one delivery stream by position, which counts them.

    Args:
        kept: Where they are.

    Raises:
        TargetError: the log is damaged.
    """

    def __init__(self, kept: Log) -> None:
        self._log = kept
        self._ends: dict[int, int] = {}
        self.next_position = 0
        waiting: list[KeptPut] = []
        delivered = 0
        for segment, entry in kept.entries():
            kind, position, arrival_ms = _RECORD.unpack_from(entry)
            if kind == _PUT:
                waiting.append(KeptPut(position, arrival_ms, entry[_RECORD.size :]))
                self._ends[segment] = position + 1
                self.next_position = position + 1
            else:
                delivered = position
                self.next_position = max(self.next_position, position)
        self.waiting = [put for put in waiting if put.position >= delivered]

    def put(self, data: bytes, arrival_ms: int) -> int:
        """Keeps a record; returns its position.

        Raises:
            NotKeptError: it could not be written.
        """
        position = self.next_position
        segment = self._log.append([_RECORD.pack(_PUT, position, arrival_ms) + data])
        self._ends[segment] = self.next_position = position + 1
        return position

    def delivered(self, position: int) -> None:
        """Everything before a position is in objects.

        Where that cannot be written, the records are delivered again after a restart.
        """
        try:
            self._log.append([_RECORD.pack(_DELIVERED, position, 0)])
        except NotKeptError as error:
            log.warning("%s", error.message)
            return
        for segment in self._log.segments[:-1]:
            if self._ends.get(segment, 0) > position:
                break
            self._log.drop(segment)
            self._ends.pop(segment, None)

    def close(self) -> None:
        """Ends writing."""
        self._log.close()
