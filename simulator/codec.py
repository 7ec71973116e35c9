"""Readings as bytes: compact JSON with sorted keys, the signature last, broken where a fault says.

The canonical form of a reading, which is signed, is JSON with sorted keys and no spaces. Keys are
emitted in that order, so the text before the signature is the canonical form but for its brace.
"""

from __future__ import annotations

import base64
import hmac
import json
from typing import TYPE_CHECKING

from simulator.faults import PayloadFault
from simulator.payloads import own_shapes, with_firmware

if TYPE_CHECKING:
    from simulator.fleet import Block, Fleet

VERSION = 1
SIGNATURE_BYTES = 16


class Encoder:
    """Turns blocks of a fleet into payloads.

    Args:
        fleet: Whose readings.
        key: The signing key.
    """

    def __init__(self, fleet: Fleet, key: bytes) -> None:
        self._fleet = fleet
        self._key = key
        run = json.dumps(fleet.run.id)
        self._heads: dict[int, str] = {}
        self._tails: dict[int, str] = {}
        self._run = run
        self._signals = [
            [(f'"{name}":', name) for name in sorted(kind.signals)]
            for kind in fleet.scenario.fleet.classes
        ]

    def encode(self, block: Block) -> list[bytes]:
        """Payloads of a block, in its order."""
        columns = {name: column.tolist() for name, column in block.values.items()}
        devices, seqs = block.device_index.tolist(), block.seq.tolist()
        times, classes = block.ts_ms.tolist(), block.class_index.tolist()
        faults = block.fault.tolist()
        payloads = []
        for index, device in enumerate(devices):
            signals = ",".join(
                [f"{key}{columns[name][index]!r}" for key, name in self._signals[classes[index]]]
            )
            head = self._heads.get(device)
            if head is None:
                head = self._describe(device)
            text = (
                f'{head}{seqs[index]},"signals":{{{signals}}},"site":'
                f'{self._tails[device]}{times[index]},"v":1'
            )
            fault = faults[index]
            if fault:
                spec = self._fleet.scenario.faults[fault - 1]
                if isinstance(spec, PayloadFault):
                    seed = self._fleet.scenario.seed
                    way = spec.ways[int(spec.way(seed, device, seqs[index]))]
                    payloads.append(spec.broken(way, text, self._signed))
                    continue
            payloads.append(self._signed(text))
        for index, payload in own_shapes(self._fleet, block, self._signed):
            payloads[index] = payload
        return payloads

    def _describe(self, device: int) -> str:
        fleet = self._fleet
        head = (
            f'{{"class":"{fleet.class_name(device)}","device":"{fleet.device_ids[device]}",'
            f'"run":{self._run},"seq":'
        )
        head = with_firmware(head, fleet.firmware(device))
        self._heads[device] = head
        self._tails[device] = f'"{fleet.site_name(device)}","ts":'
        return head

    def _signed(self, text: str, key: bytes | None = None) -> bytes:
        digest = hmac.digest(key or self._key, (text + "}").encode(), "sha256")[:SIGNATURE_BYTES]
        signature = base64.urlsafe_b64encode(digest).decode().rstrip("=")
        return f'{text},"sig":"{signature}"}}'.encode()
