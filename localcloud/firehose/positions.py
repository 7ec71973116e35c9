"""How far each shard of a source was read, and how far what was read is delivered.

The two differ by what waits in buffers. Only the second may be remembered across a restart: what
lies between is read again, and nothing is lost.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


@dataclass(slots=True, eq=False)
class Span:
    """One read of a shard: the position after it, and how many of its records are not settled."""

    shard: str
    end: int
    waiting: int


class Positions:
    """Positions of every shard, as `StreamSource` counts them.

    Args:
        moved: Is told the shard and its new position whenever more of it is delivered.
    """

    def __init__(self, moved: Callable[[str, int], None]) -> None:
        self._moved = moved
        self.read: dict[str, int] = {}
        self.delivered: dict[str, int] = {}
        self._spans: dict[str, deque[Span]] = {}

    def begin(self, shard: str, position: int) -> None:
        """Starts a shard at a position, unless it was started before."""
        if shard not in self.read:
            self.read[shard] = self.delivered[shard] = position
            self._spans[shard] = deque()
            self._moved(shard, position)

    def restore(self, shard: str, position: int) -> None:
        """Goes on in a shard from a position that was delivered before."""
        self.read[shard] = self.delivered[shard] = position
        self._spans[shard] = deque()

    def take(self, shard: str, end: int, records: int) -> Span:
        """Notes that a shard was read up to `end`, which gave `records` to be settled."""
        span = Span(shard, end, records)
        self.read[shard] = end
        self._spans[shard].append(span)
        self._advance(shard)
        return span

    def settle(self, span: Span, records: int) -> None:
        """Notes that records of a read are where they belong: in an object, or dropped on order."""
        span.waiting -= records
        self._advance(span.shard)

    def _advance(self, shard: str) -> None:
        """Moves the delivered position over reads that are wholly settled, in order."""
        spans = self._spans[shard]
        before = self.delivered[shard]
        while spans and spans[0].waiting <= 0:
            self.delivered[shard] = spans.popleft().end
        if self.delivered[shard] != before:
            self._moved(shard, self.delivered[shard])

    def forget(self, shard: str) -> None:
        """Drops a shard that is no longer there."""
        self.read.pop(shard, None)
        self.delivered.pop(shard, None)
        self._spans.pop(shard, None)
