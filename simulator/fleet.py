"""The fleet as arrays: which device sends which reading when, and with which values.

Reading k of the fleet is due when the rate's integral reaches k. Devices take turns in an order
drawn from the seed: reading k belongs to device `turn[k mod N]` and is its reading number `k // N`.
A slice of the fleet gives the readings of its devices, the same as in the whole fleet.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, overload

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from simulator import columns, noise
from simulator.faults import pick_devices, refuse_transport
from simulator.faults.at_work import FaultsAtWork
from simulator.faults.base import Draft, among, reason_indexes
from simulator.signals import ClassSignals, Scene

if TYPE_CHECKING:
    from collections.abc import Iterator

    from simulator.scenario import RunInfo, Scenario

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
Bytes = NDArray[np.uint8]
Bools = NDArray[np.bool_]

# Readings that are made at a time: each step has a cost of its own, however few there are.
MAX_BLOCK = 16384
DEVICE_PREFIX = "dev-"
# Names of so many devices are kept (60 MB a million); beyond, they are made when asked for.
MOST_NAMES = 2_000_000


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
        sends: How often each is sent: 0 is never, 2 and more are copies. None: all once.
        delay_s: How much later than due each is released. None: all when they are due.
        partition_key: Each one's partition key. None: the device's name.
        refusal: Why the processor must refuse each, an index into `REASONS`; 0 is not. None: none.
    """

    k: Ints
    device_index: Ints
    seq: Ints
    scheduled_s: Floats
    ts_ms: Ints
    class_index: Bytes
    values: dict[str, Floats]
    fault: Bytes
    sends: NDArray[np.int8] | None = None
    delay_s: Floats | None = None
    partition_key: list[str] | None = None
    refusal: Bytes | None = None

    def __len__(self) -> int:
        return len(self.k)


def _drawn(weights: Sequence[float], uniform: Floats) -> Ints:
    """Numbers of weighted choices; shape of `uniform`."""
    bounds = np.cumsum(weights)
    chosen = np.searchsorted(bounds / bounds[-1], uniform, side="right")
    return np.minimum(chosen, len(bounds) - 1).astype(np.int64)


class DeviceNames(Sequence[str]):
    """Names of devices by number, made when they are asked for: any number takes no memory."""

    def __init__(self, count: int) -> None:
        self._numbers = range(count)

    @overload
    def __getitem__(self, number: int) -> str: ...
    @overload
    def __getitem__(self, number: slice) -> list[str]: ...
    def __getitem__(self, number: int | slice) -> str | list[str]:
        chosen = self._numbers[number]
        if isinstance(chosen, int):
            return f"{DEVICE_PREFIX}{chosen:06d}"
        return [f"{DEVICE_PREFIX}{one:06d}" for one in chosen]

    def __len__(self) -> int:
        return len(self._numbers)


