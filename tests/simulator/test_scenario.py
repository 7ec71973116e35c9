from __future__ import annotations

import pytest

from fleetcast.errors import ExitCode, UsageError
from simulator.scenario import complaints, load

PATTERN = "use lower-case letters, digits and hyphens (underscores in signals), a letter first"
# What is replaced, by what, and the line and the text of the complaint.
BAD = {
    "a field is missing": ("name: tested\n", "", 1, "name: is missing"),
    "a bad name": ("name: tested", "name: Tested 1", 1, f"name: 'Tested 1': {PATTERN}"),
    "an unknown field": (
        "seed: 7", "sede: 7", 3, "sede: there is no such field: check its spelling"
    ),
    "a negative seed": (
        "seed: 7", "seed: -1", 3, "seed: Input should be greater than or equal to 0"
    ),
    "no devices": (
        "devices: 500", "devices: 0", 5,
        "fleet.devices: Input should be greater than or equal to 1",
    ),
    "devices in words": (
        "devices: 500", "devices: many", 5,
        "fleet.devices: Input should be a valid integer, unable to parse string as an integer",
    ),
    "an unknown field inside": (
        "  sites: 2", "  towns: 2", 6, "fleet.towns: there is no such field: check its spelling"
    ),
    "shares that are too little": (
        "share: 0.4", "share: 0.3", 4,
        "fleet: the shares of the classes add up to 0.9: make it 1",
    ),
    "shares that are too much": (
        "share: 0.6", "share: 0.7", 4,
        "fleet: the shares of the classes add up to 1.1: make it 1",
    ),
    "a share of nothing": (
        "share: 0.4", "share: 0", 14, "fleet.classes.1.share: Input should be greater than 0"
    ),
    "a bad class name": (
        "name: meter", "name: my_meter", 13, f"fleet.classes.1.name: 'my_meter': {PATTERN}"
    ),
    "two classes of one name": (
        "name: meter", "name: cold-chain", 4, "fleet: two classes have the same name"
    ),
    "a misspelt signal model": (
        "model: sine", "model: sinus", 16,
        "fleet.classes.1.signals.power: unknown model 'sinus': did you mean sine?",
    ),
    "an unknown signal model": (
        "model: sine", "model: zigzag", 16,
        ("fleet.classes.1.signals.power: unknown model 'zigzag': known are constant, uniform, "
        "normal, sine, diurnal, ornstein_uhlenbeck, random_walk, ramp, decay, square, sawtooth, "
        "markov, counter, battery, route, correlated, linear, replay, plugin"),
    ),
    "a signal without a model": (
        "model: sine, ", "", 16, "fleet.classes.1.signals.power: 'model' is missing"
    ),
    "a signal that lacks a number": (
        "amplitude: 200, ", "", 16, "fleet.classes.1.signals.power.amplitude: is missing"
    ),
    "a signal with a number too many": (
        "period: 60s", "period: 60s, slope: 2", 16,
        "fleet.classes.1.signals.power.slope: there is no such field: check its spelling",
    ),
    "a signal named like its model": (
        "life: 10h", "life: 10 hours", 12,
        ("fleet.classes.0.signals.battery.life: "
        "'10 hours' is not a duration: write 500ms, 10s, 5m or 2h"),
    ),
    "a signal that never ends": (
        "life: 10h", "life: 0h", 12,
        "fleet.classes.0.signals.battery.life: must be more than 0",
    ),
    "a signal named like a list of the file": (
        "power: {model: sine, mean: 300", "rate: {model: sine, mean: much", 16,
        ("fleet.classes.1.signals.rate.mean: "
        "'much' is not a number: write 4 or {normal: {mean: 4, sd: 1}}"),
    ),
    "a bad signal name": (
        "power: {", "Power-W: {", 16, f"fleet.classes.1.signals.Power-W: 'Power-W': {PATTERN}"
    ),
    "a mean that is no number": (
        "mean: 300", "mean: .nan", 16,
        "fleet.classes.1.signals.power.mean: nan is not a finite number",
    ),
    "a signal of a taken name": (
        "power: {", "site: {", 15,
        "fleet.classes.1.signals: signal name 'site' is a column of its own: use another",
    ),
    "a bad duration": (
        "duration: 15s", "duration: 15 parsecs", 21,
        "rate.1.duration: '15 parsecs' is not a duration: write 500ms, 10s, 5m or 2h",
    ),
    "a negative duration": (
        "duration: 15s", "duration: -15", 21,
        "rate.1.duration: -15 is not a duration: it must be 0 or more",
    ),
    "an endless duration": (
        "duration: 15s", "duration: .inf", 21,
        "rate.1.duration: inf is not a duration: it must be 0 or more",
    ),
    "a duration that is true": (
        "duration: 15s", "duration: yes", 21,
        "rate.1.duration: True is not a duration: write 500ms, 10s, 5m or 2h",
    ),
    "a phase of no time": (
        "duration: 15s", "duration: 0s", 21, "rate.1.duration: must be more than 0"
    ),
    "a bad rate": (
        "    rate: 200/s", "    rate: 200 a second", 20,
        "rate.1.rate: '200 a second' is not a rate: write 2000/s or 30/m",
    ),
    "a ramp between nothing and nothing": (
        "end: 200/s", "end: 0/s", 18, "rate.0: a ramp from 0 to 0 sends nothing"
    ),
    "an unknown shape": (
        "shape: constant", "shape: burst", 19,
        ("rate.1: unknown shape 'burst': known are constant, poisson, ramp, steps, spike, sine, "
        "diurnal, trace"),
    ),
    "a rate that a device cannot keep": (
        "    rate: 200/s", "    rate: 500000/s", 19,
        ("rate.1: 500000/s over 500 devices is a reading of each every 1.00 ms: "
        "at least 2 ms are needed, so use 1001 devices or a lower rate"),
    ),
    "a fault on a signal of nobody": (
        "signal: temperature", "signal: pressure", 23,
        "faults.0.signal: hot is on signal 'pressure', which no class has",
    ),
    "two faults of one name": (
        "name: broken", "name: hot", 24, "faults.1.name: two faults have the name 'hot'"
    ),
    "a fault after the run": (
        "start: 4s", "start: 20s", 23, "faults.0.start: hot begins at 20 s of a run of 20 s"
    ),
    "a fault of no time": (
        "duration: 2s", "duration: 0s", 27, "faults.1.duration: must be more than 0"
    ),
    "a fault on more than all": (
        "share: 0.1", "share: 1.5", 26,
        "faults.1.share: Input should be less than or equal to 1",
    ),
    "an unknown fault": (
        "kind: corrupt", "kind: corupt", 24,
        "faults.1: unknown kind 'corupt': did you mean corrupt?",
    ),
    "a fault on nobody in particular": (
        "    share: 0.1\n", "", 24, "faults.1.share: is missing: give a share, classes or devices"
    ),
    "a fault on a class of nobody": (
        "    duration: 2s", "    duration: 2s\n    classes: [metre]", 28,
        "faults.1.classes: there is no class 'metre': known are cold-chain, meter",
    ),
    "a fault on a class without the signal": (
        "signal: temperature,", "signal: temperature, classes: [meter],", 23,
        "faults.0.signal: hot is on signal 'temperature', which none of the classes meter has",
    ),
    "a fault on a device beyond the fleet": (
        "    duration: 2s", "    duration: 2s\n    devices: [3, 490-500]", 28,
        ("faults.1.devices: '490-500' is beyond the fleet's 500 devices, which are numbered "
        "from 0"),
    ),
    "a fault on what is no device": (
        "    duration: 2s", "    duration: 2s\n    devices: [all]", 28,
        "faults.1.devices: 'all' is no device: write 7, dev-000007 or 10-19",
    ),
    "a window that overtakes itself": (
        "    duration: 2s", "    duration: 2s\n    every: 2s", 28,
        "faults.1.every: must be more than the duration of the window",
    ),
    "a shift to the edge of what Timestream takes": (
        "kind: corrupt", "kind: late\n    by: 24h", 24,
        ("faults.1: broken moves timestamps to the memory store's 24 h, where Timestream may take "
        "them or not: stay 120 s away from it"),
    ),
    "a clock that is right": (
        "kind: corrupt", "kind: clock_skew\n    offset: 0s", 26,
        "faults.1.offset: an offset of 0 is no fault: write 90s or -90s",
    ),
    "an unknown corruption": (
        "    duration: 2s", "    duration: 2s\n    kinds: [truncated, burnt]", 28,
        ("faults.1.kinds.1: Input should be 'truncated', 'not_an_object', 'missing_field', "
        "'wrong_type', 'out_of_range', 'bad_signature', 'unsupported_version', 'not_utf8', "
        "'not_a_number' or 'missing_signature'"),
    ),
    "a misspelt alarm of a fault": (
        "    duration: 2s", "    duration: 2s\n    alarm: refused-reading", 28,
        "faults.1.alarm: unknown alarm 'refused-reading': did you mean refused-readings?",
    ),
    "a misspelt alarm": (
        "critical-readings", "critical-reading", 31,
        "expect.alarms.0.name: unknown alarm 'critical-reading': did you mean critical-readings?",
    ),
    "a bad time for an alarm": (
        "fires_within: 45s", "fires_within: soon", 31,
        ("expect.alarms.0.fires_within: "
        "'soon' is not a duration: write 500ms, 10s, 5m or 2h"),
    ),
    "a loss below nothing": (
        "lost: 0", "lost: -1", 29, "expect.lost: Input should be greater than or equal to 0"
    ),
    "a line that is no YAML": (
        "  sites: 2", "  sites: [2", 7, "not YAML: expected ',' or ']', but got ':'"
    ),
    "a tab": (
        "  sites: 2", "\tsites: 2", 6,
        "not YAML: found character '\\t' that cannot start any token",
    ),
    "an unknown anchor": (
        "seed: 7", "seed: *other", 3, "not YAML: found undefined alias 'other'"
    ),
    "the same key twice": (
        "  sites: 2", "  devices: 2", 6, "'devices' is there twice: keep one"
    ),
    "the same signal twice": (
        "battery: {model: battery, life: 10h}", "temperature: {model: constant, value: 2}", 12,
        "'temperature' is there twice: keep one",
    ),
}  # fmt: skip


