"""What readings carry beside the standard fields: firmware versions, and payloads of own shapes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from simulator.templates import Told

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from simulator.fleet import Block, Fleet


def with_firmware(text: str, firmware: str | None) -> str:
    """The text of a standard payload with its device's firmware, in the order of the keys."""
    if firmware is None:
        return text
    before, mark, after = text.partition('","run":')
    return f'{before}","firmware":"{firmware}{mark}{after}'


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
