"""How readings leave: the seam, and the transports that fill it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, Self

if TYPE_CHECKING:
    from simulator.ledger import Row


@dataclass(slots=True)
class Outgoing:
    """A reading on its way: its payload, its key, and the ledger row that it becomes."""

    payload: bytes
    key: str
    row: Row


class Transport(Protocol):
    """Sends readings. An async context manager; `done` is told every reading exactly once."""

    async def __aenter__(self) -> Self:
        """Connects, and makes sure that the target takes readings.

        Raises:
            TargetError: it does not; nothing was sent.
        """

    async def __aexit__(self, *_: object) -> None:
        """Disconnects."""

    def send(self, readings: Sequence[Outgoing]) -> None:
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


Done = Callable[[Sequence[Outgoing]], None]
