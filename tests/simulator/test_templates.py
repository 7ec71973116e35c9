from __future__ import annotations

import json
from collections import Counter

import numpy as np
import pytest

from simulator.codec import Encoder
from simulator.faults import REASONS
from simulator.fleet import Fleet
from simulator.scenario import load
from stack.processor.readings import Refusal, check

KEY = b"key"
SIGNALS = {
    "temperature": {"model": "normal", "mean": -4, "sigma": 1},
    "door": {"model": "constant", "value": 1, "decimals": 0},
}
STANDARD = {
    name: f"{{{name}}}"
    for name in ("device", "class", "site", "run", "seq", "ts", "signals", "sig")
}
STANDARD["v"] = 1


@pytest.fixture
def told(scenario_of, run_of):
    def make(payload, *, devices=20, faults=(), **changes):
        kind = {"name": "own", "share": 1, "signals": SIGNALS, "payload": payload, **changes}
        scenario = scenario_of(devices=devices, classes=[kind], faults=list(faults))
        fleet = Fleet(scenario, run_of(scenario))
        encoder = Encoder(fleet, KEY)
        return [
            (fleet, block, index, payload)
            for block in fleet.blocks(size=7)
            for index, payload in enumerate(encoder.encode(block))
        ]

    return make


def refusal(payload: bytes) -> str:
    try:
        check(payload, KEY)
    except Refusal as refused:
        return refused.reason
    return ""


def without(*names):
    return {name: value for name, value in STANDARD.items() if name not in names}


def test_places_are_filled_with_what_a_reading_tells(told):
    shape = {
        "id": "{device}",
        "when": "{ts}",
        "iso": "{ts_iso}",
        "n": "{seq}",
        "meta": ["{site}", "{class}", "{run}", "{firmware}", None, True],
        "data": {"t": "{signals.temperature}", "all": "{signals}"},
        "note": 'reading {seq} of "{device}": {signals.temperature} C, {signals}',
    }
    for fleet, block, index, payload in told(shape, firmware="1.2.3"):
        device = int(block.device_index[index])
        reading = json.loads(payload)
        temperature = float(block.values["temperature"][index])
        assert reading["id"] == fleet.device_ids[device]
        assert reading["n"] == int(block.seq[index])
        assert reading["when"] == int(block.ts_ms[index])
        assert reading["iso"].startswith("2023-11-14T22:13:2")
        assert reading["iso"].endswith("Z")
        assert reading["meta"] == [fleet.site_name(device), "own", "run-1", "1.2.3", None, True]
        assert reading["data"]["t"] == temperature
        assert reading["data"]["all"] == {"temperature": temperature, "door": 1.0}
        assert reading["note"].startswith(f'reading {reading["n"]} of "{reading["id"]}": -')
        assert str(temperature) in reading["note"]


CASES = {
    "nothing of ours": ({"id": "{device}", "n": "{seq}"}, "missing_field"),
    "a list": (["{device}", "{seq}"], "not_an_object"),
    "a text": ("{device} {seq}", "not_an_object"),
    "standard without signature": (without("sig"), "missing_field"),
    "a signature of text": ({**STANDARD, "sig": "AAAA"}, "bad_signature"),
    "a signature of null": ({**STANDARD, "sig": None}, "wrong_type"),
    "signed without version": (without("v"), "missing_field"),
    "signed with version 2": ({**STANDARD, "v": 2}, "unsupported_version"),
    "signed with version true": ({**STANDARD, "v": True}, "unsupported_version"),
    "signed without site": (without("site"), "missing_field"),
    "site a number": ({**STANDARD, "site": 4}, "wrong_type"),
    "class a number": ({**STANDARD, "class": "{seq}"}, "wrong_type"),
    "run too long": ({**STANDARD, "run": "r" * 200}, "out_of_range"),
    "seq as text": ({**STANDARD, "seq": "no {seq}"}, "wrong_type"),
    "ts as text": ({**STANDARD, "ts": "{ts_iso}"}, "wrong_type"),
    "ts below nothing": ({**STANDARD, "ts": -5}, "out_of_range"),
    "signals a list": ({**STANDARD, "signals": ["{signals.door}"]}, "wrong_type"),
    "standard": (STANDARD, ""),
    "standard and more": ({**STANDARD, "extra": {"door": "{signals.door}"}, "a": 1}, ""),
}  # fmt: skip