def write(tmp_path, text: str):
    path = tmp_path / "tested.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def complaint(path) -> str:
    with pytest.raises(UsageError) as caught:
        load(path)
    assert caught.value.exit_code == ExitCode.USAGE
    return str(caught.value)


@pytest.mark.parametrize("case", sorted(BAD))
def test_a_bad_scenario_is_refused_with_line_field_and_hint(tmp_path, good_text, case):
    old, new, line, text = BAD[case]
    assert good_text.count(old) == 1
    path = write(tmp_path, good_text.replace(old, new))
    assert complaint(path) == f"{path}:{line}: {text}"


def test_random_arrivals_over_too_few_devices_are_refused(tmp_path, good_text):
    text = good_text.replace("shape: constant", "shape: poisson").replace("500", "2")
    path = write(tmp_path, text)
    assert complaint(path) == (
        f"{path}:19: rate.1: at random, 200/s over 2 devices can be two readings of one within "
        "2 ms: use 10 devices or a lower rate"
    )


@pytest.mark.parametrize("empty", ["", "# nothing\n", "- a\n- list\n", "just text\n", "3\n"])
def test_a_file_that_is_no_mapping_is_refused(tmp_path, empty):
    path = write(tmp_path, empty)
    assert complaint(path) == f"{path}: a scenario is a mapping with name, fleet and rate"


