"""Readings into Timestream: multi-measure records, a hundred to a call."""

from __future__ import annotations

import random
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from botocore.exceptions import BotoCoreError, ClientError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from .readings import Reading

CALL_RECORDS = 100
RESERVE_MS = 5_000
BACKOFF_S = (0.1, 5.0)
RETRIED = {"ThrottlingException", "InternalServerException", "ServiceUnavailable"}


@dataclass(frozen=True, slots=True)
class Arrived:
    """A checked reading and where it stood in the batch."""

    index: int
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
    """

    def __init__(self, client: Any, database: str, table: str) -> None:
        self._client = client
        self._database = database
        self._table = table

    def write(self, readings: Sequence[Arrived], remaining_ms: Callable[[], int]) -> Written:
        """Writes readings; tries again what was throttled, as long as time is left."""
        written = Written({}, {})
        for first in range(0, len(readings), CALL_RECORDS):
            self._write_call(readings[first : first + CALL_RECORDS], remaining_ms, written)
        return written

    def _write_call(
        self, readings: Sequence[Arrived], remaining_ms: Callable[[], int], written: Written
    ) -> None:
        attempt = 0
        while True:
            # A later attempt has a higher version and replaces what an earlier one wrote.
            processed_ms = int(time.time() * 1000)
            try:
                self._client.write_records(
                    DatabaseName=self._database,
                    TableName=self._table,
                    CommonAttributes={
                        "MeasureName": "reading",
                        "MeasureValueType": "MULTI",
                        "TimeUnit": "MILLISECONDS",
                        "Version": processed_ms,
                    },
                    Records=[_record(arrived, processed_ms) for arrived in readings],
                )
            except self._client.exceptions.RejectedRecordsException as error:
                for rejected in error.response["RejectedRecords"]:
                    # With an existing version at least as high, the reading is there already.
                    if "ExistingVersion" not in rejected:
                        index = readings[rejected["RecordIndex"]].index
                        written.rejected[index] = rejected.get("Reason", "no reason given")
            except (ClientError, BotoCoreError) as error:
                attempt += 1
                if _retried(error) and remaining_ms() > RESERVE_MS:
                    low, high = BACKOFF_S
                    time.sleep(random.uniform(0, min(high, low * 2**attempt)))  # noqa: S311 - jitter
                    continue
                for arrived in readings:
                    written.failed[arrived.index] = str(error)
            return


def _retried(error: Exception) -> bool:
    if isinstance(error, ClientError):
        return error.response.get("Error", {}).get("Code") in RETRIED
    return True


def _record(arrived: Arrived, processed_ms: int) -> dict[str, Any]:
    reading = arrived.reading
    return {
        "Dimensions": [
            {"Name": "device", "Value": reading.device},
            {"Name": "class", "Value": reading.kind},
            {"Name": "site", "Value": reading.site},
            {"Name": "run", "Value": reading.run},
        ],
        "Time": str(reading.ts),
        "MeasureValues": [
            {"Name": "seq", "Type": "BIGINT", "Value": str(reading.seq)},
            {"Name": "arrived_ms", "Type": "BIGINT", "Value": str(arrived.arrived_ms)},
            {"Name": "processed_ms", "Type": "BIGINT", "Value": str(processed_ms)},
            *(
                {"Name": name, "Type": "DOUBLE", "Value": repr(float(value))}
                for name, value in reading.signals.items()
            ),
        ],
    }
