"""The faults of a scenario at work, block after block, from the first reading of a run on."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from simulator.faults import ClockFault, PayloadFault, Reboot
from simulator.faults.base import Work, pick_readings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from simulator.faults.base import Bools, Bytes, Draft, Fault, Floats, Ints


class FaultsAtWork:
    """Faults with what they remember of devices.

    Args:
        faults: In the scenario's order.
        seed: The scenario's seed.
        devices: Number of devices of the fleet.
        picked: Gives the devices that a fault, by its index, is on; shape (devices,).
        memory_s: Retention of Timestream's memory store.
    """

    def __init__(
        self,
        faults: Sequence[Fault],
        seed: int,
        devices: int,
        picked: Callable[[int], Bools],
        memory_s: float,
    ) -> None:
        self._faults = faults
        self._seed = seed
        self._picked = picked
        self._memory_s = memory_s
        self._works = [Work(seed, devices) for _ in faults]

    def boots(self, device: Ints, at_s: Floats) -> Iterator[tuple[Ints, Floats]]:
        """(places in the block, when they booted) of readings that are the first after a boot."""
        for index, fault in enumerate(self._faults):
            if not isinstance(fault, Reboot) or at_s[-1] < fault.start + fault.duration:
                continue
            mine = np.flatnonzero(self._picked(index)[device])
            fresh, booted_s = fault.booted(device[mine], at_s[mine], self._works[index])
            if fresh.any():
                yield mine[fresh], booted_s[fresh]

    def apply(self, draft: Draft, refused: Bytes | None) -> Bytes:
        """Works on readings, in place.

        Args:
            draft: The readings.
            refused: Why readings are refused as they are, an index into `REASONS`.

        Returns:
            0, or 1 + the index of the fault that is on each reading; a broken payload stays one,
            whatever else is on it.
        """
        on = np.zeros(len(draft), dtype=np.uint8)
        broken = []
        for index, fault in enumerate(self._faults):
            chosen = self._chosen(index, fault, draft)
            if chosen is None:
                continue
            if isinstance(fault, PayloadFault):
                broken.append((index, fault, chosen))
                continue
            fault.apply(draft, chosen, self._works[index])
            if isinstance(fault, ClockFault):
                fault.judge(draft, chosen, self._memory_s)
            on[chosen & (on == 0)] = index + 1
        if refused is not None and refused.any():
            draft.refuse(refused > 0, refused[refused > 0])
        for index, payload_fault, chosen in broken:
            payload_fault.apply(draft, chosen, self._works[index])
            on[chosen] = index + 1
        return on

    def _chosen(self, index: int, fault: Fault, draft: Draft) -> Bools | None:
        within = fault.within(draft.at_s)
        if not within.any():
            return None
        chosen = within & self._picked(index)[draft.device]
        if fault.of == "readings":
            chosen &= pick_readings(fault, self._seed, draft.device, draft.seq)
        return chosen if chosen.any() else None
