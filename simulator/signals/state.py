"""Signals at work: one of them with its state, and all of a class in the order they need."""

from __future__ import annotations

from graphlib import CycleError, TopologicalSorter
from typing import TYPE_CHECKING, Any

import numpy as np

from simulator import noise
from simulator.signals.base import Devices, Floats, Ints, Readings, Scene, Signal

if TYPE_CHECKING:
    from collections.abc import Mapping


class SignalState:
    """One signal of one class at work.

    Args:
        signal: Its model.
        seed: The scenario's seed.
        names: What its random numbers are for: class and signal name.
        devices: Number of devices of the whole fleet.
        scene: What it is set in.
    """

    def __init__(
        self,
        signal: Any,
        seed: int,
        names: tuple[str, str],
        devices: int,
        scene: Scene | None = None,
    ) -> None:
        self.signal: Signal = signal
        self.devices = Devices(seed, names, devices, scene or Scene())
        self._state: dict[str, Floats] | None = None

    def raw(
        self,
        device: Ints,
        seq: Ints,
        at_s: Floats,
        others: Mapping[str, Floats] | None = None,
        sources: Mapping[str, tuple[Signal, Devices]] | None = None,
    ) -> Floats:
        """Values of a block as the model gives them, shape (n,)."""
        if self._state is None:
            self._state = self.signal.begin(self.devices)
        at = Readings(device, seq, at_s, self._state, self.devices, others or {}, sources or {})
        return self.signal.values(at)

    def worn(self, values: Floats, device: Ints) -> Floats:
        """Values with what is the device's own: its offset, and the sensor's ends."""
        signal = self.signal
        if signal.spread.high:
            values = values + self.devices.each("spread", self._offsets)[device]
        if signal.clip and signal.plausible is not None:
            values = np.clip(values, signal.plausible.min, signal.plausible.max)
        return values

    def values(self, device: Ints, seq: Ints, at_s: Floats) -> Floats:
        """Values of a block, the device's own offset included, not rounded; shape (n,)."""
        return self.worn(self.raw(device, seq, at_s), device)

    def reboot(self, device: Ints, at_s: Floats) -> None:
        """Sets devices back to what they begin with, as of a time, where the model forgets."""
        if not self.signal.volatile or self._state is None:
            return
        fresh = self.signal.begin(self.devices)
        for name, column in self._state.items():
            column[device] = at_s if name == "at_s" else fresh[name][device]

    def _offsets(self, device: Ints) -> Floats:
        devices = self.devices
        stream = noise.purpose(devices.seed, "spread", *devices.names)
        off: Floats = devices.drawn("spread.size", self.signal.spread) * (
            2 * noise.uniform(stream, device) - 1
        )
        return off


class ClassSignals:
    """All signals of a class at work.

    Args:
        name: The class's name.
        signals: Its signals by name.
        seed: The scenario's seed.
        devices: Number of devices of the whole fleet.
        scene: What they are set in.
    """

    def __init__(
        self, name: str, signals: Mapping[str, Any], seed: int, devices: int, scene: Scene
    ) -> None:
        self._states = {
            signal: SignalState(signals[signal], seed, (name, signal), devices, scene)
            for signal in in_order(signals)
        }
        self._sources = {
            signal: (state.signal, state.devices) for signal, state in self._states.items()
        }
        self._followed = {other for signal in signals.values() for other in signal.needs()}

    def values(self, device: Ints, seq: Ints, at_s: Floats) -> dict[str, Floats]:
        """Values of a block by signal, not rounded; shapes (n,)."""
        raw: dict[str, Floats] = {}
        told: dict[str, Floats] = {}
        for name, state in self._states.items():
            values = state.raw(device, seq, at_s, raw, self._sources)
            if name in self._followed:
                raw[name] = values
            told[name] = state.worn(values, device)
        return told

    def reboot(self, device: Ints, at_s: Floats) -> None:
        """Sets devices back to what they begin with, where their signals forget."""
        for state in self._states.values():
            state.reboot(device, at_s)


def in_order(signals: Mapping[str, Signal]) -> list[str]:
    """Names of signals, each after those it follows.

    Raises:
        ValueError: a signal follows one that is not there, or itself by way of others.
    """
    for name, signal in signals.items():
        for other in signal.needs():
            if other not in signals:
                raise ValueError(
                    f"signals.{name}.signal: the class has no signal {other!r} to follow"
                )
    try:
        return list(TopologicalSorter({n: s.needs() for n, s in signals.items()}).static_order())
    except CycleError as error:
        round_ = " -> ".join(error.args[1])
        raise ValueError(f"signals follow one another in a circle: {round_}") from None
