"""Payloads of the user's own shape: a JSON structure with places for what a reading tells.

    payload:
      id: "{device}"
      at: "{ts_iso}"
      data: {t: "{signals.temperature}", note: "reading {seq} of {device}"}

A string that is one place and nothing else becomes what is put there, a number or an object; within
other text it becomes text. Keys are written sorted and without spaces; `sig: "{sig}"` on the top
level is the signature over all else, written last, as in the standard payload.
"""

from __future__ import annotations

import datetime as dt
import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

_PLACE = re.compile(r"\{([a-z_]+(?:\.[a-z0-9_]+)?)\}")
_TEXTS = ("device", "class", "site", "run")
_WHOLE = ("seq", "ts")
_MAX_TEXT = 128
_MAX_BYTES = 100_000
# How JSON writes the marks that stand for places.
_MARKED = re.compile(r'"\\u0000([a-z0-9_.]+):whole\\u0000"|\\u0000([a-z0-9_.]+):text\\u0000')
PLACES = ("device", "class", "site", "run", "firmware", "seq", "ts", "ts_s", "ts_iso", "signals")


@dataclass(frozen=True, slots=True)
class Told:
    """What a reading tells a template."""

    device: str
    kind: str
    site: str
    run: str
    firmware: str
    seq: int
    ts_ms: int
    signals: Mapping[str, float]

    def at(self, place: str) -> Any:
        """What is put in a place."""
        name, _, signal = place.partition(".")
        match name:
            case "device" | "site" | "run" | "firmware" | "seq":
                return getattr(self, name)
            case "class":
                return self.kind
            case "ts":
                return self.ts_ms
            case "ts_s":
                return self.ts_ms / 1000
            case "ts_iso":
                moment = dt.datetime.fromtimestamp(self.ts_ms / 1000, dt.UTC)
                return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
        return self.signals[signal] if signal else dict(sorted(self.signals.items()))


class Template:
    """A payload of the user's own shape.

    Args:
        shape: The structure.
        signals: Names of the class's signals.

    Attributes:
        signed: Whether it has a signature.
        places: The places in it, such as `seq` and `signals.temperature`.
        whole: Place to the path on which it stands alone, where it does.
        reason: Why the stack's processor refuses such payloads; empty where it takes them.

    Raises:
        ValueError: the structure cannot be used; the text names the field.
    """

    def __init__(self, shape: Any, signals: Mapping[str, Any]) -> None:
        self._signals = list(signals)
        self.signed = isinstance(shape, dict) and shape.get("sig") == "{sig}"
        self.whole: dict[str, tuple[str | int, ...]] = {}
        body = {k: v for k, v in shape.items() if k != "sig"} if self.signed else shape
        marked = self._marked(body, ())
        try:
            text = _dumps(marked)
        except (TypeError, ValueError) as error:
            raise ValueError(f"payload: is no JSON: {error}") from None
        if len(text) > _MAX_BYTES:
            raise ValueError(f"payload: is {len(text)} characters long: at most {_MAX_BYTES}")
        self._parts = _split(text)
        self.places = {part[0] for part in self._parts if isinstance(part, tuple)}
        if "device" not in self.places or not self.places & {"seq", "ts", "ts_iso"}:
            raise ValueError(
                "payload: needs a place for {device} and one for {seq} or {ts}: without them no "
                "two readings could be told apart"
            )
        self.reason = _reason(shape, self.signed)
        if not self.reason:
            _refuse_others(shape)

    def text(self, told: Told) -> str:
        """The payload of a reading; without its closing brace where it is to be signed."""
        text = "".join(
            [part if isinstance(part, str) else _written(told.at(part[0]), part[1])
             for part in self._parts]
        )  # fmt: skip
        return text[:-1] if self.signed else text

    def payload(self, told: Told, sign: Callable[[str], bytes]) -> bytes:
        """The payload of a reading, as it is sent."""
        text = self.text(told)
        return sign(text) if self.signed else text.encode()

    def _marked(self, value: Any, path: tuple[str | int, ...]) -> Any:
        """The structure with marks in its places."""
        if isinstance(value, dict):
            for key in value:
                if not isinstance(key, str) or _PLACE.search(key):
                    raise ValueError(f"payload: key {key!r} must be plain text")
            return {key: self._marked(one, (*path, key)) for key, one in value.items()}
        if isinstance(value, list):
            return [self._marked(one, (*path, i)) for i, one in enumerate(value)]
        if not isinstance(value, str):
            return value
        if "\x00" in value:
            raise ValueError("payload: has a NUL character")
        for place in _PLACE.findall(value):
            self._check(place, path)
        if _PLACE.fullmatch(value):
            self.whole.setdefault(value[1:-1], path)
            return f"\x00{value[1:-1]}:whole\x00"
        return _PLACE.sub("\x00\\1:text\x00", value)

    def _check(self, place: str, path: tuple[str | int, ...]) -> None:
        where = ".".join(("payload", *map(str, path)))
        name, dot, signal = place.partition(".")
        if place == "sig":
            raise ValueError(f"{where}: {{sig}} stands alone, as sig on the top level")
        if name not in PLACES or (dot and name != "signals"):
            known = ", ".join(f"{{{one}}}" for one in PLACES)
            raise ValueError(f"{where}: there is no {{{place}}}: known are {known}")
        if dot and signal not in self._signals:
            raise ValueError(
                f"{where}: the class has no signal {signal!r}: it has {', '.join(self._signals)}"
            )


