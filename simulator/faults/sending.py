"""Faults of sending: readings that do not leave, leave twice, late, all at once, or to one shard."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

import numpy as np
from pydantic import Field

from simulator import noise
from simulator.faults.base import Bools, Draft, Fault, Floats, Ints, Work
from simulator.units import Duration, PositiveDuration

_ABSENT = "is never sent, and must be nowhere"
_ONCE = "lands like any other reading"


class Dropout(Fault):
    """Single readings are never sent; their seq is left out."""

    kind: Literal["dropout"]
    of: Literal["devices", "readings"] = "readings"
    reschedules: ClassVar[bool] = True
    outcome: ClassVar[str] = _ABSENT

    def apply(self, draft: Draft, chosen: Bools, work: Work) -> None:  # noqa: ARG002
        """See `Fault`."""
        draft.send(chosen, 0)


class Silence(Dropout):
    """Devices send nothing; they come back with the seq that they would have had."""

    kind: Literal["silence"]  # type: ignore[assignment]
    of: Literal["devices", "readings"] = "devices"


class Reboot(Dropout):
    """Devices are down for the window, then boot: counters and states begin anew.

    The seq goes on: devices keep it where a reboot does not reach, so that it stays the identity
    of a reading.
    """

    kind: Literal["reboot"]  # type: ignore[assignment]
    of: Literal["devices"] = "devices"

    def booted(self, device: Ints, at_s: Floats, work: Work) -> tuple[Bools, Floats]:
        """(which of the picked devices have booted since their last reading, when)."""
        first_s = self.start + self.duration
        every_s = np.inf if self.every is None else self.every
        boots = np.where(at_s >= first_s, np.floor((at_s - first_s) / every_s) + 1, 0.0)
        seen = work.column("boots", 0.0)
        fresh: Bools = boots > seen[device]
        seen[device] = boots
        again_s = 0.0 if self.every is None else np.maximum(boots - 1, 0.0) * self.every
        return fresh, np.full(len(at_s), first_s) + again_s


class Duplicate(Fault):
    """Readings are sent several times."""

    kind: Literal["duplicate"]
    of: Literal["devices", "readings"] = "readings"
    copies: Annotated[int, Field(ge=2, le=100)] = 2
    reschedules: ClassVar[bool] = True
    outcome: ClassVar[str] = "is in the archive as often as it was sent, in the time series once"

    def apply(self, draft: Draft, chosen: Bools, work: Work) -> None:  # noqa: ARG002
        """See `Fault`."""
        draft.send(chosen, self.copies)


class OutOfOrder(Fault):
    """Readings are released up to `by` later than they are due, each by a time of its own."""

    kind: Literal["out_of_order"]
    of: Literal["devices", "readings"] = "readings"
    by: PositiveDuration
    reschedules: ClassVar[bool] = True
    outcome: ClassVar[str] = _ONCE

    def apply(self, draft: Draft, chosen: Bools, work: Work) -> None:
        """See `Fault`."""
        stream = noise.purpose(work.seed, "order", self.name)
        draft.delay(chosen, self.by * noise.uniform(stream, draft.device, draft.seq))


class Burst(Fault):
    """Devices gather readings and release them together, every `hold` and at the window's end."""

    kind: Literal["burst"]
    hold: PositiveDuration
    reschedules: ClassVar[bool] = True
    outcome: ClassVar[str] = _ONCE

    def apply(self, draft: Draft, chosen: Bools, work: Work) -> None:  # noqa: ARG002
        """See `Fault`."""
        _, begun_s = self.window(draft.at_s)
        next_s = begun_s + (np.floor((draft.at_s - begun_s) / self.hold) + 1) * self.hold
        release_s = np.minimum(next_s, begun_s + self.duration)
        draft.delay(chosen, np.maximum(release_s - draft.at_s, 0.0))


class ReconnectStorm(Fault):
    """Devices are cut off for the window, and all come back with what they kept, `over` a short time."""

    kind: Literal["reconnect_storm"]
    over: Duration = 1.0
    reschedules: ClassVar[bool] = True
    outcome: ClassVar[str] = _ONCE

    def apply(self, draft: Draft, chosen: Bools, work: Work) -> None:
        """See `Fault`."""
        _, begun_s = self.window(draft.at_s)
        back_s = self.back_s(work.seed, draft.device, begun_s)
        draft.delay(chosen, np.maximum(back_s - draft.at_s, 0.0))

    def back_s(self, seed: int, device: Ints, begun_s: Floats | float) -> Floats:
        """When devices come back from a window that began then; shape of `device`."""
        stream = noise.purpose(seed, "reconnect", self.name)
        back_s: Floats = begun_s + self.duration + self.over * noise.uniform(stream, device)
        return back_s


class HotKey(Fault):
    """Readings have one partition key, so that one shard gets them all."""

    kind: Literal["hot_key"]
    of: Literal["devices", "readings"] = "readings"
    key: Annotated[str, Field(min_length=1, max_length=256, pattern=r"^[ -~]+$")] = "hot"
    outcome: ClassVar[str] = _ONCE

    def apply(self, draft: Draft, chosen: Bools, work: Work) -> None:  # noqa: ARG002
        """See `Fault`."""
        draft.key |= dict.fromkeys(np.flatnonzero(chosen).tolist(), self.key)
