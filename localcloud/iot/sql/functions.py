"""The functions of the rules' SQL that are served. A wrong argument gives Undefined."""

from __future__ import annotations

import base64
import binascii
import hashlib
import math
import re
import time
import uuid
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from localcloud.iot.sql.values import (
    UNDEFINED,
    Context,
    is_number,
    number,
    round_half_even,
    text,
    whole,
)

if TYPE_CHECKING:
    from collections.abc import Callable

MAX_PATTERN = 256


@dataclass(frozen=True, slots=True)
class Function:
    """A function: what it does, and how many arguments it takes."""

    call: Callable[[Context, list[Any]], Any]
    least: int
    most: int


def _topic(context: Context, given: list[Any]) -> Any:
    if not given:
        return context.topic
    levels, place = context.topic.split("/"), number(given[0])
    if not isinstance(place, int) or not 1 <= place <= len(levels):
        return UNDEFINED
    return levels[place - 1]


def _get(_context: Context, given: list[Any]) -> Any:
    from localcloud.iot.sql.operators import get  # noqa: PLC0415 - operators know functions

    return get(*given)


def _encode(context: Context, given: list[Any]) -> Any:
    value, scheme = given
    if scheme != "base64":
        return UNDEFINED
    if value is context.document:
        data = context.payload
    else:
        shown = text(value)
        if shown is UNDEFINED:
            return UNDEFINED
        data = shown.encode()
    return base64.b64encode(data).decode()


def _decode(_context: Context, given: list[Any]) -> Any:
    value, scheme = given
    if scheme != "base64" or not isinstance(value, str):
        return UNDEFINED
    try:
        return base64.b64decode(value, validate=True).decode()
    except (binascii.Error, UnicodeDecodeError):
        return UNDEFINED


def _numeric(compute: Callable[..., float]) -> Callable[[Context, list[Any]], Any]:
    def call(_context: Context, given: list[Any]) -> Any:
        numbers = [number(value) for value in given]
        if UNDEFINED in numbers:
            return UNDEFINED
        try:
            return whole(compute(*numbers))
        except (ValueError, ZeroDivisionError, OverflowError, TypeError):
            return UNDEFINED

    return call


def _textual(compute: Callable[..., Any]) -> Callable[[Context, list[Any]], Any]:
    def call(_context: Context, given: list[Any]) -> Any:
        texts = [text(value) for value in given]
        return UNDEFINED if UNDEFINED in texts else compute(*texts)

    return call


def _power(base: float, exponent: float) -> float:
    if abs(exponent) > 1000:  # noqa: PLR2004 - an integer power would take the machine
        raise OverflowError
    return math.pow(base, exponent)


def _truncated(value: float, places: float) -> float:
    scale = 10.0 ** int(places)
    return math.trunc(value * scale) / scale


def _substring(_context: Context, given: list[Any]) -> Any:
    value, places = text(given[0]), [number(place) for place in given[1:]]
    if value is UNDEFINED or any(not isinstance(p, int) or p < 0 for p in places):
        return UNDEFINED
    return value[slice(*places)] if len(places) > 1 else value[places[0] :]


def _concat(_context: Context, given: list[Any]) -> Any:
    if any(isinstance(value, list) for value in given):
        joined: list[Any] = []
        for value in given:
            joined += value if isinstance(value, list) else [value]
        return joined
    texts = [text(value) for value in given if value is not UNDEFINED]
    return UNDEFINED if UNDEFINED in texts else "".join(texts)


@lru_cache(maxsize=256)
def _pattern(source: str) -> re.Pattern[str] | None:
    try:
        return re.compile(source) if len(source) <= MAX_PATTERN else None
    except re.error:
        return None


def _regexp(use: Callable[..., Any]) -> Callable[[Context, list[Any]], Any]:
    def call(_context: Context, given: list[Any]) -> Any:
        texts = [text(value) for value in given]
        pattern = _pattern(texts[1]) if isinstance(texts[1], str) else None
        if UNDEFINED in texts or pattern is None:
            return UNDEFINED
        return use(pattern, *texts[:1], *texts[2:])

    return call


def _found(pattern: re.Pattern[str], value: str) -> Any:
    match = pattern.search(value)
    return UNDEFINED if match is None else match.group()


