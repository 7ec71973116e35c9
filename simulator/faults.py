"""Faults with ground truth: what goes wrong, where, when, and what should come of it."""

from __future__ import annotations

from typing import Annotated, Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from simulator import noise
from simulator.units import Duration

Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]
Share = Annotated[float, Field(gt=0, le=1)]

# How a corrupt payload is broken, and the reason that the processor must refuse it with.
CORRUPTIONS = {
    "truncated": "not_json",
    "not_an_object": "not_an_object",
    "missing_field": "missing_field",
    "wrong_type": "wrong_type",
    "out_of_range": "out_of_range",
    "bad_signature": "bad_signature",
    "unsupported_version": "unsupported_version",
}
Corruption = Literal[
    "truncated", "not_an_object", "missing_field", "wrong_type", "out_of_range", "bad_signature",
    "unsupported_version",
]  # fmt: skip


class Fault(BaseModel):
    """What all faults share: a name, a window of the run, and a share."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: Annotated[str, Field(pattern=r"^[a-z][a-z0-9-]{0,40}$")]
    share: Share
    start: Duration = 0.0
    duration: Duration
    alarm: str | None = None

    def within(self, at_s: NDArray[np.float64]) -> Bools:
        """Which of these times are in the window [start, start + duration)."""
        return (at_s >= self.start) & (at_s < self.start + self.duration)

    def scaled(self, time: float) -> Fault:
        """The fault with its window stretched."""
        return self.model_copy(
            update={"start": self.start * time, "duration": self.duration * time}
        )


class Overheat(Fault):
    """A share of the devices that have the signal report it `offset` higher."""

    kind: Literal["overheat"]
    signal: str
    offset: Annotated[float, Field(allow_inf_nan=False)]


class Corrupt(Fault):
    """A share of the readings arrives broken, in ways that must be refused and quarantined."""

    kind: Literal["corrupt"]
    kinds: Annotated[list[Corruption], Field(min_length=1)] = list(get_args(Corruption))


AnyFault = Annotated[Overheat | Corrupt, Field(discriminator="kind")]


def pick_devices(fault: Any, seed: int, eligible: Ints, devices: int) -> Bools:
    """Which devices a fault is on: its share of the eligible ones, at least one.

    Returns:
        Booleans of shape (devices,).
    """
    count = max(1, round(fault.share * len(eligible)))
    order = np.argsort(
        noise.bits(noise.purpose(seed, "fault", fault.name), eligible), kind="stable"
    )
    picked = np.zeros(devices, dtype=np.bool_)
    picked[eligible[order[:count]]] = True
    return picked


def pick_readings(fault: Any, seed: int, device: Ints, seq: Ints) -> Bools:
    """Which readings a fault is on, each with the fault's share as its probability."""
    stream = noise.purpose(seed, "fault", fault.name)
    picked: Bools = noise.uniform(stream, device, seq) < fault.share
    return picked


def corruption_of(fault: Corrupt, seed: int, device: int, seq: int) -> Corruption:
    """How one reading is broken."""
    stream = noise.purpose(seed, "corruption", fault.name)
    return fault.kinds[int(noise.bits(stream, device, seq)) % len(fault.kinds)]


def expected_refusal(fault: Any, seed: int, device: int, seq: int) -> str | None:
    """The reason that a reading with this fault is to be refused with; None where it is not."""
    if isinstance(fault, Corrupt):
        return CORRUPTIONS[corruption_of(fault, seed, device, seq)]
    return None
