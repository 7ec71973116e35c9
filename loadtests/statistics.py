"""Readings in Locust's statistics: many at a time, with their time from when they were due."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from locust.stats import StatsError, bucket_response_time

if TYPE_CHECKING:
    from locust.stats import RequestStats, StatsEntry

    from simulator.histogram import Histogram
    from simulator.measure import Progress

METHOD, NAME = "Fleet", "reading"


class Readings:
    """One slice's readings in the statistics of a process.

    A reading is a request: its response time counts from when it was due until it was acknowledged, so
    that what a slow target holds up shows in full. One that failed, or of which nothing is known,
    is a failure.

    Args:
        stats: Locust's statistics.
    """

    def __init__(self, stats: RequestStats) -> None:
        self._stats = stats
        self._before: Progress | None = None

    def add(self, now: Progress, latencies: Histogram) -> None:
        """Takes what came to an end since the last time."""
        before, self._before = self._before, now
        acked, failed, unknown, size = (
            getattr(now, name) - (getattr(before, name) if before else 0)
            for name in ("acked", "failed", "unknown", "bytes")
        )
        entry = self._stats.get(NAME, METHOD)
        for one in (entry, self._stats.total):
            _log(one, acked + failed + unknown, failed + unknown, size)
            _log_times(one, latencies)
        for count, why in ((failed, "failed"), (unknown, "unknown")):
            if count:
                self._log_errors(count, f"{why}: see the run's ledger")

    def _log_errors(self, count: int, text: str) -> None:
        key = StatsError.create_key(METHOD, NAME, text)
        error = self._stats.errors.setdefault(key, StatsError(METHOD, NAME, text))
        error.occurrences += count


def _log(entry: StatsEntry, requests: int, failures: int, size: int) -> None:
    now_s = time.time()
    if entry.use_response_times_cache and entry.last_request_timestamp:
        second = int(now_s)
        if second > int(entry.last_request_timestamp):
            entry._cache_response_times(second - 1)  # noqa: SLF001 - as StatsEntry.log does
    entry.num_requests += requests
    entry.num_failures += failures
    entry.num_reqs_per_sec[int(now_s)] += requests
    if failures:
        entry.num_fail_per_sec[int(now_s)] += failures
    entry.total_content_length += size
    if requests:
        entry.last_request_timestamp = now_s


def _log_times(entry: StatsEntry, latencies: Histogram) -> None:
    for end_s, count in latencies.buckets():
        end_ms = end_s * 1000
        entry.response_times[bucket_response_time(end_ms)] += count
        entry.total_response_time += round(end_ms * count)
        entry.max_response_time = max(entry.max_response_time, round(end_ms))
        least = entry.min_response_time
        entry.min_response_time = round(end_ms) if least is None else min(least, round(end_ms))
    # Those that were never acknowledged have no time.
    entry.num_none_requests = max(0, entry.num_requests - sum(entry.response_times.values()))
