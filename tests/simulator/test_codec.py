from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simulator.codec import Encoder
from simulator.faults import CORRUPTIONS, REASONS, Corrupt
from simulator.fleet import Fleet
from stack.processor.readings import Refusal, canonical, check, sign

ALWAYS = {"name": "broken", "kind": "corrupt", "share": 1.0, "start": "0s", "duration": "5s"}
SOMETIMES = {**ALWAYS, "share": 0.3}
OVERHEAT = {**SOMETIMES, "name": "hot", "kind": "overheat", "signal": "temperature", "offset": 80}


def encoded(scenario, run, key) -> list[tuple]:
    """(block, index in it, payload) of every reading."""
    fleet = Fleet(scenario, run)
    encoder = Encoder(fleet, key)
    return [
        (block, index, payload)
        for block in fleet.blocks(size=64)
        for index, payload in enumerate(encoder.encode(block))
    ]


def refusal(payload: bytes, key: bytes) -> str | None:
    try:
        check(payload, key)
    except Refusal as refused:
        return refused.reason
    return None


def expected_refusal(block, index: int) -> str | None:
    if block.refusal is None or not block.refusal[index]:
        return None
    return REASONS[int(block.refusal[index])]


def test_a_payload_tells_its_reading(scenario_of, run_of, key):
    scenario = scenario_of()
    run = run_of(scenario)
    fleet = Fleet(scenario, run)
    for block, index, payload in encoded(scenario, run, key):
        device = int(block.device_index[index])
        names = scenario.fleet.classes[int(block.class_index[index])].signals
        reading = check(payload, key)
        assert reading.device == fleet.device_ids[device]
        assert reading.kind == fleet.class_name(device)
        assert reading.site == fleet.site_name(device)
        assert reading.run == "run-1"
        assert reading.seq == int(block.seq[index])
        assert reading.ts == int(block.ts_ms[index])
        assert reading.signals == {name: float(block.values[name][index]) for name in names}


def test_a_payload_is_canonical_json_with_its_signature_last(scenario_of, run_of, key):
    scenario = scenario_of()
    for _, _, payload in encoded(scenario, run_of(scenario), key):
        reading = json.loads(payload)
        signature = reading.pop("sig")
        plain = canonical(reading)
        assert payload == plain[:-1] + f',"sig":"{signature}"}}'.encode()
        assert signature == sign(plain, key)
        assert len(signature) == 22
        assert list(reading) == sorted(reading)
        assert reading["v"] == 1


def test_a_payload_that_was_parsed_and_written_anew_still_verifies(scenario_of, run_of, key):
    scenario = scenario_of()
    for _, _, payload in encoded(scenario, run_of(scenario), key):
        assert refusal(json.dumps(json.loads(payload), indent=1).encode(), key) is None


def test_another_key_or_a_changed_byte_is_refused(scenario_of, run_of, key):
    scenario = scenario_of(devices=1)
    _, _, payload = encoded(scenario, run_of(scenario), key)[0]
    assert refusal(payload, key) is None
    assert refusal(payload, key + b"!") == "bad_signature"
    for at in range(len(payload)):
        changed = bytes([payload[at] ^ 1])
        assert refusal(payload[:at] + changed + payload[at + 1 :], key) is not None


@pytest.mark.parametrize("kind", sorted(CORRUPTIONS))
def test_each_corruption_is_refused_with_its_reason(scenario_of, run_of, key, kind):
    scenario = scenario_of(faults=[{**ALWAYS, "kinds": [kind]}])
    payloads = [payload for _, _, payload in encoded(scenario, run_of(scenario), key)]
    assert len(payloads) == 500
    assert {refusal(payload, key) for payload in payloads} == {CORRUPTIONS[kind]}


