"""What a reading must be: its signature, its fields, and the reasons for refusing it.

Pure functions over bytes. A payload is compact JSON; `sig` is the base64url form, unpadded, of the
first 16 bytes of HMAC-SHA256 over the canonical JSON (sorted keys, no spaces, UTF-8) of all else.
Senders emit the keys in that order and append `sig`, so the bytes before it are the signed ones;
a payload that was parsed and written anew on its way (by an IoT topic rule) is put back in
canonical form before its signature is checked.
"""

from __future__ import annotations

import base64
import hmac
import json
import math
import re
from functools import lru_cache
from typing import Any, NamedTuple

VERSION = 1
MAX_TEXT = 128
MAX_SIGNALS = 32
MAX_SEQ = 2**53
MAX_TS = 2**53
SIGNATURE_BYTES = 16
_SIGNAL = re.compile(r"[a-z][a-z0-9_]{0,63}")
_MARK = b',"sig":"'
# Names that the processor writes itself.
_TAKEN = {
    "seq",
    "arrived_ms",
    "processed_ms",
    "time",
    "measure_name",
    "device",
    "class",
    "site",
    "run",
}


class Refusal(Exception):  # noqa: N818 - an outcome, not an error
    """A reading cannot be taken.

    Args:
        reason: One of not_json, not_an_object, missing_field, wrong_type, bad_signature,
            unsupported_version, out_of_range, timestream_rejected.
        detail: What exactly, for a person.
    """

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail


class Reading(NamedTuple):
    """A reading that was checked. `ts` is in epoch milliseconds."""

    device: str
    kind: str
    site: str
    run: str
    seq: int
    ts: int
    signals: dict[str, float]


def check(payload: bytes, key: bytes) -> Reading:
    """The reading in a payload.

    Raises:
        Refusal: it is none, with the reason.
    """
    value = _parsed(payload)
    if not isinstance(value, dict):
        raise Refusal("not_an_object", f"the payload is a {type(value).__name__}")
    _check_signature(payload, value, key)
    if value.get("v") != VERSION or isinstance(value["v"], bool):
        if "v" not in value:
            raise Refusal("missing_field", "v")
        raise Refusal("unsupported_version", f"v={value['v']!r}"[:200])
    return Reading(
        _text(value, "device"),
        _text(value, "class"),
        _text(value, "site"),
        _text(value, "run"),
        _integer(value, "seq", MAX_SEQ),
        _integer(value, "ts", MAX_TS),
        _signals(value),
    )


def sign(canonical: bytes, key: bytes) -> str:
    """The signature of canonical bytes."""
    digest = hmac.digest(key, canonical, "sha256")[:SIGNATURE_BYTES]
    return base64.urlsafe_b64encode(digest).decode().rstrip("=")


def canonical(value: dict[str, Any]) -> bytes:
    """The bytes that are signed, of an object without its signature."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode(
        "utf-8", "surrogatepass"
    )


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


# json.loads makes a decoder for every call that has an option; one serves all.
_decode = json.JSONDecoder(parse_constant=_refuse_constant).decode


def _parsed(payload: bytes) -> Any:
    try:
        return _decode(payload.decode())
    except (ValueError, RecursionError):
        pass
    try:
        # It also reads UTF-16, UTF-32 and a byte order mark, and else says what is wrong.
        return json.loads(payload, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise Refusal("not_json", str(error)[:200]) from None


def _check_signature(payload: bytes, value: dict[str, Any], key: bytes) -> None:
    if "sig" not in value:
        raise Refusal("missing_field", "sig")
    given = value["sig"]
    if not isinstance(given, str):
        raise Refusal("wrong_type", "sig is not a string")
    found = given.encode("utf-8", "replace")
    at = payload.rfind(_MARK)
    if at > 0 and hmac.compare_digest(sign(payload[:at] + b"}", key).encode(), found):
        return
    rest = {name: member for name, member in value.items() if name != "sig"}
    if not hmac.compare_digest(sign(canonical(rest), key).encode(), found):
        raise Refusal("bad_signature", "the signature does not match the payload")


def _member(value: dict[str, Any], name: str) -> Any:
    if name not in value:
        raise Refusal("missing_field", name)
    return value[name]


def _text(value: dict[str, Any], name: str) -> str:
    text = _member(value, name)
    if not isinstance(text, str):
        raise Refusal("wrong_type", f"{name} is not a string")
    if not 1 <= len(text) <= MAX_TEXT or not text.isprintable():
        raise Refusal("out_of_range", f"{name} must have 1 to {MAX_TEXT} printable characters")
    return text


def _integer(value: dict[str, Any], name: str, limit: int) -> int:
    number = _member(value, name)
    if not isinstance(number, int) or isinstance(number, bool):
        raise Refusal("wrong_type", f"{name} is not an integer")
    if not 0 <= number < limit:
        raise Refusal("out_of_range", f"{name} is not from 0 to {limit}")
    return number


def _signals(value: dict[str, Any]) -> dict[str, float]:
    signals = _member(value, "signals")
    if not isinstance(signals, dict):
        raise Refusal("wrong_type", "signals is not an object")
    if not 1 <= len(signals) <= MAX_SIGNALS:
        raise Refusal("out_of_range", f"signals must have 1 to {MAX_SIGNALS} members")
    for name, number in signals.items():
        if isinstance(number, bool) or not isinstance(number, int | float):
            raise Refusal("wrong_type", f"signal {name} is not a number"[:200])
        if not _usable(name):
            raise Refusal("out_of_range", f"signal name {name!r} is not usable"[:200])
        try:
            finite = math.isfinite(number)
        except OverflowError:
            finite = False
        if not finite:
            raise Refusal("out_of_range", f"signal {name} is not finite")
    return signals


@lru_cache(maxsize=4096)
def _usable(name: str) -> bool:
    return _SIGNAL.fullmatch(name) is not None and name not in _TAKEN
