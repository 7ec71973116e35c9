"""What all faults share: a name, windows of the run, and whom or what they are on."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from simulator import noise
from simulator.units import Duration, PositiveDuration

if TYPE_CHECKING:
    from collections.abc import Sequence

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
Bytes = NDArray[np.uint8]
Share = Annotated[float, Field(gt=0, le=1)]
_RANGE = re.compile(r"^(?:dev-)?(\d{1,8})(?:\s*-\s*(?:dev-)?(\d{1,8}))?$")


@dataclass(slots=True)
class Draft:
    """Readings of a block while faults work on them; arrays of shape (n,).

    Attributes:
        device: Device numbers, none twice.
        seq: The readings' numbers within their devices.
        at_s: When they are due, seconds from the run's start.
        values: Signal name to values; NaN where a device has no such signal.
        end_s: When the run ends; nothing is released later.
        sends: How often each is sent.
        delay_s: How much later than due each is released.
        shift_ms: How far each timestamp is off; None where none is.
        key: Partition keys of those that have one of their own, by index.
        refusal: Why the processor must refuse each, an index into `REASONS`.
    """

    device: Ints
    seq: Ints
    at_s: Floats
    values: dict[str, Floats]
    end_s: float
    sends: NDArray[np.int8] | None = None
    delay_s: Floats | None = None
    shift_ms: Ints | None = None
    key: dict[int, str] = field(default_factory=dict)
    refusal: NDArray[np.uint8] | None = None

    def __len__(self) -> int:
        return len(self.device)

    def send(self, chosen: Bools, times: int) -> None:
        """Sets how often readings are sent; what is not sent stays so."""
        if self.sends is None:
            self.sends = np.ones(len(self), dtype=np.int8)
        self.sends[chosen & (self.sends > 0)] = times

    def delay(self, chosen: Bools, delay_s: Floats) -> None:
        """Holds readings back by as much each, never beyond the end of the run."""
        if self.delay_s is None:
            self.delay_s = np.zeros(len(self))
        most = np.maximum(self.end_s - self.at_s, 0.0)
        longer = np.minimum(np.maximum(self.delay_s, delay_s), most)
        self.delay_s[chosen] = longer[chosen]

    def refuse(self, chosen: Bools, reasons: Any) -> None:
        """Says why readings must be refused; the last that says so is the first to be checked."""
        if self.refusal is None:
            self.refusal = np.zeros(len(self), dtype=np.uint8)
        self.refusal[chosen] = reasons


# Every reason that the processor refuses with, in the order of its checks.
REASONS = [
    "", "not_json", "not_an_object", "missing_field", "wrong_type", "bad_signature",
    "unsupported_version", "out_of_range", "timestream_rejected",
]  # fmt: skip


@dataclass(slots=True)
class Work:
    """A fault at work, over the blocks of a run.

    Attributes:
        seed: The scenario's seed.
        devices: Number of devices of the fleet.
        state: Arrays over all devices, kept from block to block.
    """

    seed: int
    devices: int
    state: dict[str, Any] = field(default_factory=dict)

    def column(self, name: str, start: float) -> Any:
        """An array of the state, of shape (devices,), made when it is first asked for."""
        if name not in self.state:
            self.state[name] = np.full(self.devices, start)
        return self.state[name]


class Fault(BaseModel):
    """What all faults share.

    Attributes:
        share: Of the devices, or of the readings; all that are chosen otherwise, if not given.
        classes: Only devices of these classes.
        devices: Only these devices: numbers, names, or ranges such as `10-19`.
        of: Whether `share` is of devices or of readings.
        start: When the window begins.
        duration: How long it lasts.
        every: When the window comes again, from start to start.
        alarm: The alarm that it must raise.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    # Whether readings are left out, sent more than once, or released at another time than due.
    reschedules: ClassVar[bool] = False
    # What comes of readings with the fault, for people.
    outcome: ClassVar[str] = ""

    name: Annotated[str, Field(pattern=r"^[a-z][a-z0-9-]{0,40}$")]
    kind: str
    share: Share | None = None
    classes: Annotated[list[str], Field(min_length=1)] | None = None
    devices: Annotated[list[int | str], Field(min_length=1, max_length=10_000)] | None = None
    of: Literal["devices", "readings"] = "devices"
    start: Duration = 0.0
    duration: PositiveDuration
    every: PositiveDuration | None = None
    alarm: str | None = None

    @field_validator("devices")
    @classmethod
    def _named(cls, value: list[int | str] | None) -> list[int | str] | None:
        for one in value or ():
            first, last = device_range(one)
            if first > last:
                raise ValueError(f"{one!r} ends before it begins")
        return value

    @model_validator(mode="after")
    def _chosen(self) -> Self:
        if self.share is None and self.classes is None and self.devices is None:
            raise ValueError("share: is missing: give a share, classes or devices")
        if self.every is not None and self.every <= self.duration:
            raise ValueError("every: must be more than the duration of the window")
        return self

    @property
    def part(self) -> float:
        """The share that it is on."""
        return 1.0 if self.share is None else self.share

    @property
    def end_s(self) -> float:
        """When its last window ends, seconds from the start; infinity where it comes again."""
        return float("inf") if self.every is not None else self.start + self.duration

    @property
    def signals(self) -> tuple[str, ...]:
        """Names of the signals that it is on."""
        return ()

    def within(self, at_s: Floats) -> Bools:
        """Which of these times are in a window."""
        into_s = at_s - self.start
        if self.every is not None:
            into_s = np.where(into_s >= 0, into_s % self.every, into_s)
        within: Bools = (into_s >= 0) & (into_s < self.duration)
        return within

    def window(self, at_s: Floats) -> tuple[Ints, Floats]:
        """(number of the window, when it began) of times from the start on; shapes (n,)."""
        if self.every is None:
            return np.zeros(len(at_s), dtype=np.int64), np.full(len(at_s), self.start)
        number = np.floor((at_s - self.start) / self.every)
        return number.astype(np.int64), self.start + number * self.every

    def scaled(self, time: float) -> Self:
        """The fault with its windows stretched."""
        every = None if self.every is None else self.every * time
        return self.model_copy(
            update={"start": self.start * time, "duration": self.duration * time, "every": every}
        )

    def apply(self, draft: Draft, chosen: Bools, work: Work) -> None:
        """Does what the fault does to the chosen readings."""
        raise AssertionError((self.kind, draft, chosen, work))


