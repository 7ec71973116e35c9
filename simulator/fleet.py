"""The fleet as arrays: which device sends which reading when, and with which values.

Reading k of the fleet is due when the rate's integral reaches k. Devices take turns in an order
drawn from the seed: reading k belongs to device `turn[k mod N]` and is its reading number `k // N`.
A slice of the fleet gives the readings of its devices, the same as in the whole fleet.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from simulator import noise
from simulator.faults import Corrupt, Overheat, pick_devices, pick_readings
from simulator.signals import ClassSignals, Scene

if TYPE_CHECKING:
    from collections.abc import Iterator

    from simulator.scenario import RunInfo, Scenario

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
Bytes = NDArray[np.uint8]

MAX_BLOCK = 8192
DEVICE_PREFIX = "dev-"


@dataclass(frozen=True, slots=True)
class Block:
    """Some readings in the order in which they are due; arrays of shape (n,).

    Attributes:
        k: Numbers of the readings in the fleet, ascending.
        device_index: Device numbers, none twice.
        seq: Numbers of the readings within their devices.
        scheduled_s: When they are due, seconds from the run's start.
        ts_ms: The same as epoch milliseconds, whole; the readings' timestamps.
        class_index: Class numbers.
        values: Signal name to values, rounded; NaN where the device's class has no such signal.
        fault: 0, or 1 + the index in the scenario's faults of the one that is on the reading.
    """

    k: Ints
    device_index: Ints
    seq: Ints
    scheduled_s: Floats
    ts_ms: Ints
    class_index: Bytes
    values: dict[str, Floats]
    fault: Bytes

    def __len__(self) -> int:
        return len(self.k)


class Fleet:
    """Devices and their readings.

    Args:
        scenario: What they are.
        run: Which run, and which slice of the devices.

    Attributes:
        device_ids: Names by device number.
        class_of: Class numbers by device number, shape (devices,).
        site_of: Site numbers by device number, shape (devices,).
        signal_names: Names of all signals, sorted.
        decimals: Decimals by signal name.
        total: Number of readings of the slice in the whole run.
    """

    def __init__(self, scenario: Scenario, run: RunInfo) -> None:
        self.scenario = scenario
        self.run = run
        seed, devices = scenario.seed, scenario.fleet.devices
        numbers = np.arange(devices, dtype=np.int64)
        self.profile = scenario.profile
        self.device_ids = [f"{DEVICE_PREFIX}{number:06d}" for number in range(devices)]
        self.class_of = self._classes(numbers)
        self.site_of: Ints = (
            noise.bits(noise.purpose(seed, "site"), numbers) % np.uint64(scenario.fleet.sites)
        ).astype(np.int64)
        self.signal_names = sorted({n for c in scenario.fleet.classes for n in c.signals})
        self.decimals = {
            name: max(c.signals[name].decimals for c in scenario.fleet.classes if name in c.signals)
            for name in self.signal_names
        }
        turn = np.argsort(noise.bits(noise.purpose(seed, "turn"), numbers), kind="stable")
        first, last = run.devices_slice
        self._places: Ints = np.flatnonzero((turn >= first) & (turn < last)).astype(np.int64)
        self._turn: Ints = turn.astype(np.int64)
        self._place_of = np.argsort(self._turn)
        self.total = self._own_below(self.profile.total)
        self._picked = [
            pick_devices(fault, seed, self._eligible(fault.signal), devices)
            if isinstance(fault, Overheat)
            else None
            for fault in scenario.faults
        ]

    def _classes(self, numbers: Ints) -> Bytes:
        """Class numbers with exact shares, drawn from the seed."""
        seed = self.scenario.seed
        drawn = np.argsort(noise.bits(noise.purpose(seed, "class"), numbers), kind="stable")
        rank = np.empty(len(numbers), dtype=np.int64)
        rank[drawn] = numbers
        bounds = np.cumsum([kind.share for kind in self.scenario.fleet.classes])
        place = (rank + 0.5) / len(numbers)
        index = np.searchsorted(bounds, place, side="right")
        classes: Bytes = np.minimum(index, len(bounds) - 1).astype(np.uint8)
        return classes

    def _eligible(self, signal: str) -> Ints:
        having = [i for i, c in enumerate(self.scenario.fleet.classes) if signal in c.signals]
        return np.flatnonzero(np.isin(self.class_of, having)).astype(np.int64)

    def _own_below(self, k: int) -> int:
        """How many readings of the slice have a number below k."""
        rounds, rest = divmod(k, self.scenario.fleet.devices)
        return rounds * len(self._places) + int(np.searchsorted(self._places, rest))

    def devices_in_turn(self, numbers: Ints) -> Ints:
        """Device numbers of the readings with these numbers; shape as given."""
        devices: Ints = self._turn[numbers % self.scenario.fleet.devices]
        return devices

    def due_s(self, numbers: Ints) -> Floats:
        """When readings are due, seconds from the run's start; shape as given."""
        if self.scenario.fleet.spread == "herd":
            numbers = numbers - numbers % self.scenario.fleet.devices
        return self.profile.due_s(numbers)

    def number(self, device: str, seq: int) -> int:
        """The number of a device's reading in the fleet; -1 where there is no such reading."""
        digits = device.removeprefix(DEVICE_PREFIX)
        devices = self.scenario.fleet.devices
        index = int(digits) if digits.isdecimal() and digits.isascii() else devices
        if index >= devices or self.device_ids[index] != device or seq < 0:
            return -1
        k = seq * devices + int(self._place_of[index])
        return k if k < self.profile.total else -1

    def site_name(self, device: int) -> str:
        """The site of a device."""
        return f"site-{int(self.site_of[device]):03d}"

    def class_name(self, device: int) -> str:
        """The class of a device."""
        return self.scenario.fleet.classes[int(self.class_of[device])].name

    def blocks(
        self, first: int = 0, last: int | None = None, size: int = MAX_BLOCK
    ) -> Iterator[Block]:
        """Readings of the slice, in order.

        Args:
            first: Where to begin, counted among the slice's own readings.
            last: Where to end (not included); the end of the run if not given.
            size: Most readings in a block.
        """
        end = self.total if last is None else min(last, self.total)
        step = max(1, min(size, len(self._places), MAX_BLOCK))
        seed, devices = self.scenario.seed, self.scenario.fleet.devices
        states = [
            ClassSignals(
                kind.name,
                kind.signals,
                seed,
                devices,
                Scene(self.scenario.time_of_day, kind.routes),
            )
            for kind in self.scenario.fleet.classes
        ]
        at = 0
        while at < end:
            # State is advanced from the beginning; what comes before `first` is not given out.
            stop = min(at + step, end if at >= first else min(first, end))
            block = self._block(np.arange(at, stop, dtype=np.int64), states)
            if at >= first:
                yield block
            at = stop

    def _block(self, own: Ints, states: list[ClassSignals]) -> Block:
        rounds, place = np.divmod(own, len(self._places))
        k = rounds * self.scenario.fleet.devices + self._places[place]
        device = self._turn[self._places[place]]
        at_s = self.due_s(k)
        classes = self.class_of[device]
        values = {name: np.full(len(own), np.nan) for name in self.signal_names}
        for index, state in enumerate(states):
            chosen = np.flatnonzero(classes == index)
            if len(chosen):
                told = state.values(device[chosen], rounds[chosen], at_s[chosen])
                for name, column in told.items():
                    values[name][chosen] = column
        fault = self._apply_faults(device, rounds, at_s, values)
        for index, kind in enumerate(self.scenario.fleet.classes):
            chosen = classes == index
            for name, signal in kind.signals.items():
                values[name][chosen] = np.round(values[name][chosen], signal.decimals)
        # A negative zero would be written as -0.0 and compared with 0.0.
        values = {name: column + 0.0 for name, column in values.items()}
        ts_ms = self.run.start_ms + np.floor(at_s * 1000 + 1e-6).astype(np.int64)
        return Block(k, device, rounds, at_s, ts_ms, classes, values, fault)

    def _apply_faults(
        self, device: Ints, seq: Ints, at_s: Floats, values: dict[str, Floats]
    ) -> Bytes:
        """Changes values in place; returns which fault is on each reading."""
        on = np.zeros(len(device), dtype=np.uint8)
        for index, fault in enumerate(self.scenario.faults):
            within = fault.within(at_s)
            if not within.any():
                continue
            picked = self._picked[index]
            if isinstance(fault, Overheat) and picked is not None:
                chosen = within & picked[device]
                values[fault.signal][chosen] += fault.offset
            else:
                chosen = within & pick_readings(fault, self.scenario.seed, device, seq)
            # A corrupt reading stays one, whatever else is on it.
            if isinstance(fault, Corrupt):
                on[chosen] = index + 1
            else:
                on[chosen & (on == 0)] = index + 1
        return on
