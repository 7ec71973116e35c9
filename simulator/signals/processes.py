"""Models with a memory: processes that go on from where a device's last reading left them."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal, Self

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, model_validator

from simulator.parameters import NotNegative, Number, Positive, Span, SpanOrNone, fixed
from simulator.signals.base import Devices, Finite, Floats, Ints, Readings, Signal


class OrnsteinUhlenbeck(Signal):
    """Noise that is pulled back to a mean: `reversion` per second, `sigma` per root second."""

    model: Literal["ornstein_uhlenbeck"]
    mean: Number
    reversion: Positive
    sigma: NotNegative

    def begin(self, devices: Devices) -> dict[str, Floats]:
        """See `Signal`."""
        return {
            "value": devices.drawn("mean", self.mean).copy(),
            "at_s": np.zeros(devices.count),
        }

    def values(self, at: Readings) -> Floats:
        """See `Signal`."""
        reversion, state = at.of("reversion", self.reversion), at.state
        step_s = np.maximum(at.at_s - state["at_s"][at.device], 0.0)
        value = state["value"][at.device]
        pull = np.minimum(reversion * step_s, 1.0) * (at.of("mean", self.mean) - value)
        # A pause longer than the process remembers moves it no further than its own spread.
        kick_s = np.minimum(step_s, 1.0 / reversion)
        value += pull + at.of("sigma", self.sigma) * np.sqrt(kick_s) * at.normal()
        state["value"][at.device] = value
        state["at_s"][at.device] = at.at_s
        return value

    def moments(self, devices: Devices, device: Ints) -> tuple[Any, Any]:
        """See `Signal`."""
        reversion = devices.drawn("reversion", self.reversion)[device]
        sigma = devices.drawn("sigma", self.sigma)[device]
        return devices.drawn("mean", self.mean)[device], sigma / np.sqrt(2 * reversion)


class RandomWalk(Signal):
    """A walk in steps of up to `step`, turned back at the bounds."""

    model: Literal["random_walk"]
    start: Number
    step: Positive
    min: Finite
    max: Finite

    @model_validator(mode="after")
    def _inside(self) -> Self:
        inside = self.min <= self.start.low and self.start.high <= self.max
        if not inside or self.min == self.max:
            raise ValueError("min <= start <= max is needed, with min below max")
        return self

    def begin(self, devices: Devices) -> dict[str, Floats]:
        """See `Signal`."""
        return {"value": devices.drawn("start", self.start).copy()}

    def values(self, at: Readings) -> Floats:
        """See `Signal`."""
        moved: Floats = at.of("step", self.step) * (2 * at.uniform() - 1)
        value = np.clip(at.state["value"][at.device] + moved, self.min, self.max)
        at.state["value"][at.device] = value
        return value

    def bounds(self) -> tuple[float, float]:
        """See `Signal`."""
        return self.min, self.max


class MarkovState(BaseModel):
    """One state of a `markov` signal.

    Attributes:
        value: What is reported in it.
        stay: How long it lasts in the mean.
        next: Which states follow, with their weights.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    value: Finite
    stay: Span
    next: dict[str, Annotated[float, Field(gt=0, allow_inf_nan=False)]]


