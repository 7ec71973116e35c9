"""Signal models: how a value of a device moves. Vectorised, with state as arrays over devices.

A model gives the values of a block of readings in which no device occurs twice. Blocks come in
the order of the schedule, and state is only ever advanced by a device's own readings, so that
values do not depend on how readings are cut into blocks or devices into workers.
"""

from __future__ import annotations

import math
from typing import Annotated, Any, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, model_validator

from simulator import noise
from simulator.units import Duration

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Finite = Annotated[float, Field(allow_inf_nan=False)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NotNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class Signal(BaseModel):
    """What all models share.

    Attributes:
        unit: Unit of the value, for people.
        decimals: Decimals that values are rounded to.
        spread: Each device is off by a constant of its own, up to this much either way.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    unit: str = ""
    decimals: Annotated[int, Field(ge=0, le=6)] = 2
    spread: NotNegative = 0.0

    def begin(self, _devices: int) -> dict[str, Floats]:
        """State before the first reading, by name; arrays of shape (devices,)."""
        return {}

    def values(
        self,
        stream: np.uint64,
        state: dict[str, Floats],
        device: Ints,
        seq: Ints,
        at_s: Floats,
    ) -> Floats:
        """Values of a block, not rounded.

        Args:
            stream: Random numbers of this signal.
            state: What `begin` gave; changed in place.
            device: Device numbers, shape (n,), none twice.
            seq: Their readings' numbers, shape (n,).
            at_s: When they are due, seconds from the start, shape (n,).
        """
        raise AssertionError(f"{type(self).__name__} gives no values")


class ConstantSignal(Signal):
    """Always the same."""

    model: Literal["constant"]
    value: Finite

    def values(
        self, stream: np.uint64, state: dict[str, Floats], device: Ints, seq: Ints, at_s: Floats
    ) -> Floats:
        """See `Signal`."""
        return np.full(len(device), self.value)


class Uniform(Signal):
    """Anything between two bounds, each reading anew."""

    model: Literal["uniform"]
    low: Finite
    high: Finite

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.low > self.high:
            raise ValueError(f"low {self.low} is above high {self.high}")
        return self

    def values(
        self, stream: np.uint64, state: dict[str, Floats], device: Ints, seq: Ints, at_s: Floats
    ) -> Floats:
        """See `Signal`."""
        return self.low + (self.high - self.low) * noise.uniform(stream, device, seq)


class Normal(Signal):
    """Normal noise around a mean."""

    model: Literal["normal"]
    mean: Finite
    sigma: NotNegative

    def values(
        self, stream: np.uint64, state: dict[str, Floats], device: Ints, seq: Ints, at_s: Floats
    ) -> Floats:
        """See `Signal`."""
        return self.mean + self.sigma * noise.normal(stream, device, seq)


class Sine(Signal):
    """A sine over time, each device with a phase of its own; noise on top. Diurnal with 24h."""

    model: Literal["sine"]
    mean: Finite
    amplitude: Finite
    period: Duration
    sigma: NotNegative = 0.0

    @model_validator(mode="after")
    def _turns(self) -> Self:
        if self.period <= 0:
            raise ValueError("period must be more than 0")
        return self

    def values(
        self, stream: np.uint64, state: dict[str, Floats], device: Ints, seq: Ints, at_s: Floats
    ) -> Floats:
        """See `Signal`."""
        phase = noise.uniform(stream, device, -1)
        wave = np.sin((at_s / self.period + phase) * (2 * math.pi))
        return self.mean + self.amplitude * wave + self.sigma * noise.normal(stream, device, seq)


class OrnsteinUhlenbeck(Signal):
    """Noise that is pulled back to a mean: `reversion` per second, `sigma` per root second."""

    model: Literal["ornstein_uhlenbeck"]
    mean: Finite
    reversion: Positive
    sigma: NotNegative

    def begin(self, devices: int) -> dict[str, Floats]:
        """See `Signal`."""
        return {"value": np.full(devices, self.mean), "at_s": np.zeros(devices)}

    def values(
        self, stream: np.uint64, state: dict[str, Floats], device: Ints, seq: Ints, at_s: Floats
    ) -> Floats:
        """See `Signal`."""
        step_s = np.maximum(at_s - state["at_s"][device], 0.0)
        value = state["value"][device]
        pull = np.minimum(self.reversion * step_s, 1.0) * (self.mean - value)
        # A pause longer than the process remembers moves it no further than its own spread.
        kick_s = np.minimum(step_s, 1.0 / self.reversion)
        value = value + pull + self.sigma * np.sqrt(kick_s) * noise.normal(stream, device, seq)
        state["value"][device] = value
        state["at_s"][device] = at_s
        return value


class RandomWalk(Signal):
    """A walk in steps of up to `step`, turned back at the bounds."""

    model: Literal["random_walk"]
    start: Finite
    step: Positive
    min: Finite
    max: Finite

    @model_validator(mode="after")
    def _inside(self) -> Self:
        if not self.min <= self.start <= self.max or self.min == self.max:
            raise ValueError("min <= start <= max is needed, with min below max")
        return self

    def begin(self, devices: int) -> dict[str, Floats]:
        """See `Signal`."""
        return {"value": np.full(devices, self.start)}

    def values(
        self, stream: np.uint64, state: dict[str, Floats], device: Ints, seq: Ints, at_s: Floats
    ) -> Floats:
        """See `Signal`."""
        moved = self.step * (2 * noise.uniform(stream, device, seq) - 1)
        value = np.clip(state["value"][device] + moved, self.min, self.max)
        state["value"][device] = value
        return value


class RampSignal(Signal):
    """A straight line over time, within bounds."""

    model: Literal["ramp"]
    start: Finite
    slope: Finite
    min: Finite = -1e12
    max: Finite = 1e12

    def values(
        self, stream: np.uint64, state: dict[str, Floats], device: Ints, seq: Ints, at_s: Floats
    ) -> Floats:
        """See `Signal`."""
        return np.clip(self.start + self.slope * at_s, self.min, self.max)


class Battery(Signal):
    """A charge in per cent that drains over `life`, from a level of each device's own.

    At `low` it is charged to full.
    """

    model: Literal["battery"]
    life: Duration
    low: Annotated[float, Field(ge=0, lt=100)] = 5.0

    @model_validator(mode="after")
    def _lasts(self) -> Self:
        if self.life <= 0:
            raise ValueError("life must be more than 0")
        return self

    def values(
        self, stream: np.uint64, state: dict[str, Floats], device: Ints, seq: Ints, at_s: Floats
    ) -> Floats:
        """See `Signal`."""
        used = (at_s / self.life + noise.uniform(stream, device, -1)) % 1.0
        return 100.0 - used * (100.0 - self.low)


AnySignal = Annotated[
    ConstantSignal
    | Uniform
    | Normal
    | Sine
    | OrnsteinUhlenbeck
    | RandomWalk
    | RampSignal
    | Battery,
    Field(discriminator="model"),
]


class SignalState:
    """One signal of one class at work.

    Args:
        signal: Its model.
        seed: The scenario's seed.
        names: What its random numbers are for: class and signal name.
        devices: Number of devices of the whole fleet.
    """

    def __init__(self, signal: Any, seed: int, names: tuple[str, str], devices: int) -> None:
        self._signal: Signal = signal
        self._stream = noise.purpose(seed, "signal", *names)
        self._spread = noise.purpose(seed, "spread", *names)
        self._state = signal.begin(devices)

    def values(self, device: Ints, seq: Ints, at_s: Floats) -> Floats:
        """Values of a block, the device's own offset included, not rounded."""
        values = self._signal.values(self._stream, self._state, device, seq, at_s)
        if self._signal.spread:
            off = self._signal.spread * (2 * noise.uniform(self._spread, device) - 1)
            values = values + off
        return values
