"""The Lambda handler: a batch of Kinesis records in, rows and quarantine messages out.

Every record of a batch ends in one of three ways: written to the time series, in quarantine with
a reason, or reported as failed so that Lambda delivers it again. None is dropped.
"""

from __future__ import annotations

import binascii
import gc
import json
import os
import time
from functools import cache
from typing import TYPE_CHECKING, Any, NamedTuple

import boto3
from aws_lambda_powertools import Logger
from aws_lambda_powertools.utilities import parameters
from botocore.config import Config

from .aggregated import split
from .metrics import Metrics
from .quarantine import Quarantine, message
from .readings import Refusal, check
from .timeseries import Arrived, TimeSeries

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from .readings import Reading

SECRET_AGE_S = 300
# Objects more than were freed, before young ones are looked through for cycles.
GARBAGE = 20_000
RETRIES = Config(
    retries={"mode": "standard", "max_attempts": 4},
    connect_timeout=3,
    read_timeout=20,
    # botocore else puts its own together anew, twice for every call.
    user_agent=f"Boto3/{boto3.__version__}",
)
# The writer's requests are made here; what would be validated is a placeholder.
WRITES = RETRIES.merge(Config(parameter_validation=False))

logger = Logger()


class Processor:
    """Checks, writes and refuses readings.

    Args:
        key: Gives the signing key.
        series: Where readings are written.
        quarantine: Where refused readings go.
        limits: Signal name to `{"min": ..., "max": ...}`; a reading outside is critical.
        metrics: Where counts and latencies go.
    """

    def __init__(
        self,
        key: Callable[[], bytes],
        series: TimeSeries,
        quarantine: Quarantine,
        limits: dict[str, dict[str, float]],
        metrics: Metrics,
    ) -> None:
        self._key = key
        self._series = series
        self._quarantine = quarantine
        self._limits = limits
        self._metrics = metrics

    def process(
        self, records: Sequence[dict[str, Any]], remaining_ms: Callable[[], int]
    ) -> dict[str, Any]:
        """Processes a batch; returns the partial batch response."""
        key = self._key()
        arrived: list[Arrived] = []
        refused: dict[int, Refusal] = {}
        critical = 0
        received = unpacked(records)
        for at, one in enumerate(received):
            try:
                reading = check(one.payload, key)
            except Refusal as refusal:
                refused[at] = refusal
                continue
            at_ms = round(one.kinesis["approximateArrivalTimestamp"] * 1000)
            arrived.append(Arrived(at, reading, at_ms))
            critical += self._is_critical(reading)

        written = self._series.write(arrived, remaining_ms)
        for at, why in written.rejected.items():
            refused[at] = Refusal("timestream_rejected", why)
        # Lambda takes back whole records only. What such a record refuses is sent when it comes
        # again, so that the queue has it once.
        again = {received[at].record for at in written.failed}
        sent = sorted(at for at in refused if received[at].record not in again)
        unsent = self._quarantine.send(
            [
                (at, message(_about(records, received[at], refused[at]), received[at].payload))
                for at in sent
            ]
        )
        again |= {received[at].record for at in unsent}
        if again:
            logger.error(
                "records will be delivered again",
                extra={
                    "count": len(again),
                    "unsent": len(unsent),
                    "error": next(iter(written.failed.values()), "quarantine queue"),
                },
            )
        good = [a for a in arrived if a.at not in written.failed and a.at not in refused]
        self._measure(good, len(received), len(sent) - len(unsent), len(written.rejected), critical)
        return {
            "batchItemFailures": [
                {"itemIdentifier": records[index]["kinesis"]["sequenceNumber"]}
                for index in sorted(again)
            ]
        }

    def _is_critical(self, reading: Reading) -> bool:
        for name, limit in self._limits.items():
            value = reading.signals.get(name)
            if value is not None and (
                value > limit.get("max", value) or value < limit.get("min", value)
            ):
                return True
        return False

    def _measure(
        self, good: Sequence[Arrived], received: int, refused: int, rejected: int, critical: int
    ) -> None:
        now_ms = int(time.time() * 1000)
        self._metrics.publish(
            {
                "ReadingsReceived": received,
                "ReadingsWritten": len(good),
                "ReadingsRefused": refused,
                "TimestreamRejected": rejected,
                "CriticalReadings": critical,
            },
            "EndToEndLatency",
            [max(0, now_ms - arrived.reading.ts) for arrived in good],
            now_ms,
        )


class Received(NamedTuple):
    """A reading as it came, and the record that it came in.

    Attributes:
        record: Which of the batch's records.
        kinesis: What the event tells of that record.
        payload: The reading.
        key: Its partition key, where it is not the record's.
        place: Its place among the readings of an aggregated record; None if it was alone.
    """

    record: int
    kinesis: dict[str, Any]
    payload: bytes
    key: str | None
    place: int | None


def unpacked(records: Sequence[dict[str, Any]]) -> list[Received]:
    """The readings of a batch, in its order; aggregated records are taken apart."""
    received: list[Received] = []
    for index, record in enumerate(records):
        kinesis = record["kinesis"]
        data = binascii.a2b_base64(kinesis["data"])
        inside = split(data)
        if inside is None:
            received.append(Received(index, kinesis, data, None, None))
        else:
            received += [
                Received(index, kinesis, payload, key, place)
                for place, (payload, key) in enumerate(inside)
            ]
    return received


def _about(
    records: Sequence[dict[str, Any]], received: Received, refusal: Refusal
) -> dict[str, Any]:
    kinesis = received.kinesis
    place = {} if received.place is None else {"sub_sequence_number": received.place}
    return {
        "reason": refusal.reason,
        "detail": refusal.detail,
        "shard": records[received.record]["eventID"].partition(":")[0],
        "sequence_number": kinesis["sequenceNumber"],
        **place,
        "partition_key": kinesis["partitionKey"] if received.key is None else received.key,
        "arrived_ms": round(kinesis["approximateArrivalTimestamp"] * 1000),
    }


@cache
def _processor() -> Processor:
    environment = os.environ
    secret = environment["SIGNING_SECRET_ARN"]

    def key() -> bytes:
        return str(parameters.get_secret(secret, max_age=SECRET_AGE_S)).encode()

    processor = Processor(
        key,
        TimeSeries(
            boto3.client("timestream-write", config=WRITES),
            environment["TIMESERIES_DATABASE"],
            environment["TIMESERIES_TABLE"],
            int(environment.get("WRITES_AT_ONCE", "5")),
        ),
        Quarantine(boto3.client("sqs", config=RETRIES), environment["QUARANTINE_QUEUE_URL"]),
        json.loads(environment.get("CRITICAL_LIMITS", "{}")),
        Metrics(environment["METRICS_NAMESPACE"], environment["ENVIRONMENT"]),
    )
    # What lives until the process ends (botocore's models above all) is not for the collector to
    # walk again and again, and readings have no cycles to find.
    gc.collect()
    gc.freeze()
    gc.set_threshold(GARBAGE)
    return processor


def handle(event: dict[str, Any], context: Any) -> dict[str, Any]:
    """Entry point of the Lambda."""
    return _processor().process(event["Records"], context.get_remaining_time_in_millis)
