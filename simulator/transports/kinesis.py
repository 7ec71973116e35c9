"""Readings into Kinesis with PutRecords: batched, bounded in flight, tried again, never dropped.

Outcomes follow Jepsen's names. A reading is `acked` when Kinesis returned its sequence number,
`failed` when it was surely not taken (refused until the attempts were used up, or never sent), and
`unknown` when a request ended without an answer: it may have landed or not.
"""

from __future__ import annotations

import asyncio
import random
import socket
import time
from collections import deque
from typing import TYPE_CHECKING, Any, Self

import aiohttp
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    ConnectTimeoutError,
    EndpointConnectionError,
    NoCredentialsError,
)

from fleetcast.errors import TargetError
from simulator.ledger import ACKED, FAILED, UNKNOWN

if TYPE_CHECKING:
    from collections.abc import Sequence
    from contextlib import AbstractAsyncContextManager

    from fleetcast.target import Target
    from simulator.transports import Done, Outgoing

MAX_RECORDS = 500
MAX_BYTES = 5 * 1024 * 1024
LINGER_S = 0.02
REQUESTS = 24
ATTEMPTS = 12
BACKOFF_S = (0.05, 5.0)
# Kinesis says of these that trying again may help; the rest of its errors are final.
RETRIED = {
    "ProvisionedThroughputExceededException", "InternalFailure", "InternalFailureException",
    "ServiceUnavailable", "ThrottlingException", "KMSThrottlingException", "LimitExceededException",
    "500", "502", "503", "504",
}  # fmt: skip


