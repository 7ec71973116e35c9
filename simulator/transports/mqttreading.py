"""Readings one by one, as a connection takes them, and together again, as the ledger does."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from simulator.batch import ACKED, FAILED, UNKNOWN, Batch

if TYPE_CHECKING:
    from collections.abc import Iterable


@dataclass(slots=True, eq=False)
class Reading:
    """One reading, and what became of it; its batch does not change meanwhile.

    Attributes:
        batch: Where it is from.
        place: Its place in that.
        topic: Where it is published.
        sent_ns: When it was first published, epoch nanoseconds; 0 is never.
        acked_ns: When it was acknowledged; 0 is never.
        begun_s: When it was last published, on the monotonic clock.
        attempts: How often it was published.
        outcome: As in `ROW`.
        maybe: Whether it may have landed without an acknowledgement.
    """

    batch: Batch
    place: int
    topic: str
    sent_ns: int = 0
    acked_ns: int = 0
    begun_s: float = 0.0
    attempts: int = 0
    outcome: int = UNKNOWN
    maybe: bool = False

    @property
    def payload(self) -> bytes:
        """What is published."""
        return self.batch.payloads[self.place]

    def acknowledged(self, now_ns: int) -> None:
        """It has landed."""
        self.acked_ns, self.outcome = now_ns, ACKED

    def given_up(self) -> None:
        """It is published no more."""
        self.outcome = UNKNOWN if self.maybe else FAILED


def together(readings: Iterable[Reading]) -> Batch:
    """Readings as one batch: those of a batch stand together, in the order that was given."""
    of_batch: dict[Batch, list[Reading]] = {}
    for reading in readings:
        of_batch.setdefault(reading.batch, []).append(reading)
    whole = Batch.joined([
        batch.take(np.array([one.place for one in some], dtype=np.intp))
        for batch, some in of_batch.items()
    ])  # fmt: skip
    ordered = [one for some in of_batch.values() for one in some]
    rows = whole.rows
    rows["sent_ns"] = [one.sent_ns for one in ordered]
    rows["acked_ns"] = [one.acked_ns for one in ordered]
    rows["attempts"] = [one.attempts for one in ordered]
    rows["outcome"] = [one.outcome for one in ordered]
    rows["maybe"] = [one.maybe for one in ordered]
    return whole
