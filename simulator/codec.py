"""Readings as bytes: compact JSON with sorted keys, the signature last, broken where a fault says.

The canonical form of a reading, which is signed, is JSON with sorted keys and no spaces. Keys are
emitted in that order, so the text before the signature is the canonical form but for its brace.

Texts are put together in columns, a class at a time: every member's texts for all readings first,
then one join for each reading.
"""

from __future__ import annotations

import json
from itertools import repeat
from typing import TYPE_CHECKING

import numpy as np
import orjson

from simulator.batch import pick
from simulator.faults import PayloadFault
from simulator.payloads import own_shapes, with_firmware
from simulator.signing import Signer

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray

    from simulator.fleet import Block, Fleet

# From here on Python writes a number with an exponent, and orjson otherwise.
_PLAIN = (1e-4, 1e16)
# The beginnings of the payloads of more devices than this would take too much memory.
MAX_HEADS = 200_000


class Encoder:
    """Turns blocks of a fleet into payloads.

    Args:
        fleet: Whose readings.
        key: The signing key; None leaves readings without a signature.
    """

    def __init__(self, fleet: Fleet, key: bytes | None) -> None:
        self._fleet = fleet
        self._signer = None if key is None else Signer(key)
        self._run = json.dumps(fleet.run.id)
        self._labels = [_labels(sorted(k.signals)) for k in fleet.scenario.fleet.classes]
        self._heads = [b""] * len(fleet.device_ids)
        self._sites: dict[int, bytes] = {}

    def encode(self, block: Block) -> list[bytes]:
        """Payloads of a block, in its order."""
        texts = self._texts(block)
        # Without a signature a text is whole; where it is broken, another payload takes its place.
        payloads = self._signer.signed(texts) if self._signer else texts.copy()
        for index in np.flatnonzero(block.fault).tolist():
            spec = self._fleet.scenario.faults[int(block.fault[index]) - 1]
            if isinstance(spec, PayloadFault):
                device, seq = int(block.device_index[index]), int(block.seq[index])
                way = spec.ways[int(spec.way(self._fleet.scenario.seed, device, seq))]
                text = texts[index].decode()
                if self._signer is None:
                    text = text[:-1]
                payloads[index] = spec.broken(way, text, self._signed)
        for index, payload in own_shapes(self._fleet, block, self._signed):
            payloads[index] = payload
        return payloads

    def _texts(self, block: Block) -> list[bytes]:
        """Readings up to their signature; whole, where there is none."""
        kinds = np.flatnonzero(np.bincount(block.class_index, minlength=len(self._labels)))
        if len(kinds) == 1:
            return self._texts_of(block, int(kinds[0]), None)
        texts: list[bytes] = [b""] * len(block)
        for kind in kinds.tolist():
            chosen = np.flatnonzero(block.class_index == kind)
            for place, text in zip(
                chosen.tolist(), self._texts_of(block, kind, chosen), strict=True
            ):
                texts[place] = text
        return texts

    def _texts_of(self, block: Block, kind: int, chosen: NDArray[np.intp] | None) -> list[bytes]:
        """The same of the readings of one class; None chooses all."""
        labels = self._labels[kind]
        places = slice(None) if chosen is None else chosen
        devices = block.device_index[places]
        columns: list[Iterable[bytes]] = [
            self._head_texts(devices),
            _whole(block.seq[places]),
        ]
        for name, label in labels:
            columns += [repeat(label), _decimal(block.values[name][places])]
        columns += [
            self._site_texts(devices),
            _whole(block.ts_ms[places]),
            repeat(b',"v":1' if self._signer else b',"v":1}'),
        ]
        return list(map(b"".join, zip(*columns, strict=False)))

    def _head_texts(self, devices: NDArray[np.int64]) -> list[bytes]:
        """What comes before the seq. It is the same in all readings of a device, and kept."""
        heads: list[bytes] = pick(self._heads, devices)
        if b"" not in heads:
            return heads
        for place, device in enumerate(devices.tolist()):
            if not heads[place]:
                heads[place] = self._head(device)
                if len(self._heads) <= MAX_HEADS:
                    self._heads[device] = heads[place]
        return heads

    def _head(self, device: int) -> bytes:
        fleet = self._fleet
        text = (
            f'{{"class":"{fleet.class_name(device)}","device":"{fleet.device_ids[device]}",'
            f'"run":{self._run},"seq":'
        )
        return with_firmware(text, fleet.firmware(device)).encode()

    def _site_texts(self, devices: NDArray[np.int64]) -> list[bytes]:
        """What comes between the signals and the timestamp."""
        numbers = self._fleet.site_of[devices].tolist()
        try:
            return [self._sites[number] for number in numbers]
        except KeyError:
            for number, device in zip(numbers, devices.tolist(), strict=True):
                if number not in self._sites:
                    text = f'}},"site":"{self._fleet.site_name(device)}","ts":'
                    self._sites[number] = text.encode()
            return [self._sites[number] for number in numbers]

    def _signed(self, text: str, key: bytes | None = None) -> bytes:
        """One reading of an unfinished text, signed with the fleet's key or with another."""
        signer = self._signer if key is None else Signer(key)
        if signer is None:
            return text.encode() + b"}"
        return signer.signed([text.encode()])[0]


def _labels(names: list[str]) -> list[tuple[str, bytes]]:
    """(signal, the text that comes before its value) of the signals of a class."""
    before = [',"signals":{"', *[',"'] * (len(names) - 1)] if names else []
    return [(n, f'{b}{n}":'.encode()) for n, b in zip(names, before, strict=True)]


def _whole(numbers: NDArray[np.int64]) -> list[bytes]:
    """Whole numbers as text."""
    column = np.ascontiguousarray(numbers)
    return orjson.dumps(column, option=orjson.OPT_SERIALIZE_NUMPY)[1:-1].split(b",")


def _decimal(numbers: NDArray[np.float64]) -> list[bytes]:
    """Numbers as text, each the shortest that reads as the same number, as `repr` writes it."""
    column = np.ascontiguousarray(numbers)
    texts = orjson.dumps(column, option=orjson.OPT_SERIALIZE_NUMPY)[1:-1].split(b",")
    size = np.abs(column)
    plain = ((size >= _PLAIN[0]) & (size < _PLAIN[1])) | (size == 0)
    if not plain.all():
        for index in np.flatnonzero(~plain).tolist():
            texts[index] = repr(float(column[index])).encode()
    return texts