class Fleet:
    """Devices and their readings.

    Args:
        scenario: What they are.
        run: Which run, and which slice of the devices.
        only: Numbers of the devices that it is about, instead of the slice.
        shapes_refused: Whether payloads of a shape of their own are judged as our stack's processor
            judges them; a pipeline that is made for them takes them.

    Attributes:
        class_of: Class numbers by device number, shape (devices,).
        site_of: Site numbers by device number, shape (devices,).
        site_names: Names of the sites.
        templates: Shapes of payloads by class number, of classes that have their own.
        signal_names: Names of all signals, sorted.
        decimals: Decimals by signal name.
        total: Number of readings of the slice in the whole run.
    """

    def __init__(
        self,
        scenario: Scenario,
        run: RunInfo,
        only: Sequence[int] | None = None,
        *,
        shapes_refused: bool = True,
    ) -> None:
        self.scenario = scenario
        self.run = run
        seed, devices = scenario.seed, scenario.fleet.devices
        numbers = np.arange(devices, dtype=np.int64)
        self.profile = scenario.profile
        self.class_of = self._classes(numbers)
        self.site_names, self.site_of = self._sites(numbers)
        self._firmware: dict[int, tuple[list[str], Ints]] = {}
        self.templates = {
            index: kind.template
            for index, kind in enumerate(scenario.fleet.classes)
            if kind.template is not None
        }
        refused = [
            kind.template.reason if shapes_refused and kind.template is not None else ""
            for kind in scenario.fleet.classes
        ]
        self._refused = reason_indexes(refused)
        self.signal_names = sorted({n for c in scenario.fleet.classes for n in c.signals})
        self.decimals = {
            name: max(c.signals[name].decimals for c in scenario.fleet.classes if name in c.signals)
            for name in self.signal_names
        }
        turn = np.argsort(noise.bits(noise.purpose(seed, "turn"), numbers), kind="stable")
        first, last = run.devices_slice
        mine = (turn >= first) & (turn < last) if only is None else np.isin(turn, only)
        self._places: Ints = np.flatnonzero(mine).astype(np.int64)
        self._turn: Ints = turn.astype(np.int64)
        self._place_of = np.argsort(self._turn)
        self.total = self._own_below(self.profile.total)
        refuse_transport(scenario.faults, run.transport)
        self._picked: dict[int, Bools] = {}

    def _classes(self, numbers: Ints) -> Bytes:
        """Class numbers with exact counts and shares, drawn from the seed."""
        seed, kinds = self.scenario.seed, self.scenario.fleet.classes
        drawn = np.argsort(noise.bits(noise.purpose(seed, "class"), numbers), kind="stable")
        rank = np.empty(len(numbers), dtype=np.int64)
        rank[drawn] = numbers
        counted = np.array([kind.count or 0 for kind in kinds], dtype=np.int64)
        shared = np.flatnonzero(counted == 0)
        # Ranks from the top are those of counted classes.
        rest = len(numbers) - int(counted.sum())
        classes = np.searchsorted(rest + np.cumsum(counted), rank, side="right").astype(np.uint8)
        if len(shared):
            bounds = np.cumsum([kinds[index].share or 0.0 for index in shared.tolist()])
            mine = rank < rest
            index = np.searchsorted(bounds, (rank[mine] + 0.5) / rest, side="right")
            classes[mine] = shared[np.minimum(index, len(bounds) - 1)]
        return classes

    def _sites(self, numbers: Ints) -> tuple[Sequence[str], Ints]:
        """(names of the sites, number of each device's)."""
        sites, stream = self.scenario.fleet.sites, noise.purpose(self.scenario.seed, "site")
        if isinstance(sites, int):
            names = [f"site-{number:03d}" for number in range(sites)]
            return names, (noise.bits(stream, numbers) % np.uint64(sites)).astype(np.int64)
        return list(sites), _drawn(list(sites.values()), noise.uniform(stream, numbers))

    @cached_property
    def device_ids(self) -> Sequence[str]:
        """Names by device number."""
        devices = self.scenario.fleet.devices
        if devices > MOST_NAMES:
            return DeviceNames(devices)
        return [f"{DEVICE_PREFIX}{number:06d}" for number in range(devices)]

    @cached_property
    def _names(self) -> pa.Array:
        return pa.array(self.device_ids, columns.STRING)

    def names_of(self, devices: Ints) -> pa.Array:
        """Names of devices by their numbers, strings of shape (n,)."""
        if len(self.device_ids) <= MOST_NAMES:
            return columns.taken(self._names, devices)
        return pa.array([self.device_ids[number] for number in devices.tolist()], columns.STRING)

    def picked(self, index: int) -> Bools:
        """Devices that a fault, by its index, is on; shape (devices,)."""
        known = self._picked.get(index)
        if known is None:
            fault = self.scenario.faults[index]
            kinds = np.array([self.scenario.reaches(fault, c) for c in self.scenario.fleet.classes])
            eligible = np.flatnonzero(kinds[self.class_of]).astype(np.int64)
            devices = self.scenario.fleet.devices
            known = pick_devices(fault, self.scenario.seed, among(fault, eligible), devices)
            self._picked[index] = known
        return known

    def _own_below(self, k: int) -> int:
        """How many readings of the slice have a number below k."""
        rounds, rest = divmod(k, self.scenario.fleet.devices)
        return rounds * len(self._places) + int(np.searchsorted(self._places, rest))

    def devices_in_turn(self, numbers: Ints) -> Ints:
        """Device numbers of the readings with these numbers; shape as given."""
        devices: Ints = self._turn[numbers % self.scenario.fleet.devices]
        return devices

    def turns_of(self, devices: Ints) -> Ints:
        """Which devices are before these in turn: how many; shape as given."""
        turns: Ints = self._place_of[devices]
        return turns

    def due_s(self, numbers: Ints) -> Floats:
        """When readings are due, seconds from the run's start; shape as given."""
        if self.scenario.fleet.spread == "herd":
            numbers = numbers - numbers % self.scenario.fleet.devices
        return self.profile.due_s(numbers)

    def number(self, device: str, seq: int) -> int:
        """The number of a device's reading in the fleet; -1 where there is no such reading."""
        index = self.device_number(device)
        if index < 0 or seq < 0:
            return -1
        k = seq * self.scenario.fleet.devices + int(self._place_of[index])
        return k if k < self.profile.total else -1

    def device_number(self, device: str) -> int:
        """The number of a device; -1 where the fleet has none of this name."""
        digits = device.removeprefix(DEVICE_PREFIX)
        devices = self.scenario.fleet.devices
        index = int(digits) if digits.isdecimal() and digits.isascii() else devices
        return index if index < devices and self.device_ids[index] == device else -1

    def site_name(self, device: int) -> str:
        """The site of a device."""
        return self.site_names[int(self.site_of[device])]

    def firmware_of(self, kind: int) -> tuple[list[str], Ints] | None:
        """(versions, number of each device's) of a class; None where it has none."""
        weights = self.scenario.fleet.classes[kind].firmware
        if weights is None:
            return None
        known = self._firmware.get(kind)
        if known is None:
            name = self.scenario.fleet.classes[kind].name
            stream = noise.purpose(self.scenario.seed, "firmware", name)
            numbers = np.arange(self.scenario.fleet.devices, dtype=np.int64)
            drawn = _drawn(list(weights.values()), noise.uniform(stream, numbers))
            known = self._firmware[kind] = (list(weights), drawn)
        return known

    def firmware(self, device: int) -> str | None:
        """The firmware version of a device; None where its class has none."""
        known = self.firmware_of(int(self.class_of[device]))
        return None if known is None else known[0][int(known[1][device])]

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
        faults = FaultsAtWork(
            self.scenario.faults,
            seed,
            devices,
            self.picked,
            self.scenario.expect.memory_hours * 3600,
        )
        at = 0
        while at < end:
            # State is advanced from the beginning; what comes before `first` is not given out.
            stop = min(at + step, end if at >= first else min(first, end))
            block = self._block(np.arange(at, stop, dtype=np.int64), states, faults)
            if at >= first:
                yield block
            at = stop

    def _block(self, own: Ints, states: list[ClassSignals], faults: FaultsAtWork) -> Block:
        rounds, place = np.divmod(own, len(self._places))
        k = rounds * self.scenario.fleet.devices + self._places[place]
        device = self._turn[self._places[place]]
        at_s = self.due_s(k)
        classes = self.class_of[device]
        for booted, when_s in faults.boots(device, at_s):
            for index, state in enumerate(states):
                chosen = classes[booted] == index
                state.reboot(device[booted[chosen]], when_s[chosen])
        values = {name: np.full(len(own), np.nan) for name in self.signal_names}
        for index, state in enumerate(states):
            chosen = self._of_class(index, classes)
            if len(device[chosen]):
                told = state.values(device[chosen], rounds[chosen], at_s[chosen])
                for name, column in told.items():
                    values[name][chosen] = column
        draft = Draft(device, rounds, at_s, values, self.profile.duration_s)
        refused = self._refused[classes] if self._refused.any() else None
        fault = faults.apply(draft, refused)
        for index, kind in enumerate(self.scenario.fleet.classes):
            chosen = self._of_class(index, classes)
            for name, signal in kind.signals.items():
                values[name][chosen] = np.round(values[name][chosen], signal.decimals)
        # A negative zero would be written as -0.0 and compared with 0.0.
        values = {name: column + 0.0 for name, column in values.items()}
        keys = None
        if draft.key:
            keys = [draft.key.get(i) or self.device_ids[d] for i, d in enumerate(device.tolist())]
        return Block(
            k,
            device,
            rounds,
            at_s,
            self._ts_ms(device, at_s, draft.shift_ms),
            classes,
            values,
            fault,
            draft.sends,
            draft.delay_s,
            keys,
            draft.refusal,
        )

    def _of_class(self, index: int, classes: Bytes) -> NDArray[np.intp] | slice:
        """The places of a class's readings; of the only class there is, all."""
        if len(self.scenario.fleet.classes) == 1:
            return slice(None)
        return np.flatnonzero(classes == index)

    def _ts_ms(self, device: Ints, at_s: Floats, shift_ms: Ints | None) -> Ints:
        """Timestamps, epoch milliseconds; no two of a device are alike, wherever they are moved."""
        since_ms: Ints = np.floor(at_s * 1000 + 1e-6).astype(np.int64)
        if shift_ms is None or not shift_ms.any():
            return self.run.start_ms + since_ms
        moved = np.flatnonzero(shift_ms)
        mine, place = since_ms[moved] + shift_ms[moved], self._place_of[device[moved]]
        # A device's readings are 2 ms apart at least, so that the next millisecond is free.
        for _ in range(2):
            mine += self._is_taken(mine, place)
        since_ms[moved] = mine
        return self.run.start_ms + since_ms

    def _is_taken(self, since_ms: Ints, place: Ints) -> Bools:
        """Whether devices (by their place in the turn) have readings due in these milliseconds."""
        devices = self.scenario.fleet.devices
        low = np.full(len(since_ms), -1, dtype=np.int64)
        high = (self.profile.total - 1 - place) // devices + 1
        # The last reading that is due by then is in [low, high), by halving.
        while (high - low > 1).any():
            middle = (low + high) // 2
            due_ms = np.floor(self.due_s(middle * devices + place) * 1000 + 1e-6)
            by_then = (due_ms <= since_ms) | (middle <= low)
            low, high = np.where(by_then, middle, low), np.where(by_then, high, middle)
        due_ms = np.floor(self.due_s(np.maximum(low, 0) * devices + place) * 1000 + 1e-6)
        taken: Bools = (low >= 0) & (due_ms == since_ms)
        return taken
