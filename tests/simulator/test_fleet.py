from __future__ import annotations

import math
from collections import Counter
from dataclasses import fields

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simulator import fleet as fleet_module
from simulator.faults import REASONS
from simulator.fleet import Fleet

SIGNAL = {"model": "normal", "mean": 1, "sigma": 1}
OVERHEAT = {
    "name": "hot",
    "kind": "overheat",
    "signal": "temperature",
    "offset": 80,
    "share": 0.2,
    "start": "1s",
    "duration": "2s",
}
CORRUPT = {"name": "broken", "kind": "corrupt", "share": 0.1, "start": "2s", "duration": "2s"}


# What a column that is left out means.
DEFAULTS = {"sends": 1, "delay_s": 0.0, "partition_key": None, "refusal": 0}


def columns(blocks) -> dict[str, list]:
    """All readings, column by column; NaN as None, so that equality can be asked."""
    told: dict[str, list] = {}
    for block in blocks:
        for field in fields(block):
            if field.name == "values":
                continue
            column = getattr(block, field.name)
            if column is None:
                column = [DEFAULTS[field.name]] * len(block)
            told.setdefault(field.name, []).extend(np.asarray(column).tolist())
        for name, column in block.values.items():
            plain = [None if math.isnan(value) else value for value in column.tolist()]
            told.setdefault(name, []).extend(plain)
    return told


def rows(blocks) -> list[tuple]:
    told = columns(blocks)
    return list(zip(*(told[name] for name in sorted(told)), strict=True)) if told else []


def classes_of(*shares: float) -> list[dict]:
    return [
        {"name": f"kind-{index}", "share": share, "signals": {"value": SIGNAL}}
        for index, share in enumerate(shares)
    ]


@pytest.mark.parametrize(
    ("devices", "shares"),
    [
        (1500, (0.6, 0.3, 0.1)),
        (1000, (0.333, 0.333, 0.334)),
        (10, (0.1, 0.2, 0.3, 0.4)),
        (7, (1.0,)),
        (20, (0.05, 0.95)),
    ],
)
def test_class_shares_are_exact_where_they_come_to_whole_devices(
    scenario_of, run_of, devices, shares
):
    for seed in range(5):
        scenario = scenario_of(devices=devices, classes=classes_of(*shares), seed=seed)
        counts = Counter(Fleet(scenario, run_of(scenario)).class_of.tolist())
        assert counts == {index: round(share * devices) for index, share in enumerate(shares)}


@settings(deadline=None, max_examples=60)
@given(st.integers(1, 400), st.lists(st.integers(1, 50), min_size=1, max_size=6), st.integers(0))
def test_class_shares_are_within_one_device(scenario_of, run_of, devices, parts, seed):
    shares = [part / sum(parts) for part in parts]
    scenario = scenario_of(
        devices=devices,
        classes=classes_of(*shares),
        seed=seed % 2**63,
        rate=[{"shape": "constant", "rate": 1, "duration": 5}],
    )
    fleet = Fleet(scenario, run_of(scenario))
    counts = Counter(fleet.class_of.tolist())
    assert sum(counts.values()) == devices
    for index, share in enumerate(shares):
        assert abs(counts[index] - share * devices) <= 1 + 1e-6
    assert fleet.class_name(0) == f"kind-{fleet.class_of[0]}"


def test_devices_are_named_by_number_and_spread_over_the_sites(scenario_of, run_of):
    scenario = scenario_of(devices=3000)
    fleet = Fleet(scenario, run_of(scenario))
    assert fleet.device_ids[0] == "dev-000000"
    assert fleet.device_ids[2999] == "dev-002999"
    counts = Counter(fleet.site_name(device) for device in range(3000))
    assert counts.keys() == {"site-000", "site-001", "site-002"}
    assert min(counts.values()) > 900


