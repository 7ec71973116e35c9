"""What readings carry beside the standard fields: firmware versions, and payloads of own shapes."""

from __future__ import annotations

import json
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from simulator import columns
from simulator.templates import Told

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from numpy.typing import NDArray

    from simulator.fleet import Block, Fleet

# The beginnings of the payloads of more devices than this would take too much memory.
MAX_KEPT = 200_000


class Heads:
    """What stands before the seq in the standard payloads of devices, in the order of the keys.

    Args:
        fleet: Whose devices.
    """

    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet
        self._run = f'","run":{json.dumps(fleet.run.id)},"seq"'

    def of(self, kind: int, devices: NDArray[np.int64]) -> list[pa.Array | pa.Scalar]:
        """The parts that it has in readings of these devices, which are of one class."""
        if len(self._fleet.device_ids) <= MAX_KEPT:
            return [columns.taken(self._kept, self._fleet.turns_of(devices))]
        return self._parts(kind, devices)

    @cached_property
    def _kept(self) -> pa.Array:
        """Those of all devices in turn: what a block has of them is nearly one piece."""
        kinds = range(len(self._fleet.scenario.fleet.classes))
        devices = [np.flatnonzero(self._fleet.class_of == kind) for kind in kinds]
        texts = [
            columns.side_by_side(*self._parts(kind, own))
            for kind, own in zip(kinds, devices, strict=True)
        ]
        turns = self._fleet.turns_of(np.concatenate(devices))
        return columns.taken(pa.concat_arrays(texts), np.argsort(turns))

    def _parts(self, kind: int, devices: NDArray[np.int64]) -> list[pa.Array | pa.Scalar]:
        name = self._fleet.scenario.fleet.classes[kind].name
        before = columns.constant(f'{{"class":"{name}","device":"'.encode())
        names = columns.as_bytes(self._fleet.names_of(devices))
        firmware = self._fleet.firmware_of(kind)
        if firmware is None:
            return [before, names, columns.constant(self._run.encode())]
        versions, drawn = firmware
        texts = [f'","firmware":"{version}{self._run}'.encode() for version in versions]
        return [before, names, columns.taken(pa.array(texts, columns.BINARY), drawn[devices])]


def own_shapes(
    fleet: Fleet, block: Block, sign: Callable[[str], bytes]
) -> Iterator[tuple[int, bytes]]:
    """(place in the block, payload) of readings of classes that have a shape of their own."""
    templates = fleet.templates
    if not templates:
        return
    for index in np.flatnonzero(np.isin(block.class_index, list(templates))).tolist():
        device, kind = int(block.device_index[index]), int(block.class_index[index])
        names: Sequence[str] = fleet.scenario.fleet.classes[kind].signals.keys()  # type: ignore[assignment]
        told = Told(
            fleet.device_ids[device],
            fleet.class_name(device),
            fleet.site_name(device),
            fleet.run.id,
            fleet.firmware(device) or "",
            int(block.seq[index]),
            int(block.ts_ms[index]),
            {name: float(block.values[name][index]) for name in names},
        )
        yield index, templates[kind].payload(told, sign)