def test_corruptions_are_ten_with_their_reasons():
    assert CORRUPTIONS == {
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
    fault = Corrupt.model_validate(ALWAYS)
    assert fault.kinds == list(CORRUPTIONS)


def test_exactly_the_readings_that_should_be_are_refused(scenario_of, run_of, key):
    scenario = scenario_of(faults=[OVERHEAT, SOMETIMES])
    reasons = set()
    for block, index, payload in encoded(scenario, run_of(scenario), key):
        expected = expected_refusal(block, index)
        assert refusal(payload, key) == expected
        reasons.add(expected)
    assert reasons == {None, *CORRUPTIONS.values()}


def test_all_kinds_of_a_fault_come_about_equally_often(scenario_of):
    fault = scenario_of(faults=[ALWAYS]).faults[0]
    kinds = [fault.kinds[int(fault.way(7, device, 0))] for device in range(10_000)]
    for kind in CORRUPTIONS:
        assert kinds.count(kind) == pytest.approx(1000, rel=0.15)


def test_an_overheated_reading_is_whole(scenario_of, run_of, key):
    scenario = scenario_of(faults=[{**OVERHEAT, "share": 1.0}])
    hot = [
        check(payload, key).signals["temperature"]
        for block, index, payload in encoded(scenario, run_of(scenario), key)
        if block.fault[index]
    ]
    assert len(hot) == 300
    assert min(hot) > 78


def test_a_payload_does_not_depend_on_its_block(scenario_of, run_of, key):
    scenario = scenario_of(faults=[SOMETIMES])
    run = run_of(scenario)
    fleet = Fleet(scenario, run)
    alone = [p for b in fleet.blocks(size=1) for p in Encoder(fleet, key).encode(b)]
    assert alone == [payload for _, _, payload in encoded(scenario, run, key)]


SIGNALS = {
    "constant": {"model": "constant", "value": -0.0},
    "tiny": {"model": "normal", "mean": 0, "sigma": 1e-5, "decimals": 6},
    "huge": {"model": "constant", "value": 1.7e300},
    "whole": {"model": "uniform", "low": -1e16, "high": 1e16, "decimals": 0},
}


@settings(deadline=None, max_examples=40)
@given(
    name=st.from_regex(r"[a-z][a-z0-9-]{0,62}", fullmatch=True),
    run_id=st.from_regex(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}", fullmatch=True),
    signals=st.sets(st.sampled_from(sorted(SIGNALS)), min_size=1),
    shape=st.tuples(st.sampled_from([1, 3, 40]), st.sampled_from([0.3, 1.0])),
)
def test_payloads_are_single_lines_unique_and_refused_as_expected(
    *, scenario_of, run_of, key, name, run_id, signals, shape
):
    devices, share = shape
    kind = {"name": name, "share": 1, "signals": {name: SIGNALS[name] for name in signals}}
    scenario = scenario_of(
        devices=devices,
        classes=[kind],
        faults=[{**ALWAYS, "share": share}],
        rate=[{"shape": "constant", "rate": 50, "duration": 5}],
    )
    told = encoded(scenario, run_of(scenario, run_id=run_id), key)
    payloads = [payload for _, _, payload in told]
    assert len(set(payloads)) == len(payloads) == 250
    for block, index, payload in told:
        assert b"\n" not in payload
        assert b"\r" not in payload
        assert refusal(payload, key) == expected_refusal(block, index)


@pytest.mark.parametrize("kind", sorted(CORRUPTIONS))
def test_the_longest_names_leave_broken_payloads_unique(scenario_of, run_of, key, kind):
    classes = [{"name": "c" * 63, "share": 1, "signals": {"t": {"model": "constant", "value": 1}}}]
    scenario = scenario_of(
        devices=2,
        classes=classes,
        rate=[{"shape": "constant", "rate": 500, "duration": 5}],
        faults=[{**ALWAYS, "kinds": [kind]}],
    )
    told = encoded(scenario, run_of(scenario, run_id="r" * 64), key)
    payloads = [payload for _, _, payload in told]
    assert len(set(payloads)) == len(payloads) == 2500
    assert {refusal(payload, key) for payload in payloads} == {CORRUPTIONS[kind]}


def test_the_same_run_of_the_same_scenario_gives_the_same_bytes(scenario_of, run_of, key):
    scenario = scenario_of(faults=[SOMETIMES])
    one, again, later = (
        [payload for _, _, payload in encoded(scenario, run, key)]
        for run in (run_of(scenario), run_of(scenario), run_of(scenario, start_ms=1))
    )
    assert one == again
    assert not set(one) & set(later)