class KinesisTransport:
    """Sends to one stream.

    Args:
        target: Where the stream is.
        stream: Its name.
        done: Is told every reading when its outcome is decided.
        requests: Most PutRecords requests at a time.
        attempts: Most times that a reading is sent.
    """

    def __init__(
        self,
        target: Target,
        stream: str,
        done: Done,
        *,
        requests: int = REQUESTS,
        attempts: int = ATTEMPTS,
    ) -> None:
        self._target = target
        self._stream = stream
        self._done = done
        self._attempts = attempts
        self._slots = asyncio.Semaphore(requests)
        self._requests = requests
        self._queue: deque[Outgoing] = deque()
        self._arrived = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()
        self._pending: dict[asyncio.Task[None], list[Outgoing]] = {}
        self._open = 0
        self._dispatcher: asyncio.Task[None] | None = None
        self._context: AbstractAsyncContextManager[Any] | None = None
        self._client: Any = None
        self.throttled = 0
        self.shards = 0

    async def __aenter__(self) -> Self:
        self._context = self._target.client(
            "kinesis",
            max_pool_connections=self._requests,
            connect_timeout=5,
            read_timeout=15,
            retries={"max_attempts": 0},
        )
        self._client = await self._context.__aenter__()
        try:
            told = await self._client.describe_stream_summary(StreamName=self._stream)
        except (ClientError, BotoCoreError, OSError) as error:
            await self._context.__aexit__(None, None, None)
            raise TargetError(_preflight(self._target, self._stream, error)) from error
        self.shards = told["StreamDescriptionSummary"]["OpenShardCount"]
        self._dispatcher = asyncio.create_task(self._dispatch())
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._dispatcher is not None:
            self._dispatcher.cancel()
            await asyncio.gather(self._dispatcher, return_exceptions=True)
        if self._context is not None:
            await self._context.__aexit__(None, None, None)

    @property
    def in_flight(self) -> int:
        """See `Transport`."""
        return self._open - len(self._queue)

    @property
    def backlog(self) -> int:
        """See `Transport`."""
        return len(self._queue)

    def send(self, readings: Sequence[Outgoing]) -> None:
        """See `Transport`."""
        if not readings:
            return
        self._queue.extend(readings)
        self._open += len(readings)
        self._idle.clear()
        self._arrived.set()

    async def drain(self) -> None:
        """See `Transport`."""
        await self._idle.wait()

    async def abandon(self, grace_s: float) -> None:
        """See `Transport`."""
        if self._dispatcher is not None:
            self._dispatcher.cancel()
        if self._pending:
            await asyncio.wait(self._pending, timeout=grace_s)
        unsent = list(self._queue)
        self._queue.clear()
        for reading in unsent:
            reading.row.outcome = FAILED
        self._finish(unsent)
        tasks = list(self._pending)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _dispatch(self) -> None:
        """Cuts the queue into batches: when one is full, or a short time after its first."""
        while True:
            if not self._queue:
                self._arrived.clear()
                await self._arrived.wait()
            if len(self._queue) < MAX_RECORDS:
                await asyncio.sleep(LINGER_S)
            await self._slots.acquire()
            batch = self._next_batch()
            if not batch:
                self._slots.release()
                continue
            task = asyncio.create_task(self._deliver(batch))
            self._pending[task] = batch
            task.add_done_callback(self._pending.pop)

    def _next_batch(self) -> list[Outgoing]:
        batch: list[Outgoing] = []
        size = 0
        while self._queue and len(batch) < MAX_RECORDS:
            size += len(self._queue[0].payload) + len(self._queue[0].key)
            if batch and size > MAX_BYTES:
                break
            batch.append(self._queue.popleft())
        return batch

    async def _deliver(self, batch: list[Outgoing]) -> None:
        """Sends a batch until each of its readings has an outcome. Holds a slot while it sends."""
        left = batch
        holding = True
        try:
            attempt = 0
            while left:
                if not holding:
                    await self._slots.acquire()
                    holding = True
                left = await self._put(left)
                self._slots.release()
                holding = False
                attempt += 1
                if left and attempt >= self._attempts:
                    self._finish(left)
                    left = []
                elif left:
                    low, high = BACKOFF_S
                    await asyncio.sleep(random.uniform(0, min(high, low * 2**attempt)))  # noqa: S311
        except asyncio.CancelledError:
            # Cut off: what was refused so far is failed, what waits for an answer stays unknown.
            self._finish(left)
            raise
        finally:
            if holding:
                self._slots.release()

    async def _put(self, batch: list[Outgoing]) -> list[Outgoing]:
        """Sends once; finishes what is decided and returns what should be tried again."""
        now_ns = time.time_ns()
        maybe_landed = {id(r) for r in batch if r.row.attempts and r.row.outcome == UNKNOWN}
        for reading in batch:
            row = reading.row
            if row.sent_ns is None:
                row.sent_ns = now_ns
            row.attempts += 1
            row.outcome = UNKNOWN
        records = [{"Data": reading.payload, "PartitionKey": reading.key} for reading in batch]
        try:
            answer = await self._client.put_records(StreamName=self._stream, Records=records)
        except (EndpointConnectionError, ConnectTimeoutError) as error:
            # No connection: nothing of this attempt left the machine.
            if _never_connected(error):
                self._set_failed(batch, maybe_landed)
            return batch
        except ClientError as error:
            self._set_failed(batch, maybe_landed)
            code = str(error.response.get("Error", {}).get("Code"))
            if code in RETRIED:
                return batch
            self._finish(batch)
            return []
        except Exception:  # noqa: BLE001 - botocore's parser passes on whatever it stumbles over
            # Sent, perhaps, and no answer: it may have landed. Trying again may duplicate it.
            return batch
        results = answer.get("Records", ())
        if len(results) != len(batch):
            # As from something in between that is not Kinesis: no answer either.
            return batch
        return self._settle(batch, results, maybe_landed)

    def _settle(
        self, batch: list[Outgoing], results: Sequence[dict[str, Any]], maybe_landed: set[int]
    ) -> list[Outgoing]:
        acked_ns = time.time_ns()
        done: list[Outgoing] = []
        again: list[Outgoing] = []
        refused: list[Outgoing] = []
        for reading, result in zip(batch, results, strict=True):
            row = reading.row
            if result.get("SequenceNumber"):
                row.outcome, row.acked_ns = ACKED, acked_ns
                row.shard, row.sequence_number = result["ShardId"], result["SequenceNumber"]
                done.append(reading)
                continue
            code = result.get("ErrorCode", "")
            self.throttled += code == "ProvisionedThroughputExceededException"
            (again if code in RETRIED else refused).append(reading)
        self._set_failed([*again, *refused], maybe_landed)
        self._finish([*done, *refused])
        return again

    @staticmethod
    def _set_failed(readings: Sequence[Outgoing], maybe_landed: set[int]) -> None:
        """Marks readings that this attempt surely did not place; an earlier one may have."""
        for reading in readings:
            reading.row.outcome = UNKNOWN if id(reading) in maybe_landed else FAILED

    def _finish(self, readings: Sequence[Outgoing]) -> None:
        if not readings:
            return
        self._open -= len(readings)
        self._done(readings)
        if not self._open:
            self._idle.set()


def _never_connected(error: EndpointConnectionError | ConnectTimeoutError) -> bool:
    """Whether no connection came about; aiobotocore says the same of one that was reset later."""
    cause = error.kwargs.get("error")
    return isinstance(error, ConnectTimeoutError) or isinstance(
        cause, aiohttp.ClientConnectorError | socket.gaierror
    )


def _preflight(target: Target, stream: str, error: Exception) -> str:
    """Why the stream cannot be sent to, and what to do."""
    where = target.endpoint_url or f"AWS in {target.region}"
    if isinstance(error, ClientError):
        code = str(error.response.get("Error", {}).get("Code"))
        if code == "ResourceNotFoundException":
            return f"stream {stream} is not on {where}: deploy the stack again"
        return f"stream {stream} on {where}: {code}: check the permissions of your credentials"
    if isinstance(error, NoCredentialsError):
        return "no AWS credentials were found: configure a profile or set AWS_ACCESS_KEY_ID"
    if target.name == "local":
        return f"no local cloud answers on {where}: run fleetcast cloud start"
    return f"{where} cannot be reached: {error}"
