"""What the processor takes for a reading, and with which reason it refuses the rest."""

from __future__ import annotations

import math
from typing import Any

import pytest

from stack.processor.readings import Refusal, canonical, check, sign

KEY = b"key"
READING: dict[str, Any] = {
    "v": 1, "run": "r", "device": "dev-1", "class": "cold", "site": "s", "seq": 4,
    "ts": 1_764_000_000_123, "signals": {"temperature": 4.5},
}  # fmt: skip
ABSENT = object()


def payload(**changes: Any) -> bytes:
    value = {n: v for n, v in {**READING, **changes}.items() if v is not ABSENT}
    return canonical({**value, "sig": sign(canonical(value), KEY)})


def test_a_reading_comes_out_as_it_went_in():
    found = check(payload(), KEY)

    assert (found.device, found.seq, found.ts) == ("dev-1", 4, READING["ts"])
    assert found.signals == {"temperature": 4.5}


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"device": ABSENT}, "missing_field"),
        ({"signals": ABSENT}, "missing_field"),
        ({"v": ABSENT}, "missing_field"),
        ({"v": 2}, "unsupported_version"),
        ({"v": True}, "unsupported_version"),
        ({"device": 7}, "wrong_type"),
        ({"seq": "4"}, "wrong_type"),
        ({"seq": True}, "wrong_type"),
        ({"seq": -1}, "out_of_range"),
        ({"seq": 2**63}, "out_of_range"),
        ({"ts": -1}, "out_of_range"),
        ({"signals": []}, "wrong_type"),
        ({"signals": {}}, "out_of_range"),
        ({"signals": {f"s{n}": 1 for n in range(33)}}, "out_of_range"),
        ({"signals": {"temperature": "4"}}, "wrong_type"),
        ({"signals": {"temperature": True}}, "wrong_type"),
        ({"signals": {"temperature": 10**400}}, "out_of_range"),
        ({"signals": {"Temperature": 4}}, "out_of_range"),
        ({"signals": {"temperature\n": 4}}, "out_of_range"),
        ({"signals": {"": 4}}, "out_of_range"),
        ({"signals": {"t" * 65: 4}}, "out_of_range"),
        # A column of the row that is no signal.
        ({"signals": {"seq": 4}}, "out_of_range"),
        # What is not JSON, though Python reads it.
        ({"signals": {"temperature": math.nan}}, "not_json"),
    ],
)
def test_a_signed_payload_that_is_no_reading_is_refused_with_the_reason(changes, reason):
    with pytest.raises(Refusal) as caught:
        check(payload(**changes), KEY)

    assert caught.value.reason == reason


@pytest.mark.parametrize(
    ("broken", "reason"),
    [
        (b"", "not_json"),
        (b"\xff", "not_json"),
        (payload()[:-1], "not_json"),
        (b"[" * 100_000, "not_json"),
        (b"[]", "not_an_object"),
        (b'"reading"', "not_an_object"),
        (canonical(READING), "missing_field"),
        (canonical({**READING, "sig": 7}), "wrong_type"),
        (canonical({**READING, "sig": ""}), "bad_signature"),
        (payload().replace(b"dev-1", b"dev-2"), "bad_signature"),
    ],
)
def test_a_payload_that_nobody_signed_is_refused_with_the_reason(broken, reason):
    with pytest.raises(Refusal) as caught:
        check(broken, KEY)

    assert caught.value.reason == reason
