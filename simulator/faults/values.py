"""Faults of sensors: what is reported is not what is."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

import numpy as np
from pydantic import Field

from simulator import noise
from simulator.faults.base import Bools, Draft, Fault, Work

Finite = Annotated[float, Field(allow_inf_nan=False)]
_LANDS = "lands like any other reading, with the value that was reported"


class ValueFault(Fault):
    """A fault on a signal. Signals that follow it go on following what it would be without."""

    outcome: ClassVar[str] = _LANDS
    signal: str

    @property
    def signals(self) -> tuple[str, ...]:
        """See `Fault`."""
        return (self.signal,)

    def apply(self, draft: Draft, chosen: Bools, work: Work) -> None:
        """See `Fault`."""
        values = draft.values[self.signal]
        values[chosen] = self.reported(draft, chosen, work, values[chosen])

    def reported(self, draft: Draft, chosen: Bools, work: Work, values: Any) -> Any:
        """What is reported in place of the chosen readings' values."""
        raise AssertionError((draft, chosen, work, values))


class Overheat(ValueFault):
    """Devices report a signal `offset` higher."""

    kind: Literal["overheat"]
    offset: Finite

    def reported(self, draft: Draft, chosen: Bools, work: Work, values: Any) -> Any:  # noqa: ARG002
        """See `ValueFault`."""
        return values + self.offset


class Drift(ValueFault):
    """Devices report a signal that moves away from the truth by `slope` per second."""

    kind: Literal["drift"]
    slope: Finite

    def reported(self, draft: Draft, chosen: Bools, work: Work, values: Any) -> Any:  # noqa: ARG002
        """See `ValueFault`."""
        at_s = draft.at_s[chosen]
        return values + self.slope * (at_s - self.window(at_s)[1])


class Stuck(ValueFault):
    """Devices report the same value again and again: the first of the window, or `value`."""

    kind: Literal["stuck"]
    value: Finite | None = None

    def reported(self, draft: Draft, chosen: Bools, work: Work, values: Any) -> Any:
        """See `ValueFault`."""
        if self.value is not None:
            return np.full_like(values, self.value)
        device = draft.device[chosen]
        held, since = work.column("held", np.nan), work.column("since", -1.0)
        window, _ = self.window(draft.at_s[chosen])
        fresh = since[device] != window
        held[device[fresh]] = values[fresh]
        since[device] = window
        return held[device]


class SpikeFault(ValueFault):
    """Single readings report a signal far off, by `height` upwards, downwards or either way."""

    kind: Literal["spike"]
    of: Literal["devices", "readings"] = "readings"
    height: Annotated[float, Field(gt=0, allow_inf_nan=False)]
    direction: Literal["up", "down", "both"] = "both"

    def reported(self, draft: Draft, chosen: Bools, work: Work, values: Any) -> Any:
        """See `ValueFault`."""
        if self.direction != "both":
            return values + (self.height if self.direction == "up" else -self.height)
        stream = noise.purpose(work.seed, "spike", self.name)
        up = noise.uniform(stream, draft.device[chosen], draft.seq[chosen]) < 0.5  # noqa: PLR2004
        return values + np.where(up, self.height, -self.height)


class NoiseFault(ValueFault):
    """Devices report a signal with normal noise of `sigma` on top."""

    kind: Literal["noise"]
    sigma: Annotated[float, Field(gt=0, allow_inf_nan=False)]

    def reported(self, draft: Draft, chosen: Bools, work: Work, values: Any) -> Any:
        """See `ValueFault`."""
        stream = noise.purpose(work.seed, "noise", self.name)
        return values + self.sigma * noise.normal(stream, draft.device[chosen], draft.seq[chosen])


class BatteryLow(ValueFault):
    """Devices report a charge of `level` at most."""

    kind: Literal["battery_low"]
    signal: str = "battery"
    level: Annotated[float, Field(ge=0, le=100)] = 3.0

    def reported(self, draft: Draft, chosen: Bools, work: Work, values: Any) -> Any:  # noqa: ARG002
        """See `ValueFault`."""
        return np.minimum(values, self.level)
