"""How far each reader of a stream has come, kept: what it goes on from after a restart."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, NamedTuple

import orjson

from localcloud.durable.log import NotKeptError

if TYPE_CHECKING:
    from localcloud.durable.log import Log

log = logging.getLogger(__name__)


class Place(NamedTuple):
    """Where a reader is in a shard.

    Attributes:
        position: Before it, the reader needs nothing.
        state: What the reader keeps besides, as JSON has it.
    """

    position: int
    state: Any = None


class KeptReaders:
    """Places by stream, reader and shard, in a log that begins anew with all of them when it is full.

    A place that cannot be written is only told of: the reader then reads again what it has read.

    Args:
        kept: The log.

    Raises:
        TargetError: it is damaged.
    """

    def __init__(self, kept: Log) -> None:
        self._log = kept
        self._places: dict[str, dict[str, dict[str, Place]]] = {}
        self._failing = False
        for _, entry in kept.entries():
            self._take(orjson.loads(entry))

    def moved(self, stream: str, reader: str, shard: str, place: Place) -> None:
        """A reader has come to a place."""
        self._write(["moved", stream, reader, shard, *place])

    def forget(self, stream: str, reader: str | None = None) -> None:
        """A reader, or a stream with all of them, is gone."""
        self._write(["gone", stream, reader])

    def of(self, stream: str) -> dict[str, dict[str, Place]]:
        """Places in a stream, by reader and shard."""
        return self._places.get(stream, {})

    def close(self) -> None:
        """Ends writing."""
        self._log.close()

    def _take(self, told: list[Any]) -> None:
        kind, *what = told
        if kind == "moved":
            stream, reader, shard, position, state = what
            readers = self._places.setdefault(stream, {})
            readers.setdefault(reader, {})[shard] = Place(position, state)
        elif kind == "gone":
            stream, reader = what
            if reader is None:
                self._places.pop(stream, None)
            else:
                self._places.get(stream, {}).pop(reader, None)
        else:
            self._places = {}

    def _write(self, told: list[Any]) -> None:
        self._take(told)
        try:
            if self._log.full:
                self._begin_anew()
            else:
                self._log.append([orjson.dumps(told)])
            self._failing = False
        except NotKeptError as error:
            if not self._failing:
                log.error("%s", error.message)  # noqa: TRY400 - its line says all
            self._failing = True

    def _begin_anew(self) -> None:
        older = self._log.segments
        self._log.begin_segment()
        told: list[list[Any]] = [["begin"]]
        for stream, readers in self._places.items():
            for reader, shards in readers.items():
                told += [
                    ["moved", stream, reader, shard, *place] for shard, place in shards.items()
                ]
        self._log.append([orjson.dumps(one) for one in told])
        for number in older:
            self._log.drop(number)
