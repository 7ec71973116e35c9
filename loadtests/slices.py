"""One slice of a fleet into Kinesis with boto3, under gevent: what a Locust user does.

The schedule is the simulator's. A slice has one request on its way at a time, so users are the
concurrency; a slow answer shows as readings that are sent late, never as readings that are not.
"""

from __future__ import annotations

import random
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import boto3
from botocore.config import Config
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    ConnectTimeoutError,
    EndpointConnectionError,
)

from fleetcast.errors import TargetError, UsageError
from simulator.codec import Encoder
from simulator.engine import key_unreadable, outgoing
from simulator.fleet import Fleet
from simulator.ledger import ACKED, FAILED, UNKNOWN, LedgerWriter
from simulator.transports.kinesis import ATTEMPTS, BACKOFF_S, MAX_BYTES, MAX_RECORDS, RETRIED

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from fleetcast.target import Target
    from simulator.scenario import RunInfo, Scenario
    from simulator.transports import Outgoing

BATCH_S = 0.05
BLOCK = 512


@dataclass(frozen=True, slots=True)
class Answered:
    """One PutRecords request, as Locust is told it.

    Attributes:
        late_ms: From when the first reading of the request was due until the answer.
        size: Bytes of payload.
        error: What went wrong, or None.
    """

    late_ms: float
    size: int
    error: Exception | None


class SliceDriver:
    """Sends the readings of some devices when they are due.

    Args:
        scenario: What is driven.
        run: Which run; its `devices_slice` says which devices.
        key: The signing key.
        target: Where the stream is.
        stream: Its name.
        run_dir: The run's folder.
        told: Is told every request.
    """

    def __init__(  # noqa: PLR0917 - the parts that it connects
        self,
        scenario: Scenario,
        run: RunInfo,
        key: bytes,
        target: Target,
        stream: str,
        run_dir: Path,
        told: Callable[[Answered], None],
    ) -> None:
        for fault in scenario.faults:
            if fault.reschedules:
                raise UsageError(
                    f"fault {fault.name}: {fault.kind} is not sent by Locust: use fleetcast simulate"
                )
        self._fleet = Fleet(scenario, run)
        self._encoder = Encoder(self._fleet, key)
        self._run_dir = run_dir
        self._stream = stream
        self._told = told
        self._client = boto3.client(
            "kinesis",
            config=Config(connect_timeout=5, read_timeout=15, retries={"total_max_attempts": 1}),
            **target.client_kwargs(),
        )

    def drive(self) -> None:
        """Drives the slice to its end. Killed on the way, it leaves its ledger readable."""
        run = self._fleet.run
        released = 0
        with LedgerWriter(self._run_dir, run.id, run.devices_slice) as ledger:
            for batch in self._batches():
                released += len(batch)
                ledger.release(released)
                try:
                    self._deliver(batch)
                finally:
                    ledger.record(reading.row for reading in batch)

    def _batches(self) -> Iterator[list[Outgoing]]:
        """What is due, at most a request's worth at a time."""
        batch: list[Outgoing] = []
        size = 0
        for reading in self._readings():
            wait_s = reading.row.scheduled_ns / 1e9 - time.time()
            length = len(reading.payload) + len(reading.key)
            full = len(batch) >= MAX_RECORDS or size + length > MAX_BYTES
            if batch and (wait_s > 0 or full):
                yield batch
                batch, size = [], 0
                wait_s = reading.row.scheduled_ns / 1e9 - time.time()
            if wait_s > 0:
                # Late by up to this much, so that a request carries more than one reading.
                time.sleep(wait_s + BATCH_S)
            batch.append(reading)
            size += length
        if batch:
            yield batch

    def _readings(self) -> Iterator[Outgoing]:
        for block in self._fleet.blocks(size=BLOCK):
            yield from outgoing(self._fleet, block, self._encoder.encode(block))

    def _deliver(self, batch: list[Outgoing]) -> None:
        """Sends a batch until each of its readings has an outcome."""
        due_s = batch[0].row.scheduled_ns / 1e9
        left = batch
        for attempt in range(1, ATTEMPTS + 1):
            size = sum(len(reading.payload) for reading in left)
            error: Exception | None = None
            try:
                left = self._put(left)
                if left:
                    error = RuntimeError("records throttled")
            except (ClientError, BotoCoreError, OSError) as failure:
                error = failure
            self._told(Answered((time.time() - due_s) * 1000, size, error))
            if not left or (isinstance(error, ClientError) and _code(error) not in RETRIED):
                return
            low, high = BACKOFF_S
            time.sleep(random.uniform(0, min(high, low * 2**attempt)))  # noqa: S311 - jitter

    def _put(self, batch: Sequence[Outgoing]) -> list[Outgoing]:
        """Sends once and returns what should be tried again; outcomes are as the simulator's."""
        now_ns = time.time_ns()
        before = {id(r): r.row.attempts > 0 and r.row.outcome == UNKNOWN for r in batch}
        for reading in batch:
            reading.row.sent_ns = reading.row.sent_ns or now_ns
            reading.row.attempts += 1
            reading.row.outcome = UNKNOWN
        records = [{"Data": r.payload, "PartitionKey": r.key} for r in batch]
        try:
            answer = self._client.put_records(StreamName=self._stream, Records=records)
        except (ClientError, EndpointConnectionError, ConnectTimeoutError):
            # Refused, or never connected: this attempt placed nothing.
            for reading in batch:
                reading.row.outcome = UNKNOWN if before[id(reading)] else FAILED
            raise
        acked_ns = time.time_ns()
        again = []
        for reading, result in zip(batch, answer["Records"], strict=True):
            row = reading.row
            if result.get("SequenceNumber"):
                row.outcome, row.acked_ns = ACKED, acked_ns
                row.shard, row.sequence_number = result["ShardId"], result["SequenceNumber"]
                continue
            row.outcome = UNKNOWN if before[id(reading)] else FAILED
            if result.get("ErrorCode") in RETRIED:
                again.append(reading)
        return again


def slice_of(run: RunInfo, devices: int, index: int, count: int) -> RunInfo:
    """The run as slice `index` of `count` about equal ones of its devices."""
    first, last = devices * index // count, devices * (index + 1) // count
    return replace(run, devices_slice=(first, last))


def signing_key(target: Target, secret_arn: str) -> bytes:
    """The key that readings are signed with, from the stack's secret.

    Raises:
        TargetError: it cannot be read.
    """
    client: Any = boto3.client("secretsmanager", **target.client_kwargs())
    try:
        return str(client.get_secret_value(SecretId=secret_arn)["SecretString"]).encode()
    except (ClientError, BotoCoreError, OSError) as error:
        raise TargetError(key_unreadable(target, error)) from error


def _code(error: ClientError) -> str:
    return str(error.response.get("Error", {}).get("Code"))
