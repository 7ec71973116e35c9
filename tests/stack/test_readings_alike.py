"""What is checked at once is taken and refused as what is checked member by member."""

from __future__ import annotations

import base64
import hmac
import json
from typing import Any
from unittest import mock

from hypothesis import given
from hypothesis import strategies as st

from stack.processor import readings

KEY = b"key"
TEXTS = st.text(max_size=20) | st.sampled_from(["x" * 128, "x" * 129, "\x7f"])
NUMBERS = (
    st.floats()
    | st.integers()
    | st.booleans()
    | st.sampled_from([2**53, 2**53 - 1, -1, 10**400, None, "1"])
)
NAMES = st.sampled_from(["speed", "fuel", "seq", "Bad", "a" * 64, "a" * 65, ""])
SPACE = st.sampled_from(["", " ", "\n", "\ufeff", "x"])


@st.composite
def payloads(draw: st.DrawFn) -> bytes:
    """A signed reading of which some members are not what they should be."""
    value: dict[str, Any] = {
        "class": "truck",
        "device": "dev-1",
        "run": "r",
        "seq": 1,
        "signals": {"speed": 1.5},
        "site": "s",
        "ts": 2,
        "v": 1,
    }
    value |= draw(
        st.fixed_dictionaries(
            {},
            optional={
                "class": TEXTS | NUMBERS,
                "device": TEXTS | NUMBERS,
                "run": TEXTS,
                "seq": NUMBERS,
                "signals": st.dictionaries(NAMES, NUMBERS, max_size=4) | TEXTS,
                "site": TEXTS,
                "ts": NUMBERS,
                "v": st.just(1) | NUMBERS,
            },
        )
    )
    for name in draw(st.sets(st.sampled_from(sorted(value)), max_size=1)):
        if draw(st.booleans()):
            del value[name]
    text = readings.canonical(value)
    signature = readings.sign(text, KEY) if draw(st.booleans()) else draw(TEXTS)
    signed = text[:-1] + f',"sig":{json.dumps(signature)}}}'.encode()
    return draw(SPACE).encode() + signed + draw(SPACE).encode()


def outcome(payload: bytes) -> str:
    try:
        return repr(readings.check(payload, KEY))
    except readings.Refusal as refusal:
        return f"{refusal.reason}: {refusal.detail}"


def by_member(payload: bytes) -> str:
    """What `check` makes of a payload without what it has for the common ones."""

    def no_scan(_text: str) -> None:
        raise ValueError("not this way")

    with (
        mock.patch.object(readings, "_scan", no_scan),
        mock.patch.object(readings, "_common", return_value=None),
        mock.patch.object(readings, "_all_usable", return_value=False),
        mock.patch.object(readings, "_signature", plain_signature),
    ):
        return outcome(payload)


def plain_signature(canonical: bytes, key: bytes) -> bytes:
    return base64.urlsafe_b64encode(hmac.digest(key, canonical, "sha256")[:16]).rstrip(b"=")


@given(payloads())
def test_a_reading_is_taken_or_refused_as_it_is_member_by_member(payload):
    assert outcome(payload) == by_member(payload)


@given(st.binary(max_size=300), st.binary(max_size=200))
def test_a_signature_is_the_start_of_the_hmac(canonical, key):
    assert readings.sign(canonical, key).encode() == plain_signature(canonical, key)
