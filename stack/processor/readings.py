"""What a reading must be: its signature, its fields, and the reasons for refusing it.

Pure functions over bytes. A payload is compact JSON; `sig` is the base64url form, unpadded, of the
first 16 bytes of HMAC-SHA256 over the canonical JSON (sorted keys, no spaces, UTF-8) of all else.
Senders emit the keys in that order and append `sig`, so the bytes before it are the signed ones;
a payload that was parsed and written anew on its way (by an IoT topic rule) is put back in
canonical form before its signature is checked.
"""

from __future__ import annotations

import binascii
import hashlib
import hmac
import json
import math
import re
from functools import lru_cache
from operator import itemgetter
from typing import Any, NamedTuple

VERSION = 1
MAX_TEXT = 128
MAX_SIGNALS = 32
MAX_SEQ = 2**53
MAX_TS = 2**53
SIGNATURE_BYTES = 16
_SIGNAL = re.compile(r"[a-z][a-z0-9_]{0,63}")
_MARK = b',"sig":"'
_URL_SAFE = bytes.maketrans(b"+/", b"-_")
_plain = itemgetter("device", "class", "site", "run", "seq", "ts")
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
    return _common(value) or Reading(
        _text(value, "device"),
        _text(value, "class"),
        _text(value, "site"),
        _text(value, "run"),
        _integer(value, "seq", MAX_SEQ),
        _integer(value, "ts", MAX_TS),
        _signals(value),
    )


def _common(value: dict[str, Any]) -> Reading | None:
    """The reading of an object that is as almost all are; None if it has to be looked at closely.

    It asks for more than a reading must have, all at once, and never refuses.
    """
    try:
        device, kind, site, run, seq, ts = _plain(value)
    except KeyError:
        return None
    if not (
        str is type(device) is type(kind) is type(site) is type(run)
        and int is type(seq) is type(ts)
        and device
        and kind
        and site
        and run
        and 0 <= seq < MAX_SEQ
        and 0 <= ts < MAX_TS
    ):
        return None
    texts = device + kind + site + run
    if len(texts) > MAX_TEXT or not texts.isprintable():
        return None
    return Reading(device, kind, site, run, seq, ts, _signals(value))


def sign(canonical: bytes, key: bytes) -> str:
    """The signature of canonical bytes."""
    return _signature(canonical, key).decode()


def _signature(canonical: bytes, key: bytes) -> bytes:
    begun_inner, begun_outer = _begun(key)
    inner = begun_inner.copy()
    inner.update(canonical)
    outer = begun_outer.copy()
    outer.update(inner.digest())
    encoded = binascii.b2a_base64(outer.digest()[:SIGNATURE_BYTES], newline=False)
    return encoded.translate(_URL_SAFE).rstrip(b"=")


@lru_cache(maxsize=4)
def _begun(key: bytes) -> tuple[Any, Any]:
    """The two hashes of HMAC (RFC 2104) with the key in them, which are the same for every reading.

    With a short message, to begin them costs more than to finish them.
    """
    if len(key) > hashlib.sha256().block_size:
        key = hashlib.sha256(key).digest()
    key = key.ljust(hashlib.sha256().block_size, b"\0")
    return (
        hashlib.sha256(bytes([byte ^ 0x36 for byte in key])),
        hashlib.sha256(bytes([byte ^ 0x5C for byte in key])),
    )


def canonical(value: dict[str, Any]) -> bytes:
    """The bytes that are signed, of an object without its signature."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode(
        "utf-8", "surrogatepass"
    )


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


# json.loads makes a decoder for every call that has an option; one serves all.
# Readings come without space around them, which `decode` looks for twice.
_scan = json.JSONDecoder(parse_constant=_refuse_constant).raw_decode


def _parsed(payload: bytes) -> Any:
    try:
        text = payload.decode()
        value, end = _scan(text)
        if end == len(text):
            return value
    except (ValueError, RecursionError):
        pass
    try:
        # It also reads space around, UTF-16, UTF-32 and a byte order mark, and else says what is wrong.
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
    if at > 0 and hmac.compare_digest(_signature(payload[:at] + b"}", key), found):
        return
    rest = {name: member for name, member in value.items() if name != "sig"}
    if not hmac.compare_digest(_signature(canonical(rest), key), found):
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
    if _all_usable(tuple(signals)):
        for number in signals.values():
            if type(number) is not float or not math.isfinite(number):
                break
        else:
            return signals
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


@lru_cache(maxsize=1024)
def _all_usable(names: tuple[str, ...]) -> bool:
    return all(map(_usable, names))
