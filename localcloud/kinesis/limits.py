"""Time, and the token buckets that every limit of a shard is made of."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

MIB = 1024 * 1024


@dataclass(slots=True)
class Clock:
    """Time as one stream sees it; whoever holds the stream may move it.

    Attributes:
        epoch_s: Wall time, which stamps records and ends retention, iterators and peaks.
        monotonic_s: Time that never goes back, which refills buckets.
    """

    epoch_s: Callable[[], float] = time.time
    monotonic_s: Callable[[], float] = time.monotonic

    def epoch_ms(self) -> int:
        """Wall time in whole milliseconds."""
        return int(self.epoch_s() * 1000)


class TokenBucket:
    """Tokens that refill at `rate_per_s` up to `capacity`, which is one second's worth by default.

    Args:
        rate_per_s: Tokens that accrue in a second.
        now_s: Monotonic time; the bucket starts full.
        capacity: Tokens that it holds.
    """

    __slots__ = ("_then_s", "capacity", "rate_per_s", "tokens")

    def __init__(self, rate_per_s: float, now_s: float, capacity: float | None = None) -> None:
        self.rate_per_s = rate_per_s
        self.capacity = rate_per_s if capacity is None else capacity
        self._then_s = now_s
        self.tokens = float(self.capacity)

    def refill(self, now_s: float) -> float:
        """Adds what has accrued since the last call; returns the tokens there are."""
        passed_s = now_s - self._then_s
        if passed_s > 0:
            self.tokens = min(self.capacity, self.tokens + passed_s * self.rate_per_s)
            self._then_s = now_s
        return self.tokens

    def until(self, wanted: float) -> float:
        """Seconds until the bucket holds `wanted` tokens, as of the last refill."""
        return max(0.0, (wanted - self.tokens) / self.rate_per_s)
