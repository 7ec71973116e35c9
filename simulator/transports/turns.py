"""Strict order: of the readings under one key, one is on its way at a time.

PutRecords keeps no order among the records of a request, nor between one that is refused and the
next that is taken; the only order that holds is to wait.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from simulator.batch import Batch


class Turns:
    """Readings that wait for the one before them under the same key."""

    def __init__(self) -> None:
        # Keys of readings on their way, and what waits for each.
        self._waiting: dict[str, deque[Batch]] = {}

    def take(self, batch: Batch) -> list[Batch]:
        """Takes readings; gives back those that may go at once."""
        free = []
        for place, key in enumerate(batch.keys.tolist()):
            waiting = self._waiting.get(key)
            if waiting is None:
                self._waiting[key] = deque()
                free.append(place)
            else:
                waiting.append(batch.part(place, place + 1))
        return [batch.take(np.array(free, dtype=np.intp))] if free else []

    def next_of(self, decided: Batch) -> list[Batch]:
        """What may go now that these have an outcome."""
        free = []
        for key in decided.keys.tolist():
            waiting = self._waiting[key]
            if waiting:
                free.append(waiting.popleft())
            else:
                del self._waiting[key]
        return free

    def rest(self) -> list[Batch]:
        """What still waits, given up."""
        rest = [batch for waiting in self._waiting.values() for batch in waiting]
        self._waiting.clear()
        return rest