def test_readings_are_numbered_in_order_and_devices_take_turns(scenario_of, run_of):
    scenario = scenario_of(devices=50)
    fleet = Fleet(scenario, run_of(scenario))
    told = columns(fleet.blocks())
    assert told["k"] == list(range(500)) == list(range(fleet.total))
    first, second = told["device_index"][:50], told["device_index"][50:100]
    assert first == second
    assert sorted(first) == list(range(50))
    assert first != list(range(50))
    assert told["seq"] == [k // 50 for k in range(500)]
    assert told["scheduled_s"] == pytest.approx([k / 100 for k in range(500)])
    assert told["ts_ms"] == [1_700_000_000_000 + k * 10 for k in range(500)]


def test_a_device_tells_only_the_signals_of_its_class(scenario_of, run_of):
    scenario = scenario_of(devices=50)
    fleet = Fleet(scenario, run_of(scenario))
    assert fleet.signal_names == ["humidity", "power", "speed", "temperature"]
    assert fleet.decimals == {"humidity": 1, "power": 2, "speed": 2, "temperature": 2}
    told = columns(fleet.blocks())
    for name, kind in (("temperature", 0), ("humidity", 0), ("speed", 1), ("power", 1)):
        has = [value is not None for value in told[name]]
        assert has == [index == kind for index in told["class_index"]]


def test_values_are_rounded_to_the_decimals_of_their_class(scenario_of, run_of):
    classes = [
        {"name": "fine", "share": 0.5, "signals": {"value": {**SIGNAL, "decimals": 4}}},
        {"name": "coarse", "share": 0.5, "signals": {"value": {**SIGNAL, "decimals": 0}}},
    ]
    scenario = scenario_of(classes=classes)
    told = columns(Fleet(scenario, run_of(scenario)).blocks())
    for value, kind in zip(told["value"], told["class_index"], strict=True):
        assert value == round(value, 0 if kind else 4)
        assert math.copysign(1, value) == 1 or value < 0
    assert any(value != round(value, 3) for value in told["value"])


@settings(deadline=None, max_examples=25)
@given(size=st.integers(1, 120), devices=st.integers(1, 60))
def test_readings_do_not_depend_on_the_size_of_blocks(scenario_of, run_of, size, devices):
    scenario = scenario_of(devices=devices, faults=[OVERHEAT, CORRUPT])
    fleet = Fleet(scenario, run_of(scenario))
    blocks = list(fleet.blocks(size=size))
    assert all(1 <= len(block) <= min(size, devices) for block in blocks)
    assert all(len(set(block.device_index.tolist())) == len(block) for block in blocks)
    assert rows(blocks) == rows(fleet.blocks())


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 520), st.integers(0, 520), st.integers(1, 80))
def test_a_stretch_of_the_run_has_the_readings_of_the_whole(scenario_of, run_of, one, other, size):
    scenario = scenario_of(faults=[OVERHEAT, CORRUPT])
    fleet = Fleet(scenario, run_of(scenario))
    first, last = sorted((one, other))
    assert rows(fleet.blocks(first, last, size)) == rows(fleet.blocks())[first:last]


@settings(deadline=None, max_examples=25)
@given(devices=st.integers(1, 80), data=st.data())
def test_slices_of_the_fleet_together_give_the_readings_of_the_whole(
    scenario_of, run_of, devices, data
):
    scenario = scenario_of(devices=devices, faults=[OVERHEAT, CORRUPT])
    whole = rows(Fleet(scenario, run_of(scenario)).blocks())
    cuts = sorted(data.draw(st.lists(st.integers(0, devices), max_size=3)))
    parts = []
    for first, last in zip([0, *cuts], [*cuts, devices], strict=True):
        fleet = Fleet(scenario, run_of(scenario, (first, last)))
        part = list(fleet.blocks(size=17))
        assert sum(len(block) for block in part) == fleet.total
        for block in part:
            assert np.all((block.device_index >= first) & (block.device_index < last))
            assert np.all(np.diff(block.k) > 0)
        parts += rows(part)
    at = sorted(columns(Fleet(scenario, run_of(scenario)).blocks(size=1))).index("k")
    assert sorted(parts, key=lambda row: row[at]) == whole


