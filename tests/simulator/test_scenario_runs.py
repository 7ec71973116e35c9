from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fleetcast.errors import UsageError
from simulator.scenario import RunInfo, load, load_run, validate_run_id
from simulator.units import duration_s, rate_per_s, signed_duration_s, time_of_day_s


@pytest.fixture
def good(tmp_path, good_text):
    path = tmp_path / "tested.yaml"
    path.write_text(good_text)
    return load(path)


def test_a_good_scenario_is_read_with_units_and_defaults(good):
    assert (good.name, good.seed, good.fleet.devices, good.fleet.sites) == ("tested", 7, 500, 2)
    assert [kind.name for kind in good.fleet.classes] == ["cold-chain", "meter"]
    assert good.fleet.classes[0].signals["battery"].life.value == 36_000
    assert (good.rate[0].start, good.rate[0].end, good.rate[0].duration) == (0, 200, 5)
    assert (good.profile.total, good.profile.duration_s, good.profile.peak) == (3500, 20, 200)
    assert (good.faults[0].start, good.faults[1].start) == (4, 0)
    assert (good.expect.lost, good.expect.duplicated, good.expect.failed) == (0, 0, 0)
    assert good.expect.rate_error_pct == 1.0
    assert good.expect.landing_latency_p99 is None
    assert good.expect.alarms[0].recovers_within is None


def test_devices_and_seed_are_overridden_alone(good):
    changed = good.with_overrides(devices=1000, seed=9)
    assert (changed.fleet.devices, changed.seed) == (1000, 9)
    assert changed.rate == good.rate
    assert changed.faults == good.faults
    assert (good.fleet.devices, good.seed) == (500, 7)


@pytest.mark.parametrize("rate", ["400/s", "24000/m", 400, "400"])
def test_a_rate_override_sets_the_peak_and_keeps_the_shape(good, rate):
    changed = good.with_overrides(rate=rate)
    assert (changed.rate[0].start, changed.rate[0].end) == (0, 400)
    assert changed.rate[1].rate == 400
    assert changed.profile.duration_s == 20
    assert changed.profile.total == 7000
    assert changed.faults == good.faults


@pytest.mark.parametrize("duration", ["40s", 40, "40", "40000ms"])
def test_a_duration_override_stretches_phases_and_faults(good, duration):
    changed = good.with_overrides(duration=duration)
    assert [phase.duration for phase in changed.rate] == [10, 30]
    assert changed.profile.total == 7000
    assert [(f.start, f.duration) for f in changed.faults] == [(8, 16), (0, 4)]
    assert changed.expect == good.expect


def test_no_overrides_change_nothing(good):
    assert good.with_overrides() == good


@pytest.mark.parametrize(
    ("overrides", "text"),
    [
        ({"devices": 0}, "fleet.devices: Input should be greater than or equal to 1"),
        ({"devices": -5}, "fleet.devices: Input should be greater than or equal to 1"),
        ({"rate": "fast"}, "'fast' is not a rate: write 2000/s or 30/m"),
        ({"rate": -5}, "-5 is not a rate: it must be 0 or more"),
        ({"rate": "nan"}, "nan is not a rate: it must be 0 or more"),
        ({"rate": 0}, "a ramp from 0 to 0 sends nothing"),
        ({"duration": "long"}, "'long' is not a duration: write 500ms, 10s, 5m or 2h"),
        ({"duration": 0}, "duration: must be more than 0"),
        ({"seed": -1}, "seed: Input should be greater than or equal to 0"),
        (
            {"devices": 1, "rate": 1000},
            (
                "rate.0: 1000/s over 1 devices is a reading of each every 1.00 ms: "
                "at least 2 ms are needed, so use 3 devices or a lower rate"
            ),
        ),
    ],
)
def test_an_override_that_does_not_fit_is_refused(good, overrides, text):
    with pytest.raises(UsageError) as caught:
        good.with_overrides(**overrides)
    assert str(caught.value) == f"scenario tested with these options: {text}"


def test_a_saved_run_is_read_back_as_it_was(tmp_path, good):
    run = RunInfo("run-1", 1_700_000_000_123, "local", "dev", "kinesis", (10, 200))
    good.save(tmp_path / "scenario.yaml", run)
    assert load_run(tmp_path) == (good, run)


def test_an_expectation_that_was_switched_off_stays_off(tmp_path, scenario_of):
    scenario = scenario_of(expect={"rate_error_pct": None})
    assert scenario.expect.rate_error_pct is None
    scenario.save(tmp_path / "scenario.yaml", RunInfo("r", 1, "local", "dev", "kinesis", (0, 9)))
    assert load_run(tmp_path)[0].expect.rate_error_pct is None


