"""How much an on-demand stream takes: the peak of the last 30 days, and the shards it asks for.

"On-demand mode" of the developer guide: a new stream takes 4 MiB/s and 4,000 records/s; a stream
accommodates up to double the peak of the last 30 days, and writes may be throttled where traffic
more than doubles within 15 minutes. Here a peak is the busiest minute of a quarter of an hour, and
capacity follows it at the end of that quarter.
"""

from __future__ import annotations

import math

from localcloud.kinesis.limits import MIB

FIRST_SHARDS = 4
MINUTE_S = 60
WINDOW_S = 15 * MINUTE_S
REMEMBERED_S = 30 * 86_400
_RECORDS_PER_SHARD = 1000


class Throughput:
    """The written bytes and records of one stream, by minute, and the peaks of the past.

    A rate is counted in shards: the greater of MiB/s and thousands of records a second.

    Args:
        now_s: Epoch seconds.
    """

    def __init__(self, now_s: float) -> None:
        self._minute = int(now_s // MINUTE_S)
        self._bytes = 0
        self._records = 0
        self._window_began_s = now_s
        self._window_peak = 0.0
        self._peaks: list[tuple[float, float]] = []

    def add(self, size: int, records: int, now_s: float) -> None:
        """Counts what was accepted."""
        minute = int(now_s // MINUTE_S)
        if minute != self._minute:
            self._close_minute(minute)
        self._bytes += size
        self._records += records

    def wanted_shards(self, now_s: float) -> int | None:
        """Shards for double the peak, at the end of a window; None in the middle of one."""
        if now_s - self._window_began_s < WINDOW_S:
            return None
        self._close_minute(int(now_s // MINUTE_S))
        self._peaks = [(s, peak) for s, peak in self._peaks if s > now_s - REMEMBERED_S]
        self._peaks.append((now_s, self._window_peak))
        self._window_began_s, self._window_peak = now_s, 0.0
        return max(FIRST_SHARDS, math.ceil(2 * self.peak()))

    def peak(self) -> float:
        """The busiest minute of the last 30 days, in shards."""
        return max((peak for _, peak in self._peaks), default=0.0)

    def _close_minute(self, minute: int) -> None:
        rate = max(self._bytes / MIB, self._records / _RECORDS_PER_SHARD) / MINUTE_S
        self._window_peak = max(self._window_peak, rate)
        self._minute, self._bytes, self._records = minute, 0, 0