def test_a_file_that_is_not_there_or_no_text_is_refused(tmp_path):
    path = tmp_path / "nowhere.yaml"
    assert complaint(path).startswith(f"cannot read scenario {path}: ")
    path.write_bytes(b"name: \xff\xfe\n")
    assert complaint(path).startswith(f"cannot read scenario {path}: ")
    assert complaint(tmp_path).startswith(f"cannot read scenario {tmp_path}: ")


@pytest.mark.parametrize("value", ["2024-13-45", "!!int twelve", "!!float many", "\x07"])
def test_a_value_that_yaml_cannot_make_is_refused(tmp_path, good_text, value):
    path = write(tmp_path, good_text.replace("One that can be used.", value))
    assert complaint(path).startswith(f"{path}")
    assert ": not YAML: " in complaint(path)


@pytest.mark.parametrize(
    ("field", "text"),
    [
        ("rate", "rate: Input should be a valid list"),
        ("fleet", "fleet: Input should be a valid dictionary or instance of FleetSpec"),
        ("expect", "expect: Input should be a valid dictionary or instance of Expectations"),
    ],
)
def test_a_field_of_the_wrong_form_is_refused(tmp_path, good_text, field, text):
    kept = [block for block in blocks(good_text) if not block.startswith(f"{field}:")]
    path = write(tmp_path, "".join(kept) + f"{field}: 3\n")
    line = sum(block.count("\n") for block in kept) + 1
    assert complaint(path) == f"{path}:{line}: {text}"


