"""How many requests may be on their way: fewer when the target throttles, slowly more afterwards.

Additive increase, multiplicative decrease, as TCP does it: a full round without throttling allows one
request more; throttling takes away up to half, in proportion to how much of a request was refused.
"""

from __future__ import annotations

import asyncio
import time

# One congestion shows in many answers: it counts once.
SETTLE_S = 0.1


class Window:
    """A bound on requests that adapts.

    Args:
        most: Where it starts, and never goes above.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._limit = float(most)
        self._active = 0
        self._free = asyncio.Event()
        self._next_cut_s = 0.0

    @property
    def size(self) -> int:
        """Requests that may be on their way now."""
        return int(self._limit)

    async def enter(self) -> None:
        """Waits until there is room for a request, and takes it."""
        while self._active >= self.size:
            self._free.clear()
            await self._free.wait()
        self._active += 1

    def leave(self) -> None:
        """Gives the room back."""
        self._active -= 1
        self._free.set()

    def answered(self, throttled_share: float) -> None:
        """Learns from an answer which share of its records was throttled."""
        if not throttled_share:
            self._limit = min(self._most, self._limit + 1 / self._limit)
            return
        now_s = time.monotonic()
        if now_s >= self._next_cut_s:
            self._next_cut_s = now_s + SETTLE_S
            self._limit = max(1.0, self._limit * (1 - throttled_share / 2))