class Markov(Signal):
    """States that follow one another; at most one change between two readings of a device.

    Attributes:
        states: By name. A device starts in the first of them.
    """

    model: Literal["markov"]
    states: Annotated[dict[str, MarkovState], Field(min_length=2, max_length=64)]
    volatile: ClassVar[bool] = True

    @model_validator(mode="after")
    def _leads_somewhere(self) -> Self:
        for name, state in self.states.items():
            unknown = sorted(state.next.keys() - self.states.keys())
            if unknown:
                raise ValueError(f"states.{name}.next: there is no state {unknown[0]!r}")
        return self

    def begin(self, devices: Devices) -> dict[str, Floats]:
        """See `Signal`."""
        return {"state": np.zeros(devices.count), "at_s": np.zeros(devices.count)}

    def values(self, at: Readings) -> Floats:
        """See `Signal`."""
        names = list(self.states)
        state = at.state["state"][at.device].astype(np.int64)
        step_s = np.maximum(at.at_s - at.state["at_s"][at.device], 0.0)
        leaves, goes = at.uniform(), at.uniform(1)
        after = state.copy()
        for index, told in enumerate(self.states.values()):
            here = state == index
            if not told.next or not here.any():
                continue
            stay_s = at.of(f"{names[index]}.stay", told.stay)
            leaving = here & (leaves < 1.0 - np.exp(-step_s / stay_s))
            weights = np.cumsum(list(told.next.values()))
            which = np.searchsorted(weights / weights[-1], goes[leaving], side="right")
            targets = np.array([names.index(name) for name in told.next])
            after[leaving] = targets[np.minimum(which, len(targets) - 1)]
        at.state["state"][at.device] = after
        at.state["at_s"][at.device] = at.at_s
        values: Floats = np.array([told.value for told in self.states.values()])[after]
        return values

    def bounds(self) -> tuple[float, float]:
        """See `Signal`."""
        values = [state.value for state in self.states.values()]
        return min(values), max(values)


class Counter(Signal):
    """Counts up: `step` with each reading and `rate` per second; a reboot sets it back.

    Attributes:
        jitter: Share by which each increment may be more or less.
        wrap: Where it begins again at 0, as a register of so many bits does.
    """

    model: Literal["counter"]
    start: NotNegative = fixed(0.0)
    step: NotNegative = fixed(0.0)
    rate: NotNegative = fixed(0.0)
    jitter: Annotated[float, Field(ge=0, le=1)] = 0.0
    wrap: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None
    volatile: ClassVar[bool] = True

    @model_validator(mode="after")
    def _moves(self) -> Self:
        if self.step.high == self.rate.high == 0:
            raise ValueError("a counter needs a step for each reading or a rate per second")
        return self

    def begin(self, devices: Devices) -> dict[str, Floats]:
        """See `Signal`."""
        return {
            "value": devices.drawn("start", self.start).copy(),
            "at_s": np.zeros(devices.count),
        }

    def values(self, at: Readings) -> Floats:
        """See `Signal`."""
        step_s = np.maximum(at.at_s - at.state["at_s"][at.device], 0.0)
        more = at.of("step", self.step) + at.of("rate", self.rate) * step_s
        if self.jitter:
            more = more * (1 + self.jitter * (2 * at.uniform() - 1))
        value: Floats = at.state["value"][at.device] + more
        if self.wrap is not None:
            value %= self.wrap
        at.state["value"][at.device] = value
        at.state["at_s"][at.device] = at.at_s
        return value


class Battery(Signal):
    """A charge in per cent that drains over `life`, from a level of each device's own.

    Attributes:
        life: From full to `low`.
        low: Where it is charged again.
        recharge: From `low` to full; 0 is at once, as when a battery is replaced.
    """

    model: Literal["battery"]
    life: Span
    low: Annotated[float, Field(ge=0, lt=100)] = 5.0
    recharge: SpanOrNone = fixed(0.0)

    def values(self, at: Readings) -> Floats:
        """See `Signal`."""
        life_s = at.of("life", self.life)
        if not self.recharge.high:
            used = (at.at_s / life_s + at.place()) % 1.0
            drained: Floats = 100.0 - used * (100.0 - self.low)
            return drained
        charge_s = at.of("recharge", self.recharge)
        cycle_s = life_s + charge_s
        into_s = (at.at_s / cycle_s + at.place()) % 1.0 * cycle_s
        missing = np.where(
            into_s < life_s, into_s / life_s, (cycle_s - into_s) / np.maximum(charge_s, 1e-9)
        )
        values: Floats = 100.0 - missing * (100.0 - self.low)
        return values

    def bounds(self) -> tuple[float, float]:
        """See `Signal`."""
        return self.low, 100.0
