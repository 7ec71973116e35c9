"""Signal models: how a value of a device moves. Vectorised, with state as arrays over devices.

A model gives the values of a block of readings in which no device occurs twice. Blocks come in
the order of the schedule, and state is only ever advanced by a device's own readings, so that
values do not depend on how readings are cut into blocks or devices into workers.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from simulator.signals.base import Devices, Range, Readings, Scene, Signal
from simulator.signals.linked import Correlated, Linear
from simulator.signals.plain import ConstantSignal, Normal, Uniform
from simulator.signals.plugin import Plugin, PluginError
from simulator.signals.processes import Battery, Counter, Markov, OrnsteinUhlenbeck, RandomWalk
from simulator.signals.replay import Replay
from simulator.signals.route import RouteSignal
from simulator.signals.state import ClassSignals, SignalState
from simulator.signals.waves import Decay, Diurnal, RampSignal, Sawtooth, Sine, Square

AnySignal = Annotated[
    ConstantSignal
    | Uniform
    | Normal
    | Sine
    | Diurnal
    | OrnsteinUhlenbeck
    | RandomWalk
    | RampSignal
    | Decay
    | Square
    | Sawtooth
    | Markov
    | Counter
    | Battery
    | RouteSignal
    | Correlated
    | Linear
    | Replay
    | Plugin,
    Field(discriminator="model"),
]

__all__ = [
    "AnySignal", "ClassSignals", "Correlated", "Devices", "PluginError", "Range", "Readings",
    "Scene", "Signal", "SignalState",
]  # fmt: skip
