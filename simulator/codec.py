"""Readings as bytes: compact JSON with sorted keys, the signature last, broken where a fault says.

The canonical form of a reading, which is signed, is JSON with sorted keys and no spaces. Keys are
emitted in that order, so the text before the signature is the canonical form but for its brace.

Texts are put together in columns, a class at a time: every member's texts for all readings first,
then one join for each reading.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from simulator import columns, numbers
from simulator.columns import Column
from simulator.faults import PayloadFault
from simulator.numbers import Member
from simulator.payloads import Heads, own_shapes
from simulator.signing import Signer

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from simulator.fleet import Block, Fleet
    from simulator.signals import AnySignal


class Encoder:
    """Turns blocks of a fleet into payloads.

    Args:
        fleet: Whose readings.
        key: The signing key; None leaves readings without a signature.
    """

    def __init__(self, fleet: Fleet, key: bytes | None) -> None:
        self._fleet = fleet
        self._signer = None if key is None else Signer(key)
        classes = fleet.scenario.fleet.classes
        self._members = [_members(kind.signals) for kind in classes]
        self._heads = Heads(fleet)
        self._tail = columns.constant(b',"v":1' if self._signer else b',"v":1}')
        self._sites = pa.array(
            [f'}},"site":"{site}","ts"'.encode() for site in fleet.site_names],
            columns.BINARY,
        )

    def encode(self, block: Block) -> Column[bytes]:
        """Payloads of a block, in its order."""
        texts = self._texts(block)
        # Without a signature a text is whole; where it is broken, another payload takes its place.
        payloads = self._signer.signed(texts) if self._signer else texts
        others: dict[int, bytes] = {}
        for index in np.flatnonzero(block.fault).tolist():
            spec = self._fleet.scenario.faults[int(block.fault[index]) - 1]
            if isinstance(spec, PayloadFault):
                device, seq = int(block.device_index[index]), int(block.seq[index])
                way = spec.ways[int(spec.way(self._fleet.scenario.seed, device, seq))]
                text = texts[index].decode()
                if self._signer is None:
                    text = text[:-1]
                others[index] = spec.broken(way, text, self._signed)
        others.update(own_shapes(self._fleet, block, self._signed))
        return payloads.replaced(others)

    def _texts(self, block: Block) -> Column[bytes]:
        """Readings up to their signature; whole, where there is none."""
        kinds = np.flatnonzero(np.bincount(block.class_index, minlength=len(self._members)))
        if len(kinds) == 1:
            return Column(self._texts_of(block, int(kinds[0]), None))
        chosen = [np.flatnonzero(block.class_index == kind) for kind in kinds.tolist()]
        texts = [
            self._texts_of(block, kind, places)
            for kind, places in zip(kinds.tolist(), chosen, strict=True)
        ]
        order = np.argsort(np.concatenate(chosen))
        return Column(columns.taken(pa.concat_arrays(texts), order))

    def _texts_of(self, block: Block, kind: int, chosen: NDArray[np.intp] | None) -> pa.Array:
        """The same of the readings of one class; None chooses all."""
        places = slice(None) if chosen is None else chosen
        devices = block.device_index[places]
        signals: list[pa.Array | pa.Scalar] = []
        for name, member in self._members[kind].items():
            signals += member.texts(block.values[name][places])
        return columns.side_by_side(
            *self._heads.of(kind, devices),
            numbers.whole(block.seq[places]),
            *signals,
            columns.taken(self._sites, self._fleet.site_of[devices]),
            numbers.whole(block.ts_ms[places]),
            self._tail,
        )

    def _signed(self, text: str, key: bytes | None = None) -> bytes:
        """One reading of an unfinished text, signed with the fleet's key or with another."""
        signer = self._signer if key is None else Signer(key)
        if signer is None:
            return text.encode() + b"}"
        return signer.signed(columns.of_bytes([text.encode()]))[0]


def _members(signals: Mapping[str, AnySignal]) -> dict[str, Member]:
    """The members of the payload that are signals of a class, in their order, by name."""
    names = sorted(signals)
    before = [',"signals":{"', *[',"'] * (len(names) - 1)]
    return {
        name: Member(f'{begin}{name}"'.encode(), signals[name].decimals)
        for name, begin in zip(names, before, strict=False)
    }