@pytest.mark.parametrize("case", sorted(CASES))
def test_what_the_processor_says_of_a_shape_is_known_beforehand(told, case):
    shape, reason = CASES[case]
    rows = told(shape)
    payloads = [payload for *_, payload in rows]
    assert {refusal(payload) for payload in payloads} == {reason}
    assert len(set(payloads)) == len(payloads) == 500
    assert not any(b"\n" in payload for payload in payloads)
    for _, block, index, _ in rows:
        found = 0 if block.refusal is None else int(block.refusal[index])
        assert REASONS[found] == reason
    if not reason:
        for _, block, index, payload in rows:
            reading = check(payload, KEY)
            assert reading.seq == int(block.seq[index])
            assert reading.signals["temperature"] == block.values["temperature"][index]


BAD = {
    "an unknown place": ({"a": "{device} {seq} {colour}"}, "payload.a: there is no {colour}"),
    "an unknown signal": (
        {"id": "{device}", "n": "{seq}", "d": [{"x": "{signals.colour}"}]},
        "payload.d.0.x: the class has no signal 'colour': it has temperature, door",
    ),
    "no device": ({"n": "{seq}"}, "payload: needs a place for {device}"),
    "no number": ({"id": "{device}"}, "payload: needs a place for {device} and one for {seq}"),
    "a place as key": ({"{device}": "{seq}"}, "payload: key '{device}' must be plain text"),
    "a signature inside": ({"a": {"sig": "{sig}"}}, "payload.a.sig: {sig} stands alone"),
    "not a number": ({"id": "{device}{seq}", "x": float("nan")}, "payload: is no JSON"),
    "another device": (
        {**STANDARD, "device": "device {device}"}, "payload.device: the processor would take"
    ),
    "other signals": (
        {**STANDARD, "signals": {"t": "{signals.temperature}"}},
        "payload.signals: the processor would take such payloads",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", sorted(BAD))
def test_a_shape_that_cannot_be_used_is_refused(scenario_of, case):
    shape, text = BAD[case]
    kind = {"name": "own", "share": 1, "signals": SIGNALS, "payload": shape}
    with pytest.raises(ValueError, match="Value error") as caught:
        scenario_of(classes=[kind])
    assert text in str(caught.value)


def test_a_shape_is_refused_with_its_line(tmp_path, good_text):
    shape = "      payload: {id: '{device}', n: '{seq}', t: '{signals.warmth}'}\n"
    path = tmp_path / "s.yaml"
    path.write_text(good_text.replace("      share: 0.4\n", f"      share: 0.4\n{shape}"))
    with pytest.raises(Exception, match=r":15: fleet.classes.1.payload.t: the class has no signal"):
        load(path)


def test_faults_of_payloads_are_on_standard_ones_alone(scenario_of, run_of):
    kinds = [
        {"name": "own", "share": 0.5, "signals": SIGNALS, "payload": {"a": "{device} {seq}"}},
        {"name": "standard", "share": 0.5, "signals": SIGNALS},
    ]
    fault = {"name": "f", "kind": "corrupt", "share": 1, "duration": "5s"}
    scenario = scenario_of(classes=kinds, faults=[fault])
    fleet = Fleet(scenario, run_of(scenario))
    for block in fleet.blocks():
        assert ((block.fault > 0) == (block.class_index == 1)).all()
    with pytest.raises(ValueError, match=r"faults.0: corrupt breaks standard payloads"):
        scenario_of(classes=kinds, faults=[{**fault, "classes": ["own"]}])


def test_firmware_is_a_field_that_the_processor_passes_over(scenario_of, run_of):
    kinds = [
        {"name": "a", "share": 0.5, "signals": SIGNALS, "firmware": {"1.4.2": 0.9, "2.0-rc1": 0.1}},
        {"name": "b", "share": 0.5, "signals": SIGNALS},
    ]
    scenario = scenario_of(devices=2000, classes=kinds, rate=[
        {"shape": "constant", "rate": 2000, "duration": 1}])  # fmt: skip
    fleet = Fleet(scenario, run_of(scenario))
    encoder = Encoder(fleet, KEY)
    seen: Counter = Counter()
    for block in fleet.blocks():
        for index, payload in enumerate(encoder.encode(block)):
            assert refusal(payload) == ""
            reading = json.loads(payload)
            assert list(reading)[:-1] == sorted(reading)[:2] + sorted(
                set(reading) - {"class", "device", "sig"}
            )
            device = int(block.device_index[index])
            assert reading.get("firmware") == fleet.firmware(device)
            seen[reading["class"], reading.get("firmware")] += 1
    assert seen["b", None] == 1000
    assert seen["a", "1.4.2"] == pytest.approx(900, abs=50)
    assert seen["a", "1.4.2"] + seen["a", "2.0-rc1"] == 1000


def kinds_of(*sizes):
    return [
        {
            "name": f"k{i}",
            "signals": SIGNALS,
            **({"share": s} if isinstance(s, float) else {"count": s}),
        }
        for i, s in enumerate(sizes)
    ]


@pytest.mark.parametrize(
    ("sizes", "counts"),
    [
        ((3, 17), [3, 17]),
        ((5, 1.0), [5, 15]),
        ((0.5, 6, 0.5), [7, 6, 7]),
        ((1, 1, 1.0, 2), [1, 1, 16, 2]),
    ],
)
def test_classes_are_as_many_as_they_count_and_share_the_rest(scenario_of, run_of, sizes, counts):
    scenario = scenario_of(devices=20, classes=kinds_of(*sizes))
    found = np.bincount(Fleet(scenario, run_of(scenario)).class_of, minlength=len(counts))
    assert found.tolist() == counts


def test_the_number_of_devices_follows_from_counts(tmp_path, good_text):
    text = good_text.replace("  devices: 500\n", "")
    path = tmp_path / "s.yaml"
    path.write_text(text.replace("share: 0.6", "count: 30").replace("share: 0.4", "count: 12"))
    scenario = load(path)
    assert scenario.fleet.devices == 42
    with pytest.raises(Exception, match="the classes count 42 devices, which is not 50"):
        scenario.with_overrides(devices=50)
    path.write_text(text.replace("share: 0.6", "count: 30"))
    with pytest.raises(Exception, match=r"fleet.devices: is missing"):
        load(path)


@pytest.mark.parametrize(
    ("sizes", "text"),
    [
        ((20, 1.0), "the counted classes have 20 of 20 devices, which leaves none for shares"),
        ((5, 0.5), "the shares of the classes add up to 0.5: make it 1"),
        ((5, 5), "the classes count 10 devices, which is not 20"),
    ],
)
def test_counts_that_do_not_fit_are_refused(scenario_of, sizes, text):
    with pytest.raises(ValueError, match=text):
        scenario_of(devices=20, classes=kinds_of(*sizes))
    both = [{**kinds_of(5)[0], "share": 1.0}]
    with pytest.raises(ValueError, match="a class needs a share or a count"):
        scenario_of(devices=20, classes=both)


def test_sites_have_names_and_weights(scenario_of, run_of):
    fleet = scenario_of(devices=4000).fleet
    for sites, expected in (
        (["north", "south"], {"north": 2000, "south": 2000}),
        ({"Plant 7": 3, "depot-1": 1}, {"Plant 7": 3000, "depot-1": 1000}),
        (2, {"site-000": 2000, "site-001": 2000}),
    ):
        told = type(fleet).model_validate({**fleet.model_dump(), "sites": sites})
        scenario = scenario_of(devices=4000).model_copy(update={"fleet": told})
        made = Fleet(scenario, run_of(scenario))
        found = Counter(made.site_name(device) for device in range(4000))
        assert found.keys() == expected.keys()
        for name, count in expected.items():
            assert found[name] == pytest.approx(count, abs=200)


@pytest.mark.parametrize(
    ("sites", "text"),
    [
        (0, "0 sites: use 1 to 100000"),
        ([], "give a name, a list of names"),
        (["a", "a"], "a name is there twice"),
        (["a\\b"], "use letters, digits"),
        ({"a": 0}, "the weight of 'a' must be more than 0"),
        ({"a": float("nan")}, "the weight of 'a' must be more than 0"),
        ([1.5], "1.5 is no text: write it in quotes"),
        (1.5, "1.5 is a number: write it in quotes"),
    ],
)
def test_sites_that_cannot_be_used_are_refused(scenario_of, sites, text):
    fleet = scenario_of().fleet
    with pytest.raises(ValueError, match=text):
        type(fleet).model_validate({**fleet.model_dump(), "sites": sites})
