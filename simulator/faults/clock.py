"""Faults of time: a reading's timestamp is not when it is sent.

Timestream takes what is no older than its memory store's retention and no more than 15 minutes in
the future; it rejects the rest, and the processor quarantines it.
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

import numpy as np
from pydantic import AfterValidator

from simulator.faults.base import Bools, Draft, Fault, Work, reason_indexes
from simulator.units import PositiveDuration, SignedDuration

FUTURE_S = 15 * 60.0
# Nearer to a limit than this, what comes of a reading depends on the target's own clock.
MARGIN_S = 120.0
REJECTED = "timestream_rejected"


class ClockFault(Fault):
    """A fault that moves timestamps."""

    outcome: ClassVar[str] = (
        "lands with its timestamp; beyond Timestream's limits it is quarantined as "
        "timestream_rejected"
    )

    @property
    def shift_s(self) -> float:
        """How far timestamps are moved."""
        raise AssertionError

    def rejected(self, memory_s: float) -> bool:
        """Whether Timestream rejects readings that are moved so far.

        Args:
            memory_s: Retention of its memory store.
        """
        return self.shift_s < -memory_s or self.shift_s > FUTURE_S

    def apply(self, draft: Draft, chosen: Bools, work: Work) -> None:  # noqa: ARG002
        """See `Fault`."""
        if draft.shift_ms is None:
            draft.shift_ms = np.zeros(len(draft), dtype=np.int64)
        fresh = chosen & (draft.shift_ms == 0)
        draft.shift_ms[fresh] = round(self.shift_s * 1000)

    def judge(self, draft: Draft, chosen: Bools, memory_s: float) -> None:
        """Notes what must be rejected."""
        if draft.shift_ms is None or not self.rejected(memory_s):
            return
        mine = chosen & (draft.shift_ms == round(self.shift_s * 1000))
        draft.refuse(mine, reason_indexes([REJECTED])[0])


class Late(ClockFault):
    """Readings arrive `by` later than they were taken: minutes, or days."""

    kind: Literal["late"]
    of: Literal["devices", "readings"] = "readings"
    by: PositiveDuration

    @property
    def shift_s(self) -> float:
        """See `ClockFault`."""
        return -self.by


def _not_0(value: Any) -> Any:
    if value == 0:
        raise ValueError("an offset of 0 is no fault: write 90s or -90s")
    return value


class ClockSkew(ClockFault):
    """The clocks of devices are off by `offset`; -90s is slow."""

    kind: Literal["clock_skew"]
    offset: Annotated[SignedDuration, AfterValidator(_not_0)]

    @property
    def shift_s(self) -> float:
        """See `ClockFault`."""
        return self.offset
