"""Readings in the order in which they leave: encoded a little ahead of need, taken when due.

What faults do to sending happens here: a reading that its device never sends is left out, a
delayed one is held back until its time, one that is sent more than once comes as often.
"""

from __future__ import annotations

import heapq
import itertools
from collections import deque
from typing import TYPE_CHECKING

import numpy as np

from simulator.batch import Batch, batch_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from simulator.codec import Encoder
    from simulator.fleet import Fleet


class Schedule:
    """What a fleet sends, by the time at which it is due.

    Args:
        fleet: Whose readings.
        encoder: Makes payloads of them.
        block: Most readings to encode at a time.
        ahead: Is told of readings that were encoded.

    Attributes:
        released: Readings that the schedule has come to.
        withheld: Of these, the ones that their devices never send.
        sends: How often what the schedule has come to is sent in all.
    """

    def __init__(
        self,
        fleet: Fleet,
        encoder: Encoder,
        block: int,
        ahead: Callable[[Batch], None] = lambda _batch: None,
    ) -> None:
        self._fleet = fleet
        self._encoder = encoder
        self._ahead = ahead
        self._blocks = fleet.blocks(size=block)
        self._ready: deque[Batch] = deque()
        self._encoded = 0
        # (when, a number that is never equal, readings that a fault delays until then)
        self._held: list[tuple[int, int, Batch]] = []
        self._order = itertools.count()
        self.released = 0
        self.withheld = 0
        self.sends = 0

    @property
    def ended(self) -> bool:
        """Whether everything was taken."""
        return self.released >= self._fleet.total and not self._held

    @property
    def ready(self) -> int:
        """Readings that are encoded and not due yet."""
        return self._encoded - self.released

    @property
    def next_ns(self) -> int | None:
        """When the next reading that is ready is due, epoch nanoseconds; None if none is."""
        times = [int(self._ready[0].rows["due_ns"][0])] if self._ready else []
        if self._held:
            times.append(self._held[0][0])
        return min(times, default=None)

    def refill(self, ahead: int, most: int) -> None:
        """Encodes until `ahead` readings are ready, but about `most` at a time."""
        stop = self._encoded + most
        while self.ready < ahead and self._encoded < stop:
            block = next(self._blocks, None)
            if block is None:
                return
            batch = batch_of(self._fleet, block, self._encoder.encode(block))
            self._ahead(batch)
            self._ready.append(batch)
            self._encoded += len(batch)

    def take(self, now_ns: int) -> list[Batch]:
        """What leaves now, of what is ready."""
        leaving = []
        while self._ready:
            batch = self._ready[0]
            # By when they are due, which ascends; what a fault delays is scheduled for later.
            count = int(np.searchsorted(batch.rows["due_ns"], now_ns, side="right"))
            if not count:
                break
            if count < len(batch):
                self._ready[0] = batch.part(count, len(batch))
                batch = batch.part(0, count)
            else:
                self._ready.popleft()
            self.released += count
            self.sends += int(batch.rows["sends"].sum(dtype=np.int64))
            leaving.append(self._kept_back(batch, now_ns))
        while self._held and self._held[0][0] <= now_ns:
            _, _, batch = heapq.heappop(self._held)
            count = int(np.searchsorted(batch.rows["scheduled_ns"], now_ns, side="right"))
            leaving.append(batch.part(0, count))
            self._hold(batch.part(count, len(batch)))
        return [_copied(batch) for batch in leaving if len(batch)]

    def _kept_back(self, batch: Batch, now_ns: int) -> Batch:
        """A part of the schedule without what its devices hold back or never send."""
        rows = batch.rows
        never, late = rows["sends"] == 0, rows["scheduled_ns"] > now_ns
        if not (never.any() or late.any()):
            return batch
        self.withheld += int(never.sum())
        later = batch.take(np.flatnonzero(late & ~never))
        self._hold(later.take(np.argsort(later.rows["scheduled_ns"], kind="stable")))
        return batch.take(np.flatnonzero(~late & ~never))

    def _hold(self, batch: Batch) -> None:
        if len(batch):
            heapq.heappush(
                self._held, (int(batch.rows["scheduled_ns"][0]), next(self._order), batch)
            )


def _copied(batch: Batch) -> Batch:
    """A batch in which the copies of a reading follow it at once, as those of a device do."""
    sends = batch.rows["sends"]
    if (sends <= 1).all():
        return batch
    return batch.take(np.repeat(np.arange(len(batch)), sends))