def _user_properties(context: Context, given: list[Any]) -> Any:
    found = context.user_properties
    if not given:
        return [{name: value} for name, value in found] or UNDEFINED
    values = [value for name, value in found if name == given[0]]
    if not values:
        return UNDEFINED
    return values[0] if len(values) == 1 else values


def _digest(name: str) -> Callable[[Context, list[Any]], Any]:
    return _textual(lambda value: hashlib.new(name, value.encode()).hexdigest())


def _nanvl(_context: Context, given: list[Any]) -> Any:
    return given[0] if is_number(given[0]) else given[1]


FUNCTIONS: dict[str, Function] = {
    # Of the message
    "topic": Function(_topic, 0, 1),
    "timestamp": Function(lambda c, _: c.received_ms or int(time.time() * 1000), 0, 0),
    "clientid": Function(lambda c, _: c.client_id, 0, 0),
    "principal": Function(lambda c, _: c.principal, 0, 1),
    "accountid": Function(lambda c, _: c.account_id, 0, 0),
    "traceid": Function(lambda c, _: c.trace_id, 0, 0),
    "get_user_properties": Function(_user_properties, 0, 1),
    # Of values
    "get": Function(_get, 2, 2),
    "encode": Function(_encode, 2, 2),
    "decode": Function(_decode, 2, 2),
    "isnull": Function(lambda _, g: g[0] is None, 1, 1),
    "isundefined": Function(lambda _, g: g[0] is UNDEFINED, 1, 1),
    "nanvl": Function(_nanvl, 2, 2),
    "newuuid": Function(lambda _, _g: str(uuid.uuid4()), 0, 0),
    # Of numbers
    "abs": Function(_numeric(abs), 1, 1),
    "ceil": Function(_numeric(math.ceil), 1, 1),
    "floor": Function(_numeric(math.floor), 1, 1),
    "round": Function(_numeric(round_half_even), 1, 1),
    "trunc": Function(_numeric(_truncated), 2, 2),
    "sign": Function(_numeric(lambda v: (v > 0) - (v < 0)), 1, 1),
    "sqrt": Function(_numeric(math.sqrt), 1, 1),
    "power": Function(_numeric(_power), 2, 2),
    "exp": Function(_numeric(math.exp), 1, 1),
    "ln": Function(_numeric(math.log), 1, 1),
    "log": Function(_numeric(math.log10), 1, 1),
    "mod": Function(_numeric(math.fmod), 2, 2),
    "remainder": Function(_numeric(math.fmod), 2, 2),
    "bitand": Function(_numeric(lambda a, b: a & b), 2, 2),
    "bitor": Function(_numeric(lambda a, b: a | b), 2, 2),
    "bitxor": Function(_numeric(lambda a, b: a ^ b), 2, 2),
    # Of texts
    "lower": Function(_textual(str.lower), 1, 1),
    "upper": Function(_textual(str.upper), 1, 1),
    "trim": Function(_textual(str.strip), 1, 1),
    "ltrim": Function(_textual(str.lstrip), 1, 1),
    "rtrim": Function(_textual(str.rstrip), 1, 1),
    "length": Function(_textual(len), 1, 1),
    "concat": Function(_concat, 1, 20),
    "substring": Function(_substring, 2, 3),
    "replace": Function(_textual(str.replace), 3, 3),
    "startswith": Function(_textual(str.startswith), 2, 2),
    "endswith": Function(_textual(str.endswith), 2, 2),
    "indexof": Function(_textual(str.find), 2, 2),
    "regexp_matches": Function(_regexp(lambda p, v: p.search(v) is not None), 2, 2),
    "regexp_replace": Function(
        _regexp(lambda p, v, new: p.sub(new.replace("\\", "\\\\"), v)), 3, 3
    ),
    "regexp_substr": Function(_regexp(_found), 2, 2),
    "md5": Function(_digest("md5"), 1, 1),
    "sha1": Function(_digest("sha1"), 1, 1),
    "sha256": Function(_digest("sha256"), 1, 1),
    "sha384": Function(_digest("sha384"), 1, 1),
    "sha512": Function(_digest("sha512"), 1, 1),
}
