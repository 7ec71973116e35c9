"""How readings leave: the seam, and the transports that fill it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, Self, runtime_checkable

from simulator.batch import Batch

if TYPE_CHECKING:
    from simulator.fleet import Fleet


@dataclass(slots=True)
class Traffic:
    """What a transport has done so far.

    Attributes:
        requests: Requests sent.
        retries: Readings sent again.
        throttled: Records that the target refused because it was too much.
        errors: Requests that were refused as a whole, or got no answer.
        bytes: Bytes of request bodies or files.
        records: Records sent; fewer than readings where readings are aggregated.
        window: Requests that may be on their way at a time.
        last_error: What the target said, or how the last request that failed did.
    """

    requests: int = 0
    retries: int = 0
    throttled: int = 0
    errors: int = 0
    bytes: int = 0
    records: int = 0
    window: int = 0
    last_error: str = ""

    def failed(self, error: Exception) -> None:
        """Counts a request that came to nothing, and keeps why."""
        self.errors += 1
        self.last_error = str(error)


class Transport(Protocol):
    """Sends readings. An async context manager; `done` is told every reading exactly once."""

    traffic: Traffic

    async def __aenter__(self) -> Self:
        """Connects, and makes sure that the target takes readings.

        Raises:
            TargetError: it does not; nothing was sent.
        """

    async def __aexit__(self, *_: object) -> None:
        """Disconnects."""

    def send(self, batch: Batch) -> None:
        """Takes readings; returns at once, however slow the target is."""

    async def drain(self) -> None:
        """Waits until everything that was taken has an outcome."""

    async def abandon(self, grace_s: float) -> None:
        """Ends what is on its way: what was not sent is failed, what may have landed unknown."""

    @property
    def in_flight(self) -> int:
        """Readings in requests that are not answered yet, or waiting to be tried again."""

    @property
    def backlog(self) -> int:
        """Readings that wait for a free request."""


@runtime_checkable
class KnowsFleet(Protocol):
    """A transport whose connections belong to devices."""

    def prepare(self, fleet: Fleet) -> None:
        """Is told whose readings it will take, before it connects."""


@runtime_checkable
class Prepares(Protocol):
    """A transport that can work on readings ahead of the time at which they leave."""

    def ahead(self, batch: Batch) -> None:
        """Is told of readings that it will take later, in parts; works on them in place."""


Done = Callable[[Batch], None]
