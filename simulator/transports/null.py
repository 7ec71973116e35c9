"""A transport to nowhere, to measure everything before it."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Self

from simulator.batch import ACKED
from simulator.transports import Traffic

if TYPE_CHECKING:
    from simulator.batch import Batch
    from simulator.transports import Done


class NullTransport:
    """Acknowledges every reading at once."""

    in_flight = 0
    backlog = 0

    def __init__(self, done: Done) -> None:
        self._done = done
        self.traffic = Traffic()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        """Has nothing to close."""

    def send(self, batch: Batch) -> None:
        """See `Transport`."""
        batch.rows["sent_ns"] = batch.rows["acked_ns"] = time.time_ns()
        batch.rows["attempts"], batch.rows["outcome"] = 1, ACKED
        self.traffic.records += len(batch)
        self._done(batch)

    async def drain(self) -> None:
        """See `Transport`."""

    async def abandon(self, grace_s: float) -> None:
        """See `Transport`."""
