"""What all signal models share, and what they are given."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, model_validator

from simulator import noise
from simulator.parameters import NotNegative, fixed

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from simulator.parameters import Parameter
    from simulator.routes import Route

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Finite = Annotated[float, Field(allow_inf_nan=False)]

# What values in a unit can be at all, whoever measures them.
_POSSIBLE: dict[str, tuple[float, float]] = {
    "%": (0.0, 100.0),
    "C": (-273.15, 1e6),
    "K": (0.0, 1e6),
    "deg": (-360.0, 360.0),
}


@dataclass(frozen=True, slots=True)
class Scene:
    """What a signal is set in.

    Attributes:
        time_of_day_s: Seconds of the day at which the run starts, as its devices see it.
        routes: The routes of the class, by name.
    """

    time_of_day_s: float = 0.0
    routes: Mapping[str, Route] = field(default_factory=dict)


class Devices:
    """What is a device's own about a signal, drawn from the seed; arrays over the whole fleet.

    Args:
        seed: The scenario's seed.
        names: What it is for: class and signal name.
        count: Number of devices of the fleet.
        scene: What the signal is set in.
    """

    def __init__(self, seed: int, names: tuple[str, str], count: int, scene: Scene) -> None:
        self.seed = seed
        self.names = names
        self.count = count
        self.scene = scene
        self.stream = noise.purpose(seed, "signal", *names)
        self._known: dict[str, Any] = {}

    def each(self, name: str, make: Callable[[Ints], Floats]) -> Floats:
        """What `make` gives for all device numbers, made once; shape (count,)."""
        known: Floats | None = self._known.get(name)
        if known is None:
            known = self._known[name] = make(np.arange(self.count, dtype=np.int64))
        return known

    def drawn(self, name: str, parameter: Parameter) -> Floats:
        """A parameter of all devices; shape (count,)."""

        def draw(device: Ints) -> Floats:
            stream = noise.purpose(self.seed, "parameter", *self.names, name)
            return parameter.draw(stream, device)

        return self.each(name, draw)


@dataclass(slots=True)
class Readings:
    """Readings of one signal of one class, whose values are asked for. Arrays of shape (n,).

    Attributes:
        device: Device numbers, none twice.
        seq: The readings' numbers within their devices.
        at_s: When they are due, seconds from the run's start.
        state: Arrays over all devices, of shape (devices.count,), kept from block to block.
        devices: What is the devices' own.
        others: Values of the same readings' other signals that this one follows.
        sources: What is the devices' own about those, and their models.
    """

    device: Ints
    seq: Ints
    at_s: Floats
    state: dict[str, Floats]
    devices: Devices
    others: Mapping[str, Floats] = field(default_factory=dict)
    sources: Mapping[str, tuple[Signal, Devices]] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.device)

    def of(self, name: str, parameter: Parameter) -> Any:
        """A parameter: a float, or an array where each device has its own."""
        if parameter.fixed:
            return parameter.numbers[0]
        return self.devices.drawn(name, parameter)[self.device]

    def uniform(self, *more: Any) -> Floats:
        """Uniform numbers in [0, 1), one for each reading; `more` counters give others."""
        return noise.uniform(self.devices.stream, self.device, self.seq, *more)

    def normal(self, *more: Any) -> Floats:
        """Numbers of mean 0 and variance 1, one for each reading; `more` counters give others."""
        return noise.normal(self.devices.stream, self.device, self.seq, *more)

    def place(self) -> Floats:
        """A uniform number in [0, 1) that each device keeps."""
        stream = self.devices.stream
        places = self.devices.each("place", lambda device: noise.uniform(stream, device, -1))
        return places[self.device]


class Range(BaseModel):
    """What values of a signal can plausibly be."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    min: Finite
    max: Finite

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.min >= self.max:
            raise ValueError(f"min {self.min:g} is not below max {self.max:g}")
        return self


class Signal(BaseModel):
    """What all models share.

    Attributes:
        unit: Unit of the value. Units with natural limits (%, C, K, deg) are held to them.
        decimals: Decimals that values are rounded to.
        spread: Each device is off by a constant of its own, up to this much either way.
        plausible: What values can be; a model that leaves it is refused where that can be told.
        clip: Whether values are held within `plausible`, as by a sensor that saturates.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    # Whether a device that boots anew has lost the state.
    volatile: ClassVar[bool] = False

    unit: Annotated[str, Field(max_length=16)] = ""
    decimals: Annotated[int, Field(ge=0, le=6)] = 2
    spread: NotNegative = fixed(0.0)
    plausible: Range | None = None
    clip: bool = False

    def begin(self, devices: Devices) -> dict[str, Floats]:  # noqa: ARG002 - most have none
        """State before the first reading, by name; arrays of shape (devices.count,)."""
        return {}

    def values(self, at: Readings) -> Floats:
        """Values of readings, not rounded; shape (n,)."""
        raise AssertionError(f"{type(self).__name__} gives no values for {len(at)} readings")

    def bounds(self) -> tuple[float, float] | None:
        """What values can be at all, without `spread`; None where that is not known."""
        return None

    def moments(self, devices: Devices, device: Ints) -> tuple[Any, Any] | None:  # noqa: ARG002
        """(mean, standard deviation) of devices over time; None where they are not known."""
        return None

    def needs(self) -> tuple[str, ...]:
        """Names of the signals of the class that this one follows."""
        return ()

    @property
    def limits(self) -> tuple[float, float] | None:
        """What values have to be: as declared, or as the unit says."""
        if self.plausible is not None:
            return self.plausible.min, self.plausible.max
        return _POSSIBLE.get(self.unit)

    @model_validator(mode="after")
    def _plausible(self) -> Self:
        if self.clip and self.plausible is None:
            raise ValueError("clip holds values within plausible: declare plausible, too")
        reach, limits = self.bounds(), self.limits
        if reach is None or limits is None or self.clip:
            return self
        low, high = reach[0] - self.spread.high, reach[1] + self.spread.high
        # A rounded sum may be off in its last digits.
        slack = 1e-9 * max(1.0, abs(limits[0]), abs(limits[1]))
        if low < limits[0] - slack or high > limits[1] + slack:
            raise ValueError(
                f"values can be {low:.6g} to {high:.6g}, and {self.unit or 'they'} can plausibly "
                f"be {limits[0]:g} to {limits[1]:g}: change the numbers, declare plausible, or "
                "clip values to it"
            )
        return self