@settings(deadline=None, max_examples=60)
@given(devices=st.integers(1, 200), seed=st.integers(0, 2**63 - 1))
def test_a_readings_number_and_its_device_are_inverse(scenario_of, run_of, devices, seed):
    scenario = scenario_of(devices=devices, seed=seed)
    fleet = Fleet(scenario, run_of(scenario))
    numbers = np.arange(fleet.profile.total)
    turned = fleet.devices_in_turn(numbers).tolist()
    for k, device in zip(numbers.tolist(), turned, strict=True):
        assert fleet.number(fleet.device_ids[device], k // devices) == k
    told = columns(fleet.blocks())
    assert told["device_index"] == turned


@pytest.mark.parametrize(
    ("device", "seq"),
    [
        ("dev-000000", -1),
        ("dev-000000", 10),
        ("dev-000050", 0),
        ("dev-0", 0),
        ("dev-0000000", 0),
        ("000000", 0),
        ("dev-", 0),
        ("", 0),
        ("dev-\N{SUPERSCRIPT TWO}", 0),
        ("dev-" + 6 * "\N{ARABIC-INDIC DIGIT ZERO}", 0),
        ("dev--00001", 0),
        ("DEV-000000", 0),
        ("dev-000000 ", 0),
    ],
)
def test_what_is_no_reading_of_the_fleet_has_no_number(scenario_of, run_of, device, seq):
    scenario = scenario_of(devices=50)
    assert Fleet(scenario, run_of(scenario)).number(device, seq) == -1


def test_the_last_round_ends_where_the_run_ends(scenario_of, run_of):
    scenario = scenario_of(
        devices=50, rate=[{"shape": "constant", "rate": "103/s", "duration": "1s"}]
    )
    fleet = Fleet(scenario, run_of(scenario))
    last_round = [fleet.number(device, 2) for device in fleet.device_ids]
    assert sorted(k for k in last_round if k >= 0) == [100, 101, 102]


def test_another_seed_gives_another_fleet(scenario_of, run_of):
    one, other = (scenario_of(seed=seed) for seed in (1, 2))
    fleets = [Fleet(scenario, run_of(scenario)) for scenario in (one, other)]
    assert fleets[0].class_of.tolist() != fleets[1].class_of.tolist()
    assert fleets[0].site_of.tolist() != fleets[1].site_of.tolist()
    told = [columns(fleet.blocks()) for fleet in fleets]
    assert told[0]["device_index"] != told[1]["device_index"]


def test_overheating_is_on_its_share_of_the_devices_within_its_window(scenario_of, run_of):
    scenario = scenario_of(faults=[OVERHEAT])
    healthy = scenario_of()
    sick, well = (columns(Fleet(s, run_of(s)).blocks()) for s in (scenario, healthy))
    hot = [bool(fault) for fault in sick["fault"]]
    # A fifth of the 30 devices of the class that has the signal, four readings of each.
    devices = {d for d, on in zip(sick["device_index"], hot, strict=True) if on}
    assert len(devices) == 6
    window = [1 <= t < 3 for t in sick["scheduled_s"]]
    assert hot == [
        inside and device in devices
        for inside, device in zip(window, sick["device_index"], strict=True)
    ]
    for index, on in enumerate(hot):
        before, after = well["temperature"][index], sick["temperature"][index]
        if on:
            assert after == pytest.approx(before + 80, abs=0.011)
        else:
            assert after == before
        assert sick["humidity"][index] == well["humidity"][index]


def test_a_fault_is_on_one_device_at_least(scenario_of, run_of):
    scenario = scenario_of(faults=[{**OVERHEAT, "share": 0.001}])
    told = columns(Fleet(scenario, run_of(scenario)).blocks())
    assert len({d for d, on in zip(told["device_index"], told["fault"], strict=True) if on}) == 1


def test_corruption_is_on_its_share_of_the_readings_within_its_window(scenario_of, run_of):
    scenario = scenario_of(
        devices=100,
        rate=[{"shape": "constant", "rate": "2000/s", "duration": "5s"}],
        faults=[CORRUPT],
    )
    told = columns(Fleet(scenario, run_of(scenario)).blocks())
    on = [t for t, fault in zip(told["scheduled_s"], told["fault"], strict=True) if fault]
    assert min(on) >= 2
    assert max(on) < 4
    assert len(on) == pytest.approx(0.1 * 4000, rel=0.1)


def test_a_corrupt_reading_stays_corrupt_whatever_else_is_on_it(scenario_of, run_of):
    everywhere = {"share": 1.0, "start": "0s", "duration": "5s"}
    hot, broken = {**OVERHEAT, **everywhere}, {**CORRUPT, **everywhere}
    for faults, corrupt in (([hot, broken], 2), ([broken, hot], 1)):
        scenario = scenario_of(faults=faults)
        told = columns(Fleet(scenario, run_of(scenario)).blocks())
        assert set(told["fault"]) == {corrupt}
        assert min(v for v in told["temperature"] if v is not None) > 70


def test_only_corruption_is_expected_to_be_refused(scenario_of, run_of):
    scenario = scenario_of(faults=[OVERHEAT, {**CORRUPT, "kinds": ["truncated"]}])
    told = columns(Fleet(scenario, run_of(scenario)).blocks())
    assert set(zip(told["fault"], told["refusal"], strict=True)) == {
        (0, 0), (1, 0), (2, REASONS.index("not_json")),
    }  # fmt: skip


def test_an_empty_slice_has_no_readings(scenario_of, run_of):
    scenario = scenario_of()
    fleet = Fleet(scenario, run_of(scenario, (20, 20)))
    assert fleet.total == 0
    assert list(fleet.blocks()) == []


def test_a_herd_sends_all_at_once_and_the_same_values_in_each_round(scenario_of, run_of):
    rate = [{"shape": "constant", "rate": "100/s", "duration": "5s"}]
    herd = scenario_of(rate=rate)
    fleet = herd.fleet.model_copy(update={"spread": "herd"})
    herd = herd.model_copy(update={"fleet": fleet})
    told = columns(Fleet(herd, run_of(herd)).blocks())
    assert told["scheduled_s"] == pytest.approx([k // 50 * 0.5 for k in range(500)])
    even = scenario_of(rate=rate)
    spread = columns(Fleet(even, run_of(even)).blocks())
    assert told["device_index"] == spread["device_index"]
    assert told["humidity"] == spread["humidity"]
    with_ts = zip(told["device_index"], told["ts_ms"], strict=True)
    assert len(set(with_ts)) == 500


@settings(deadline=None, max_examples=25)
@given(
    first=st.integers(0, 300),
    size=st.integers(1, 90),
    spread=st.sampled_from(["even", "herd"]),
)
def test_random_arrivals_are_the_same_in_slices_and_blocks(
    scenario_of, run_of, first, size, spread
):
    rate = [
        {"shape": "poisson", "rate": "100/s", "duration": "2s"},
        {"shape": "sine", "mean": 80, "amplitude": 60, "period": 1, "duration": 2},
    ]
    scenario = scenario_of(rate=rate)
    fleet = scenario.fleet.model_copy(update={"spread": spread})
    scenario = scenario.model_copy(update={"fleet": fleet})
    whole = rows(Fleet(scenario, run_of(scenario)).blocks())
    assert rows(Fleet(scenario, run_of(scenario)).blocks(first, None, size)) == whole[first:]
    parts = [
        row
        for part in ((0, 13), (13, 50))
        for row in rows(Fleet(scenario, run_of(scenario, part)).blocks(size=size))
    ]
    assert sorted(map(str, parts)) == sorted(map(str, whole))


def test_names_of_very_many_devices_are_made_when_asked_for(scenario_of, run_of, monkeypatch):
    scenario = scenario_of(devices=50)
    kept = Fleet(scenario, run_of(scenario))
    names = kept.device_ids
    monkeypatch.setattr(fleet_module, "MOST_NAMES", 10)
    made = Fleet(scenario, run_of(scenario))
    assert isinstance(made.device_ids, fleet_module.DeviceNames)
    assert list(made.device_ids) == names
    assert (len(made.device_ids), made.device_ids[-1]) == (50, "dev-000049")
    assert made.device_ids[3:5] == ["dev-000003", "dev-000004"]
    assert rows(made.blocks()) == rows(kept.blocks())
    with pytest.raises(IndexError):
        made.device_ids[50]