@pytest.mark.parametrize("field", ["classes", "faults"])
def test_there_are_at_most_255_of_a_kind(scenario_of, field):
    signals = {"temperature": {"model": "constant", "value": 1}}
    faults = [
        {"name": f"f{n}", "kind": "corrupt", "share": 0.1, "duration": "1s"} for n in range(256)
    ]
    classes = [{"name": f"c{n}", "share": 1 / 256, "signals": signals} for n in range(256)]
    many = {"classes": classes} if field == "classes" else {"faults": faults}
    with pytest.raises(ValueError, match="should have at most 255 items"):
        scenario_of(**many)
    scenario = scenario_of(faults=faults[:255])
    assert len(scenario.faults) == 255


def blocks(text: str) -> list[str]:
    """The text cut before each line that is not indented."""
    found: list[str] = []
    for line in text.splitlines(keepends=True):
        if line[0] == " ":
            found[-1] += line
        else:
            found.append(line)
    return found


def test_a_latency_is_not_asked_of_readings_that_a_fault_moves(tmp_path, good_text):
    text = good_text.replace("kind: corrupt", "kind: late\n    by: 5m")
    path = write(tmp_path, text.replace("  lost: 0", "  landing_latency_p99: 5s"))
    assert complaint(path) == (
        f"{path}:30: expect.landing_latency_p99: it counts from timestamps, and broken (late) "
        "moves readings away from theirs: ask for one of the two"
    )


def test_two_clock_faults_that_meet_are_refused(tmp_path, good_text):
    other = "  - {name: slow, kind: clock_skew, offset: -5m, share: 0.1, start: 1s, duration: 5s}\n"
    text = good_text.replace("kind: corrupt", "kind: late\n    by: 5m")
    path = write(tmp_path, text.replace("expect:", other + "expect:"))
    assert complaint(path) == (
        f"{path}:29: faults.2: broken and slow move readings to the same times, where one would "
        "replace the other: give them other classes, times or shifts"
    )
    load(write(tmp_path, text.replace("expect:", other.replace("-5m", "-6m") + "expect:")))


def test_all_that_is_wrong_is_told_at_once(tmp_path, good_text):
    text = good_text.replace("devices: 500", "devices: 0").replace("share: 0.1", "share: 2")
    path = write(tmp_path, text)
    assert complaints(path) == [
        f"{path}:5: fleet.devices: Input should be greater than or equal to 1",
        f"{path}:26: faults.1.share: Input should be less than or equal to 1",
    ]
    assert complaints(write(tmp_path, good_text)) == []
