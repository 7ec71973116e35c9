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
import numpy as np
from botocore.config import Config
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    ConnectTimeoutError,
    EndpointConnectionError,
)

from fleetcast.errors import TargetError
from simulator.batch import ACKED, FAILED, UNKNOWN
from simulator.codec import Encoder
from simulator.engine import key_unreadable
from simulator.fleet import Fleet
from simulator.ledger import LedgerWriter
from simulator.measure import Book
from simulator.schedule import Schedule
from simulator.transports.kinesis import ATTEMPTS, BACKOFF_S, MAX_BYTES, MAX_RECORDS, RETRIED

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from fleetcast.target import Target
    from simulator.batch import Batch
    from simulator.scenario import RunInfo, Scenario

BATCH_S = 0.03
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
        schedule = Schedule(self._fleet, self._encoder, BLOCK)
        with LedgerWriter(self._run_dir, self._fleet) as ledger:
            book = Book(ledger)
            while not schedule.ended:
                schedule.refill(BLOCK, BLOCK)
                wait_s = (schedule.next_ns or 0) / 1e9 - time.time()
                if wait_s > 0:
                    # Late by up to this much, so that a request carries more than one reading.
                    time.sleep(wait_s + BATCH_S)
                now_ns = time.time_ns()
                leaving = schedule.take(now_ns)
                ledger.release(schedule.released, now_ns)
                for part in _requests(leaving):
                    try:
                        self._deliver(part)
                    finally:
                        book.done(part)

    def _deliver(self, batch: Batch) -> None:
        """Sends a batch until each of its readings has an outcome."""
        due_s = int(batch.rows["scheduled_ns"].min()) / 1e9
        batch.shards, batch.sequence_numbers = [None] * len(batch), [None] * len(batch)
        left = np.arange(len(batch))
        for attempt in range(1, ATTEMPTS + 1):
            size = sum(len(batch.payloads[place]) for place in left)
            error: Exception | None = None
            try:
                left = self._put(batch, left)
                if len(left):
                    error = RuntimeError("records throttled")
            except (ClientError, BotoCoreError, OSError) as failure:
                error = failure
            self._told(Answered((time.time() - due_s) * 1000, size, error))
            if not len(left) or (isinstance(error, ClientError) and _code(error) not in RETRIED):
                return
            low, high = BACKOFF_S
            time.sleep(random.uniform(0, min(high, low * 2**attempt)))  # noqa: S311 - jitter

    def _put(self, batch: Batch, left: NDArray[np.intp]) -> NDArray[np.intp]:
        """Sends once; the places of what should be tried again. Outcomes are as the simulator's."""
        rows = batch.rows
        rows["sent_ns"][left] = np.where(
            rows["sent_ns"][left] == 0, time.time_ns(), rows["sent_ns"][left]
        )
        rows["attempts"][left] += 1
        rows["outcome"][left] = UNKNOWN
        records = [
            {"Data": batch.payloads[place], "PartitionKey": batch.keys[place]} for place in left
        ]
        try:
            answer = self._client.put_records(StreamName=self._stream, Records=records)
        except (ClientError, EndpointConnectionError, ConnectTimeoutError):
            # Refused, or never connected: this attempt placed nothing.
            rows["outcome"][left] = np.where(rows["maybe"][left], UNKNOWN, FAILED)
            raise
        except BaseException:
            rows["maybe"][left] = True
            raise
        acked_ns = time.time_ns()
        again = []
        for place, result in zip(left.tolist(), answer["Records"], strict=True):
            if result.get("SequenceNumber"):
                rows["outcome"][place], rows["acked_ns"][place] = ACKED, acked_ns
                self._landed(batch, place, result)
                continue
            rows["outcome"][place] = UNKNOWN if rows["maybe"][place] else FAILED
            if result.get("ErrorCode") in RETRIED:
                again.append(place)
        return np.array(again, dtype=np.intp)

    @staticmethod
    def _landed(batch: Batch, place: int, result: dict[str, Any]) -> None:
        if batch.shards is not None and batch.sequence_numbers is not None:
            batch.shards[place] = result["ShardId"]
            batch.sequence_numbers[place] = result["SequenceNumber"]


def _requests(leaving: Sequence[Batch]) -> Iterator[Batch]:
    """Batches in parts that one request takes."""
    for batch in leaving:
        first = size = 0
        for place, (payload, key) in enumerate(zip(batch.payloads, batch.keys, strict=True)):
            more = len(payload) + len(key.encode())
            if place > first and (place - first >= MAX_RECORDS or size + more > MAX_BYTES):
                yield batch.part(first, place)
                first, size = place, 0
            size += more
        yield batch.part(first, len(batch))


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