def _dumps(value: Any) -> str:
    return json.dumps(
        value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
    )


def _split(text: str) -> list[str | tuple[str, bool]]:
    """Plain text, and (place, whether it is a whole value)."""
    parts: list[str | tuple[str, bool]] = []
    at = 0
    for match in _MARKED.finditer(text):
        parts += [text[at : match.start()], (match[1] or match[2], match[1] is not None)]
        at = match.end()
    return [*parts, text[at:]]


def _written(value: Any, whole: bool) -> str:  # noqa: FBT001 - as the parts have it
    text = json.dumps(value, separators=(",", ":"), ensure_ascii=False)
    if whole:
        return text
    # Within a string, text is escaped, and what has quotes of its own is not a string any more.
    return text[1:-1] if isinstance(value, str) else json.dumps(text, ensure_ascii=False)[1:-1]


def _reason(shape: Any, signed: bool) -> str:  # noqa: FBT001, C901, PLR0911, PLR0912
    """The first of the processor's checks that fails for every such payload."""
    if not isinstance(shape, dict):
        return "not_an_object"
    if "sig" not in shape:
        return "missing_field"
    if not signed:
        return "bad_signature" if isinstance(shape["sig"], str) else "wrong_type"
    if "v" not in shape:
        return "missing_field"
    if shape["v"] != 1 or isinstance(shape["v"], bool):
        return "unsupported_version"
    for name in (*_TEXTS, *_WHOLE, "signals"):
        if name not in shape:
            return "missing_field"
        value = shape[name]
        place = value[1:-1] if isinstance(value, str) and _PLACE.fullmatch(value) else None
        if name in _TEXTS:
            whole_number = place is not None and place.partition(".")[0] in {
                "seq", "ts", "ts_s", "signals",
            }  # fmt: skip
            if not isinstance(value, str) or whole_number:
                return "wrong_type"
            if place is None and not 1 <= len(value) <= _MAX_TEXT:
                return "out_of_range"
        elif name in _WHOLE:
            if isinstance(value, bool) or not (isinstance(value, int) or place in _WHOLE):
                return "wrong_type"
            if isinstance(value, int) and not 0 <= value < 2**53:
                return "out_of_range"
        elif place != "signals" and not isinstance(value, dict):
            return "wrong_type"
    return ""


def _refuse_others(shape: dict[str, Any]) -> None:
    """Refuses a shape that the processor would take for another reading than it is."""
    for name in (*_TEXTS, *_WHOLE, "signals"):
        if shape[name] != f"{{{name}}}":
            raise ValueError(
                f"payload.{name}: the processor would take such payloads, and store something "
                f"else than the reading: write '{{{name}}}', or leave out sig"
            )
