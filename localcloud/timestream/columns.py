"""Calls of WriteRecords taken apart as text, where all their records are written alike.

Whoever writes many records writes them by one program: the members of a call, of each record and of
each measure come in one order and without spaces. Such a body is cut at what it always has, which
costs a fraction of making an object of every member. A cut is proof of what it finds: between the
cuts are whole JSON values, or texts without quotes, backslashes or control characters, so that a parser
finds the same. Any other body is left to the parser.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
import orjson

from localcloud import cbor

if TYPE_CHECKING:
    from collections.abc import Callable

    from localcloud.http import Request

Pairs = tuple[tuple[str, str], ...]

MAX_RECORDS = 100

_BEGIN = b',"Records":[{"Dimensions":'
_BETWEEN = ']},{"Dimensions":'
_END = "]}]}"
_TIME = ',"Time":"'
_MEASURES = '","MeasureValues":['
_MEMBERS = {"DatabaseName", "TableName", "CommonAttributes"}
_FIRST_PRINTED = 0x20
# Which measures the series of the dimensions had last; a fleet has as many as it has devices.
_MAX_EXPECTED = 100_000
_expected: dict[str, Composition] = {}


@dataclass(frozen=True, slots=True, eq=False)
class Composition:
    """Names and types of the measures of a record.

    Attributes:
        measures: (name, type) of each.
        texts_in: Matches the text of such measures, which has no backslash; its groups are the texts
            of their values.
    """

    measures: Pairs
    texts_in: Callable[[str], re.Match[str] | None]


@dataclass(slots=True)
class Part:
    """Records of a call that have the same measures.

    Attributes:
        measures: (name, type) of each measure.
        at: Where the records are in the call.
        rows: The texts of the values of each record.
    """

    measures: Pairs
    at: list[int]
    rows: list[tuple[str, ...]]


@dataclass(slots=True)
class Call:
    """A call that was taken apart.

    Attributes:
        members: All of its members but the records.
        dimensions: The text of the dimensions of each record, which is whole JSON.
        times: The text of the time of each.
        parts: The measures.
    """

    members: dict[str, Any]
    dimensions: list[str]
    times: list[str]
    parts: list[Part]


def members_of(request: Request) -> dict[str, Any]:
    """The members of a request of WriteRecords; without the records where it can be taken apart.

    Raises:
        AwsError: SerializationException, where it is no JSON object.
    """
    call = call_of(request)
    return request.json() if call is None else call.members


def call_of(request: Request) -> Call | None:
    """A request of WriteRecords taken apart, which is done once; None where it is to be parsed."""
    if "call" not in request.kept:
        is_cbor = cbor.is_cbor(request.headers.get("content-type", ""))
        request.kept["call"] = None if is_cbor else take_apart(request.body)
    call: Call | None = request.kept["call"]
    return call


def take_apart(body: bytes) -> Call | None:
    """The body of a request of WriteRecords taken apart; None where it is to be parsed."""
    begin = body.find(_BEGIN)
    if begin < 0 or np.frombuffer(body, np.uint8).min() < _FIRST_PRINTED:
        return None
    try:
        members = orjson.loads(body[:begin] + b"}")
        text = body[begin + len(_BEGIN) :].decode()
    except ValueError:
        return None
    # A member that is not told here may mean something to somebody.
    if not members.keys() <= _MEMBERS or not text.endswith(_END):
        return None
    records = text[: -len(_END)].split(_BETWEEN)
    if len(records) > MAX_RECORDS:
        return None
    dimensions, times, measures = [], [], []
    for record in records:
        where, _, rest = record.partition(_TIME)
        time, _, values = rest.partition(_MEASURES)
        dimensions.append(where)
        times.append(time)
        measures.append(values)
    # A record that lacks a place to cut at has no time or no measures. A time that is a number has
    # nothing in it that JSON would read otherwise.
    if not all(times) or not all(measures) or not "".join(times).isdecimal():
        return None
    # Without backslashes every quote begins or ends a text.
    if "\\" in "".join(measures):
        return None
    parts = _parts(dimensions, measures)
    return None if parts is None else Call(members, dimensions, times, parts)


def pairs_of(dimensions: str) -> Pairs:
    """Names and values of dimensions, of the text of a record's.

    Raises:
        KeyError: one of them has no name or no value.
        TypeError: they are no list of structures.
    """
    return tuple([(one["Name"], one["Value"]) for one in orjson.loads(dimensions)])


def _parts(dimensions: list[str], measures: list[str]) -> list[Part] | None:
    parts: dict[Composition, Part] = {}
    for at, (where, text) in enumerate(zip(dimensions, measures, strict=True)):
        composition = _expected.get(where)
        found = composition and composition.texts_in(text)
        if not composition or not found:
            composition = _expect(where, text)
            found = composition and composition.texts_in(text)
            if not composition or not found:
                return None
        part = parts.get(composition)
        if part is None:
            part = parts[composition] = Part(composition.measures, [], [])
        part.at.append(at)
        part.rows.append(found.groups())
    return list(parts.values())


def _expect(dimensions: str, measures: str) -> Composition | None:
    """Notes which measures come with dimensions; None where the two are not JSON of that kind."""
    if len(_expected) >= _MAX_EXPECTED:
        _expected.clear()
    try:
        orjson.loads(dimensions)
        pairs = tuple([(one["Name"], one["Type"]) for one in orjson.loads(f"[{measures}]")])
        found = _expected[dimensions] = _composition(pairs)
    except (KeyError, TypeError, ValueError):
        return None
    return found


@lru_cache(maxsize=1024)
def _composition(measures: Pairs) -> Composition:
    patterns = [
        re.escape(f'{{"Name":{_quoted(name)},"Type":{_quoted(kind)},"Value":"') + r'([^"]*)"\}'
        for name, kind in measures
    ]
    return Composition(measures, re.compile(",".join(patterns)).fullmatch)


def _quoted(text: str) -> str:
    return orjson.dumps(text).decode()
