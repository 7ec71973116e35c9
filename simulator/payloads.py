"""What readings carry beside the standard fields: firmware versions, and payloads of own shapes."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from simulator import columns
from simulator.templates import Told

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from numpy.typing import NDArray

    from simulator.fleet import Block, Fleet


class Heads:
    """What stands before the seq in the standard payloads of a class, in the order of the keys.

    Args:
        fleet: Whose class.
        kind: Its number.
    """

    def __init__(self, fleet: Fleet, kind: int) -> None:
        name, run = fleet.scenario.fleet.classes[kind].name, json.dumps(fleet.run.id)
        self._fleet = fleet
        self._before = columns.constant(f'{{"class":"{name}","device":"'.encode())
        self._after = columns.constant(f'","run":{run},"seq"'.encode())
        self._drawn = fleet.firmware_of(kind)
        versions = [] if self._drawn is None else self._drawn[0]
        self._versions = pa.array(
            [f'","firmware":"{version}","run":{run},"seq"'.encode() for version in versions],
            columns.BINARY,
        )

    def of(self, devices: NDArray[np.int64]) -> list[pa.Array | pa.Scalar]:
        """The parts of it that readings of these devices have."""
        names = columns.as_bytes(self._fleet.names_of(devices))
        if self._drawn is None:
            return [self._before, names, self._after]
        return [self._before, names, columns.taken(self._versions, self._drawn[1][devices])]


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
