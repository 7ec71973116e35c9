"""How much may be put directly into one delivery stream in a second.

Follows "Amazon Data Firehose quota": records, requests and bytes a second by region. Each is a
bucket that holds one second's worth.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

MIB = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Quota:
    """What a second admits."""

    records: int
    requests: int
    bytes: int


_LARGE = Quota(500_000, 2_000, 5 * MIB)
_OTHERS = Quota(100_000, 1_000, MIB)
_LARGE_REGIONS = {"us-east-1", "us-west-2", "eu-west-1"}


def quota_of(region: str) -> Quota:
    """The default quota of a region."""
    return _LARGE if region in _LARGE_REGIONS else _OTHERS


class Throttle:
    """Admits records and requests up to a quota.

    Args:
        quota: What a second admits.
        clock: Seconds; monotonic.
    """

    def __init__(self, quota: Quota, clock: Callable[[], float] = time.monotonic) -> None:
        self.quota = quota
        self._clock = clock
        self._then_s = clock()
        self._records = float(quota.records)
        self._requests = float(quota.requests)
        self._bytes = float(quota.bytes)

    def admit_request(self) -> bool:
        """Whether one more request is within the quota."""
        now_s = self._clock()
        passed_s, self._then_s = now_s - self._then_s, now_s
        quota = self.quota
        self._records = min(quota.records, self._records + passed_s * quota.records)
        self._requests = min(quota.requests, self._requests + passed_s * quota.requests)
        self._bytes = min(quota.bytes, self._bytes + passed_s * quota.bytes)
        if self._requests < 1:
            return False
        self._requests -= 1
        return True

    def admit_record(self, size: int) -> bool:
        """Whether one more record of the admitted request is within the quota."""
        if self._records < 1 or self._bytes < size:
            return False
        self._records -= 1
        self._bytes -= size
        return True