@settings(deadline=None, max_examples=150)
@given(
    rate=st.floats(1e-6, 1e5),
    per=st.sampled_from(["s", "m", "h"]),
    duration=st.floats(1e-4, 1e5),
    stretch=st.one_of(st.none(), st.floats(1e-3, 1e4)),
)
def test_a_saved_run_has_the_schedule_that_was_driven(
    tmp_path_factory, scenario_of, rate, per, duration, stretch
):
    scenario = scenario_of(
        devices=10_000,
        rate=[
            {"shape": "constant", "rate": f"{rate:.12f}/{per}", "duration": f"{duration:.9f}s"},
            {"shape": "ramp", "start": 1, "end": rate, "duration": duration / 3},
        ],
    )
    if stretch is not None:
        scenario = scenario.with_overrides(duration=stretch)
    folder = tmp_path_factory.mktemp("run")
    run = RunInfo("run-1", 1, "local", "dev", "kinesis", (0, 10_000))
    scenario.save(folder / "scenario.yaml", run)
    assert load_run(folder) == (scenario, run)


@pytest.mark.parametrize(
    "run",
    ["", "run: text\n", "run: {id: a}\n", "run: 3\n", "run: [1, 2]\n", "run: {devices_slice: 3}\n"],
)
def test_a_folder_without_a_described_run_is_refused(tmp_path, good_text, run):
    (tmp_path / "scenario.yaml").write_text(good_text + run)
    with pytest.raises(UsageError, match="the run it belongs to is not described"):
        load_run(tmp_path)


def test_a_folder_without_a_scenario_is_refused(tmp_path):
    with pytest.raises(UsageError, match="cannot read scenario"):
        load_run(tmp_path)


@pytest.mark.parametrize("run_id", ["a", "2024-01-02_03.04", "A" * 64])
def test_a_run_id_can_name_a_folder(run_id):
    validate_run_id(run_id)


@pytest.mark.parametrize("run_id", ["", ".", "..", "-a", "a/b", "a b", "a\n", "é", "A" * 65])
def test_a_run_id_that_cannot_name_a_folder_is_refused(run_id):
    with pytest.raises(UsageError) as caught:
        validate_run_id(run_id)
    assert str(caught.value).startswith(f"run id {run_id!r}: use up to 64 letters")


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("500ms", 0.5),
        ("10s", 10),
        ("1.5m", 90),
        (" 2 h ", 7200),
        ("1d", 86400),
        (3, 3),
        (0.25, 0.25),
    ],
)
def test_durations_are_read(text, seconds):
    assert duration_s(text) == seconds


@pytest.mark.parametrize("text", ["", "s", "10", "10 s s", "-1s", "1e3s", "1,5s", None, True, []])
def test_what_is_no_duration_is_refused(text):
    with pytest.raises(ValueError, match="is not a duration"):
        duration_s(text)


@pytest.mark.parametrize(
    ("text", "rate"), [("2000/s", 2000), ("30/m", 0.5), (" 3600 / h ", 1), (7, 7), (0.5, 0.5)]
)
def test_rates_are_read(text, rate):
    assert rate_per_s(text) == rate


@pytest.mark.parametrize("text", ["", "/s", "10", "10/d", "-1/s", None, False, math.nan, math.inf])
def test_what_is_no_rate_is_refused(text):
    with pytest.raises(ValueError, match="is not a rate"):
        rate_per_s(text)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("06:30", 23_400),
        ("00:00", 0),
        ("23:59:59", 86_399),
        # What YAML makes of an unquoted 15:00, and of 15:00:30.
        (900, 54_000),
        (54_030, 54_030),
    ],
)
def test_times_of_day_are_read_and_written_as_read(text, seconds, scenario_of):
    assert time_of_day_s(text) == seconds
    scenario = scenario_of(time_of_day=text)
    told = scenario.model_dump(mode="json")["time_of_day"]
    assert time_of_day_s(told) == seconds


@pytest.mark.parametrize("text", ["24:00", "7", "12:60", "", None, True, 7, -900, 5.5, "noon"])
def test_what_is_no_time_of_day_is_refused(text):
    with pytest.raises(ValueError, match="is not a time of day: write 06:30"):
        time_of_day_s(text)


@pytest.mark.parametrize(("text", "seconds"), [("-90s", -90), ("5m", 300), (-3, -3), (2, 2)])
def test_durations_may_be_negative_where_they_are_offsets(text, seconds):
    assert signed_duration_s(text) == seconds


@pytest.mark.parametrize("text", ["--5s", "-", "- 5 parsecs", math.nan, -math.inf, False])
def test_what_is_no_offset_is_refused(text):
    with pytest.raises(ValueError, match="is not a duration"):
        signed_duration_s(text)
