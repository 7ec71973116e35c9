"""Readings into Timestream: multi-measure records, a hundred of one run to a call."""

from __future__ import annotations

import random
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from botocore.exceptions import BotoCoreError, ClientError

from .requests import RecordWriter, record

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from .readings import Reading

CALL_RECORDS = 100
RESERVE_MS = 5_000
BACKOFF_S = (0.1, 5.0)
RETRIED = {"ThrottlingException", "InternalServerException", "ServiceUnavailable"}


class Arrived(NamedTuple):
    """A checked reading and where it stood in the batch."""

    at: int
    reading: Reading
    arrived_ms: int


@dataclass(frozen=True, slots=True)
class Written:
    """What became of some readings, by their index in the batch.

    Attributes:
        rejected: Index to Timestream's reason, for what it will never take.
        failed: Index to what went wrong, for what may be tried again.
    """

    rejected: dict[int, str]
    failed: dict[int, str]


class TimeSeries:
    """Writes to one table.

    Args:
        client: A boto3 `timestream-write` client.
        database: Name of the database.
        table: Name of the table.
        at_once: Most calls at a time: on AWS they wait far longer than they compute.
    """

    def __init__(self, client: Any, database: str, table: str, at_once: int) -> None:
        self._client = client
        self._writer = RecordWriter(client, database, table)
        self._map: Callable[..., Iterator[Written]] = (
            ThreadPoolExecutor(at_once, "timestream").map if at_once > 1 else map
        )

    def write(self, readings: Sequence[Arrived], remaining_ms: Callable[[], int]) -> Written:
        """Writes readings; tries again what was throttled, as long as time is left."""
        calls = list(_calls(readings))
        run = map if len(calls) == 1 else self._map
        written = Written({}, {})
        for done in run(lambda call: self._write_call(call, remaining_ms), calls):
            written.rejected.update(done.rejected)
            written.failed.update(done.failed)
        return written

    def _write_call(self, readings: Sequence[Arrived], remaining_ms: Callable[[], int]) -> Written:
        written = Written({}, {})
        attempt = 0
        while True:
            processed_ms = int(time.time() * 1000)
            try:
                self._writer.write(
                    [record(reading, at_ms, processed_ms) for _, reading, at_ms in readings],
                    readings[0].reading.run,
                    processed_ms,
                )
            except self._client.exceptions.RejectedRecordsException as error:
                for rejected in error.response["RejectedRecords"]:
                    # With an existing version at least as high, the reading is there already.
                    if "ExistingVersion" not in rejected:
                        at = readings[rejected["RecordIndex"]].at
                        written.rejected[at] = rejected.get("Reason", "no reason given")
            except (ClientError, BotoCoreError) as error:
                attempt += 1
                if _retried(error) and remaining_ms() > RESERVE_MS:
                    low, high = BACKOFF_S
                    time.sleep(random.uniform(0, min(high, low * 2**attempt)))  # noqa: S311 - jitter
                    continue
                for arrived in readings:
                    written.failed[arrived.at] = str(error)
            return written


def _calls(readings: Sequence[Arrived]) -> Iterator[Sequence[Arrived]]:
    """Readings by run, in parts that one call takes."""
    runs: dict[str, list[Arrived]] = {}
    for arrived in readings:
        runs.setdefault(arrived.reading.run, []).append(arrived)
    for of_run in runs.values():
        for first in range(0, len(of_run), CALL_RECORDS):
            yield of_run[first : first + CALL_RECORDS]


def _retried(error: Exception) -> bool:
    if isinstance(error, ClientError):
        return error.response.get("Error", {}).get("Code") in RETRIED
    return True
