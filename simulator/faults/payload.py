"""Faults of payloads: what the processor must refuse, each for a reason that is known beforehand.

A broken payload has no line break, and none is the same twice: it is found again by its bytes.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from typing import Annotated, Any, ClassVar, Literal, get_args

from pydantic import Field

from simulator import noise
from simulator.faults.base import Bools, Draft, Fault, Work, reason_indexes

# Signs an unfinished text (without its closing brace) with the fleet's key, or with another.
Sign = Callable[[str, bytes | None], bytes]

# How a corrupt payload is broken, and the reason that the processor must refuse it with.
CORRUPTIONS = {
    "truncated": "not_json",
    "not_an_object": "not_an_object",
    "missing_field": "missing_field",
    "wrong_type": "wrong_type",
    "out_of_range": "out_of_range",
    "bad_signature": "bad_signature",
    "unsupported_version": "unsupported_version",
    "not_utf8": "not_json",
    "not_a_number": "not_json",
    "missing_signature": "missing_field",
}
Corruption = Literal[
    "truncated", "not_an_object", "missing_field", "wrong_type", "out_of_range", "bad_signature",
    "unsupported_version", "not_utf8", "not_a_number", "missing_signature",
]  # fmt: skip
WrongField = Literal["device", "seq", "signal", "signals", "site", "ts"]
FORGED_KEY = b"a key that the stack has never seen"
VERSION = 1


class PayloadFault(Fault):
    """Readings arrive broken."""

    outcome: ClassVar[str] = "is refused and quarantined with its reason, and is in the archive"
    of: Literal["devices", "readings"] = "readings"

    @property
    def ways(self) -> list[str]:
        """How payloads can be broken; one of them is drawn for each."""
        raise AssertionError

    def reason(self, way: str) -> str:
        """The reason that a payload broken in this way is refused with."""
        raise AssertionError(way)

    def broken(self, way: str, text: str, sign: Sign) -> bytes:
        """A broken payload.

        Args:
            way: How.
            text: The sound one, without closing brace and signature.
            sign: Signs a text.
        """
        raise AssertionError((way, text, sign))

    def way(self, seed: int, device: Any, seq: Any) -> Any:
        """Which way a reading is broken, an index into `ways`; integers or arrays."""
        stream = noise.purpose(seed, "corruption", self.name)
        return noise.bits(stream, device, seq) % noise.U64(len(self.ways))

    def apply(self, draft: Draft, chosen: Bools, work: Work) -> None:
        """See `Fault`."""
        reasons = reason_indexes([self.reason(way) for way in self.ways])
        ways = self.way(work.seed, draft.device[chosen], draft.seq[chosen])
        draft.refuse(chosen, reasons[ways.astype("int64")])


class Corrupt(PayloadFault):
    """Readings arrive broken, in ways that must be refused and quarantined."""

    kind: Literal["corrupt"]
    kinds: Annotated[list[Corruption], Field(min_length=1)] = Field(
        default_factory=lambda: list(get_args(Corruption))
    )

    @property
    def ways(self) -> list[str]:
        """See `PayloadFault`."""
        return list(self.kinds)

    def reason(self, way: str) -> str:
        """See `PayloadFault`."""
        return CORRUPTIONS[way]

    def broken(self, way: str, text: str, sign: Sign) -> bytes:
        """See `PayloadFault`."""
        match way:
            case "truncated":
                whole = sign(text, None)
                # At least a device and a number are left, so that no two are alike.
                return whole[: math.ceil(len(whole) * 0.7)]
            case "not_an_object":
                return b"[" + sign(text, None) + b"]"
            case "bad_signature":
                whole = sign(text, None)
                swapped = b"B" if whole[-5:-4] == b"A" else b"A"
                return whole[:-5] + swapped + whole[-4:]
            case "not_utf8":
                whole = sign(text, None)
                return whole[:2] + b"\xff" + whole[2:]
            case "not_a_number":
                before, mark, after = text.partition('"signals":{')
                name, _, rest = after.partition(":")
                end = min(at for at in (rest.find(","), rest.find("}")) if at >= 0)
                return sign(f"{before}{mark}{name}:NaN{rest[end:]}", None)
            case "missing_signature":
                return (text + "}").encode()
        reading = json.loads(text + "}")
        if way == "missing_field":
            del reading["site"]
        elif way == "wrong_type":
            reading["seq"] = str(reading["seq"])
        elif way == "out_of_range":
            reading["seq"] = -1 - reading["seq"]
        else:
            reading["v"] = VERSION + 8
        return sign(unfinished(reading), None)


class WrongType(PayloadFault):
    """Readings arrive with a field of another type, correctly signed."""

    kind: Literal["wrong_type"]
    fields: Annotated[list[WrongField], Field(min_length=1)] = Field(
        default_factory=lambda: list(get_args(WrongField))
    )

    @property
    def ways(self) -> list[str]:
        """See `PayloadFault`."""
        return list(self.fields)

    def reason(self, way: str) -> str:  # noqa: ARG002 - it is the same for all
        """See `PayloadFault`."""
        return "wrong_type"

    def broken(self, way: str, text: str, sign: Sign) -> bytes:
        """See `PayloadFault`."""
        reading = json.loads(text + "}")
        if way == "device":
            reading["device"] = int(reading["device"].rpartition("-")[2])
        elif way == "site":
            reading["site"] = None
        elif way == "signals":
            reading["signals"] = list(reading["signals"].values())
        elif way == "signal":
            name = next(iter(reading["signals"]))
            reading["signals"][name] = str(reading["signals"][name])
        else:
            reading[way] = str(reading[way])
        return sign(unfinished(reading), None)


class _OneWay(PayloadFault):
    """A fault that breaks payloads in one way."""

    refused: ClassVar[str]

    @property
    def ways(self) -> list[str]:
        """See `PayloadFault`."""
        return [self.kind]

    def reason(self, way: str) -> str:  # noqa: ARG002 - there is one
        """See `PayloadFault`."""
        return self.refused


class Oversize(_OneWay):
    """Readings arrive with so many signals that they are `size_bytes` long; a reading may have 32."""

    kind: Literal["oversize"]
    size_bytes: Annotated[int, Field(ge=2_000, le=1_000_000)] = 40_000
    refused: ClassVar[str] = "out_of_range"

    def broken(self, way: str, text: str, sign: Sign) -> bytes:  # noqa: ARG002
        """See `PayloadFault`."""
        reading = json.loads(text + "}")
        # Each of them adds `"pad_000000":0,`.
        more = max(33, math.ceil((self.size_bytes - len(text)) / 15))
        reading["signals"] |= {f"pad_{number:06d}": 0 for number in range(more)}
        return sign(unfinished(reading), None)


class ForgedSignature(_OneWay):
    """Readings are signed with a key that is not the fleet's."""

    kind: Literal["forged_signature"]
    refused: ClassVar[str] = "bad_signature"

    def broken(self, way: str, text: str, sign: Sign) -> bytes:  # noqa: ARG002
        """See `PayloadFault`."""
        return sign(text, FORGED_KEY)


class UnknownDevice(_OneWay):
    """Readings come from devices that are none of the fleet's, and sign with keys of their own."""

    kind: Literal["unknown_device"]
    refused: ClassVar[str] = "bad_signature"

    def broken(self, way: str, text: str, sign: Sign) -> bytes:  # noqa: ARG002
        """See `PayloadFault`."""
        reading = json.loads(text + "}")
        reading["device"] = f"ghost-{reading['device'].rpartition('-')[2]}"
        return sign(unfinished(reading), FORGED_KEY + reading["device"].encode())


def unfinished(reading: dict[str, Any]) -> str:
    """The canonical form of a reading without its closing brace."""
    return json.dumps(reading, sort_keys=True, separators=(",", ":"), ensure_ascii=False)[:-1]