def device_range(one: int | str) -> tuple[int, int]:
    """(first, last) device numbers of a number, a name or a range.

    Raises:
        ValueError: it is none of these.
    """
    if isinstance(one, int):
        if one < 0:
            raise ValueError(f"{one!r} is no device: numbers begin at 0")
        return one, one
    match = _RANGE.match(one)
    if match is None:
        raise ValueError(f"{one!r} is no device: write 7, dev-000007 or 10-19")
    first = int(match[1])
    return first, first if match[2] is None else int(match[2])


def among(fault: Fault, eligible: Ints) -> Ints:
    """The eligible devices that the fault's list leaves."""
    if fault.devices is None:
        return eligible
    listed = np.zeros(len(eligible), dtype=np.bool_)
    for one in fault.devices:
        first, last = device_range(one)
        listed |= (eligible >= first) & (eligible <= last)
    return eligible[listed]


def pick_devices(fault: Fault, seed: int, eligible: Ints, devices: int) -> Bools:
    """Which devices a fault is on: its share of the eligible ones, at least one.

    Returns:
        Booleans of shape (devices,).
    """
    picked = np.zeros(devices, dtype=np.bool_)
    if fault.of == "readings" or fault.part >= 1:
        picked[eligible] = True
        return picked
    count = max(1, round(fault.part * len(eligible)))
    order = np.argsort(
        noise.bits(noise.purpose(seed, "fault", fault.name), eligible), kind="stable"
    )
    picked[eligible[order[:count]]] = True
    return picked


def pick_readings(fault: Fault, seed: int, device: Ints, seq: Ints) -> Bools:
    """Which readings a fault is on, each with the fault's share as its probability."""
    if fault.of == "devices" or fault.part >= 1:
        return np.ones(len(device), dtype=np.bool_)
    stream = noise.purpose(seed, "fault", fault.name)
    picked: Bools = noise.uniform(stream, device, seq) < fault.part
    return picked


def reason_indexes(reasons: Sequence[str]) -> NDArray[np.uint8]:
    """Reasons as indexes into `REASONS`."""
    return np.array([REASONS.index(reason) for reason in reasons], dtype=np.uint8)
