from __future__ import annotations

import itertools
import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter

from simulator import rates
from simulator.rates import (
    Constant,
    DiurnalRate,
    Poisson,
    Ramp,
    RateProfile,
    SineRate,
    Spike,
    Steps,
    Trace,
)  # fmt: skip
from simulator.rates.arrivals import crowding

RATES = st.one_of(st.just(0.0), st.floats(0.01, 20_000, allow_nan=False))
SECONDS = st.floats(0.01, 300, allow_nan=False)
CONSTANTS = st.builds(lambda r, d: Constant(shape="constant", rate=r, duration=d), RATES, SECONDS)
RAMPS = (
    st.tuples(RATES, RATES, SECONDS)
    .filter(lambda drawn: drawn[0] + drawn[1] > 0)
    .map(lambda drawn: Ramp(shape="ramp", start=drawn[0], end=drawn[1], duration=drawn[2]))
)
STEPS = (
    st.tuples(st.lists(RATES, min_size=2, max_size=6), SECONDS)
    .filter(lambda drawn: any(drawn[0]))
    .map(lambda drawn: Steps(shape="steps", rates=drawn[0], duration=drawn[1]))
)
SPIKES = st.tuples(RATES, st.floats(1, 20_000), *[st.floats(0, 50)] * 3, st.floats(0.1, 50)).map(
    lambda drawn: Spike(
        shape="spike",
        base=drawn[0],
        top=drawn[0] + drawn[1],
        at=drawn[2],
        rise=drawn[3],
        fall=drawn[4],
        hold=drawn[5],
        duration=sum(drawn[2:]) + 1,
    )
)
SINES = st.tuples(
    st.floats(0.1, 20_000), st.floats(0, 1), st.floats(0.5, 600), st.floats(0, 1), SECONDS
).map(
    lambda drawn: SineRate(
        shape="sine",
        mean=drawn[0],
        amplitude=drawn[0] * drawn[1],
        period=drawn[2],
        phase=drawn[3],
        duration=drawn[4],
    )
)
DIURNALS = st.tuples(st.floats(0, 5000), st.floats(1, 9000), st.floats(1, 600), SECONDS).map(
    lambda drawn: DiurnalRate(
        shape="diurnal",
        low=drawn[0],
        high=drawn[0] + drawn[1],
        day=drawn[2],
        duration=drawn[3],
    )
)
SMOOTH = st.one_of(CONSTANTS, RAMPS, STEPS, SPIKES, SINES, DIURNALS)
PHASES = st.lists(SMOOTH, min_size=1, max_size=5)
RANDOM = st.tuples(SMOOTH, st.integers(0, 2**40)).map(
    lambda drawn: (drawn[0].model_copy(update={"arrivals": "poisson"}), drawn[1])
)


def numbers_of(profile: RateProfile, most: int = 3000) -> np.ndarray:
    """Readings from both ends and in between, without walking through millions."""
    return np.unique(np.linspace(0, profile.total - 1, min(most, profile.total)).astype(np.int64))


def readings(phases: list[Constant | Ramp]) -> Fraction:
    """How many readings are due in all phases, in exact arithmetic."""
    total = Fraction(0)
    for phase in phases:
        match phase:
            case Constant():
                total += Fraction(phase.rate) * Fraction(phase.duration)
            case Ramp():
                mean = (Fraction(phase.start) + Fraction(phase.end)) / 2
                total += mean * Fraction(phase.duration)
    return total


@settings(deadline=None, max_examples=200)
@given(PHASES)
def test_due_times_ascend_and_lie_within_the_run(phases):
    profile = RateProfile(phases)
    assume(profile.total)
    due = profile.due_s(numbers_of(profile))
    assert np.all(np.diff(due) >= 0)
    assert due[0] >= 0
    assert due[-1] <= profile.duration_s * (1 + 1e-12)


@settings(deadline=None, max_examples=200)
@given(PHASES)
def test_neighbours_come_in_order_at_any_place(phases):
    profile = RateProfile(phases)
    assume(profile.total > 1)
    for first in {0, profile.total // 2, max(0, profile.total - 500)}:
        due = profile.due_s(np.arange(first, min(first + 500, profile.total)))
        assert np.all(np.diff(due) >= 0)


@settings(deadline=None, max_examples=200)
@given(PHASES)
def test_as_many_readings_as_their_number_are_due_by_the_due_time(phases):
    profile = RateProfile(phases)
    assume(profile.total)
    numbers = numbers_of(profile, 200)
    for number, due_s in zip(numbers.tolist(), profile.due_s(numbers).tolist(), strict=True):
        # A float cannot tell two times within an ulp of one another: that much rate is forgiven.
        forgiven = 1e-5 + profile.peak * profile.duration_s * 1e-12
        assert abs(profile.count_by(due_s) - number) <= forgiven


@settings(deadline=None, max_examples=200)
@given(st.lists(st.one_of(CONSTANTS, RAMPS), min_size=1, max_size=5))
def test_the_total_is_the_integral_rounded_up(phases):
    exact = readings(phases)
    profile = RateProfile(phases)
    nearest = round(exact)
    if abs(exact - nearest) > Fraction(1, 10**4):
        assert profile.total == math.ceil(exact)
    else:
        assert profile.total in {nearest, nearest + 1}
    assert profile.count_by(profile.duration_s) == pytest.approx(float(exact), rel=1e-9, abs=1e-9)


@settings(deadline=None, max_examples=100)
@given(PHASES, st.floats(-10, 2000))
def test_the_integral_is_zero_before_all_after_and_never_falls(phases, at_s):
    profile = RateProfile(phases)
    whole = profile.count_by(profile.duration_s)
    assert profile.count_by(-abs(at_s)) == 0
    assert profile.count_by(profile.duration_s + abs(at_s)) == whole
    times = np.linspace(0, profile.duration_s, 50).tolist()
    counts = [profile.count_by(time_s) for time_s in times]
    for before, after in itertools.pairwise(counts):
        assert after >= before - 1e-6


@settings(deadline=None, max_examples=100)
@given(SMOOTH, st.floats(0.1, 10), st.floats(0.1, 10))
def test_scaling_multiplies_rates_times_and_readings(phase, rate, time):
    scaled = phase.scaled(rate, time)
    assert scaled.peak == pytest.approx(phase.peak * rate)
    assert scaled.duration == pytest.approx(phase.duration * time)
    before, after = phase.count(phase.duration), scaled.count(scaled.duration)
    assert after == pytest.approx(before * rate * time, rel=1e-9, abs=1e-9)


def ramp(start: float, end: float, duration: float) -> RateProfile:
    return RateProfile([Ramp(shape="ramp", start=start, end=end, duration=duration)])


def test_a_ramp_up_from_nothing_follows_the_square_root():
    profile = ramp(0, 20, 10)
    assert profile.total == 100
    due = profile.due_s(np.array([0, 1, 4, 25, 64, 99]))
    assert due == pytest.approx([0, 1, 2, 5, 8, math.sqrt(99)])


def test_a_ramp_down_to_nothing_mirrors_the_ramp_up():
    up, down = ramp(0, 20, 10), ramp(20, 0, 10)
    numbers = np.arange(1, 100)
    assert down.total == up.total == 100
    assert 10 - down.due_s(100 - numbers) == pytest.approx(up.due_s(numbers))


def test_the_integral_of_a_ramp_is_the_area_of_its_trapezium():
    profile = ramp(10, 30, 4)
    assert profile.count_by(2) == pytest.approx(10 * 2 + 10 * 2 / 2)
    assert profile.count_by(4) == pytest.approx(80)
    assert profile.rate_at(1) == pytest.approx(15)


def test_a_flat_ramp_is_a_constant_rate():
    flat, constant = ramp(8, 8, 5), RateProfile([Constant(shape="constant", rate=8, duration=5)])
    numbers = np.arange(flat.total)
    assert flat.total == constant.total == 40
    assert flat.due_s(numbers).tolist() == constant.due_s(numbers).tolist()


def test_a_pause_between_phases_holds_readings_back():
    busy = Constant(shape="constant", rate=10, duration=1)
    pause = Constant(shape="constant", rate=0, duration=5)
    profile = RateProfile([busy, pause, busy])
    assert profile.total == 20
    assert profile.due_s(np.array([9, 10, 19])) == pytest.approx([0.9, 6.0, 6.9])
    assert profile.count_by(3) == 10


def test_rate_and_phase_belong_to_the_time():
    profile = RateProfile(
        [
            Constant(shape="constant", rate=5, duration=2),
            Ramp(shape="ramp", start=0, end=10, duration=10),
        ]
    )
    at_s = (-0.1, 0.0, 1.9, 2.0, 7.0, 12.0)
    assert [profile.rate_at(t) for t in at_s] == pytest.approx([0, 5, 5, 0, 5, 0])
    assert [profile.phase_at(t) for t in at_s] == [0, 0, 0, 1, 1, 1]
    assert profile.peak == 10


def test_a_fraction_at_the_end_is_one_more_reading():
    profile = RateProfile([Constant(shape="constant", rate=3, duration=0.5)])
    assert profile.total == 2
    assert profile.due_s(np.array([0, 1])) == pytest.approx([0, 1 / 3])


def test_due_times_keep_the_order_in_which_numbers_are_asked():
    profile = ramp(1, 50, 7)
    numbers = np.arange(profile.total)
    there = profile.due_s(numbers)
    assert profile.due_s(numbers[::-1]).tolist() == there[::-1].tolist()


def test_the_rate_is_the_slope_of_the_integral():
    phases = [
        SineRate(shape="sine", mean=100, amplitude=80, period=10, duration=20),
        DiurnalRate(shape="diurnal", low=5, high=90, day=24, at_peak="06:00", duration=24),
        Spike(shape="spike", base=5, top=50, at=2, rise=1, hold=3, fall=1, duration=10),
        Steps(shape="steps", rates=[10, 0, 30], duration=9),
    ]
    for phase in phases:
        for at_s in np.linspace(0.05, phase.duration - 0.05, 37).tolist():
            slope = (phase.count(at_s + 1e-4) - phase.count(at_s - 1e-4)) / 2e-4
            assert slope == pytest.approx(phase.rate_at(at_s), rel=1e-3, abs=1e-3)
            assert phase.rate_at(at_s) <= phase.peak + 1e-9


def test_shapes_are_what_they_say():
    sine = SineRate(shape="sine", mean=100, amplitude=80, period=10, duration=20)
    assert [sine.rate_at(t) for t in (0, 2.5, 5, 7.5)] == pytest.approx([100, 180, 100, 20])
    assert (sine.peak, sine.count(20)) == (180, pytest.approx(2000))
    day = DiurnalRate(
        shape="diurnal", low=10, high=90, day=24, begins="06:00", at_peak="18:00", duration=24
    )
    assert [day.rate_at(t) for t in (0, 6, 12, 18)] == pytest.approx([10, 50, 90, 50])
    spike = Spike(shape="spike", base=10, top=50, at=2, rise=2, hold=3, fall=1, duration=10)
    assert [spike.rate_at(t) for t in (0, 1.9, 3, 5, 7.5, 9)] == pytest.approx(
        [10, 10, 30, 50, 30, 10]
    )
    assert spike.count(10) == pytest.approx(20 + 60 + 150 + 30 + 20)
    steps = Steps(shape="steps", rates=[10, 0, 30], duration=9)
    assert [steps.rate_at(t) for t in (1, 4, 7)] == [10, 0, 30]
    assert steps.due_s(np.array([29.0, 30.0, 60.0])) == pytest.approx([2.9, 6.0, 7.0])


@settings(deadline=None, max_examples=80)
@given(RANDOM, st.data())
def test_random_arrivals_ascend_are_counted_and_found_by_number_in_any_company(drawn, data):
    phase, seed = drawn
    profile = RateProfile([phase], seed)
    assume(profile.total > 0)
    numbers = np.arange(min(profile.total, 2000))
    due = profile.due_s(numbers)
    assert np.all(np.diff(due) >= 0)
    assert due[0] >= 0
    assert due[-1] <= profile.duration_s * (1 + 1e-9)
    chosen = data.draw(st.lists(st.integers(0, len(numbers) - 1), min_size=1, max_size=5))
    assert profile.due_s(np.array(chosen)).tolist() == due[chosen].tolist()
    k = chosen[0]
    if due[k] < profile.duration_s:
        # Of arrivals in one moment, all are there.
        assert profile.count_by(due[k]) == np.searchsorted(due, due[k], side="right") or (
            len(numbers) < profile.total
        )


def test_random_arrivals_are_a_poisson_process():
    phase = Poisson(shape="poisson", rate=500, duration=200)
    profile = RateProfile([phase], 5)
    due = profile.due_s(np.arange(profile.total))
    assert profile.total == pytest.approx(100_000, abs=4 * math.sqrt(100_000))
    gaps = np.diff(due)
    # Exponential: mean and standard deviation alike, and e^-1 of them longer than the mean.
    assert gaps.mean() == pytest.approx(1 / 500, rel=0.02)
    assert gaps.std() == pytest.approx(1 / 500, rel=0.02)
    assert np.mean(gaps > 1 / 500) == pytest.approx(math.exp(-1), abs=0.005)
    counts, _ = np.histogram(due, bins=2000, range=(0, 200))
    assert counts.var() == pytest.approx(counts.mean(), rel=0.1)
    assert profile.count_by(profile.duration_s) == profile.total


def test_random_arrivals_follow_the_rate_of_their_phase_and_the_seed():
    ramp_ = Ramp(shape="ramp", start=0, end=1000, duration=100, arrivals="poisson")
    one, other = RateProfile([ramp_], 1), RateProfile([ramp_], 2)
    due = one.due_s(np.arange(one.total))
    assert np.mean(due < 50) == pytest.approx(0.25, abs=0.01)
    assert one.total != other.total
    assert RateProfile([ramp_], 1).due_s(np.arange(one.total)).tolist() == due.tolist()


def test_random_arrivals_between_even_phases_keep_all_in_order():
    even = Constant(shape="constant", rate=33.3, duration=1)
    random = Poisson(shape="poisson", rate=200, duration=2)
    profile = RateProfile([even, random, even], 3)
    due = profile.due_s(np.arange(profile.total))
    assert np.all(np.diff(due) >= 0)
    inside = int(((due >= 1) & (due < 3)).sum())
    assert profile.total == math.ceil(33.3 * 2 + (inside or 0) - 1e-9) or (
        abs(profile.total - (66.6 + inside)) < 2
    )
    for k in (0, 20, 40, 200, profile.total - 1):
        assert profile.count_by(float(due[k])) == pytest.approx(k, abs=1.01)


def test_crowding_bounds_the_chance_of_many_at_once():
    generator = np.random.default_rng(1)
    for rate, devices in ((100, 3), (500, 4), (2000, 8)):
        crowded = np.mean(generator.poisson(rate * 0.002, 200_000) >= devices)
        assert crowded <= crowding(rate, devices, 0.002)
    assert crowding(2000, 50, 0.002) < 1e-20
    assert crowding(2000, 3, 0.002) == 1


def test_a_recorded_rate_is_replayed_stretched_and_multiplied(tmp_path):
    (tmp_path / "r.csv").write_text("at_s,rate\n10,0\n12,100\n14,100\n18,0\n")
    told = {"shape": "trace", "file": str(tmp_path / "r.csv"), "column": "rate"}
    trace = Trace.model_validate(told)
    assert (trace.duration, trace.peak) == (8, 100)
    assert trace.count(8) == pytest.approx(100 + 200 + 200)
    assert [trace.rate_at(t) for t in (1, 3, 6)] == pytest.approx([50, 100, 50])
    slow = Trace.model_validate({**told, "duration": "16s", "times": 0.5})
    assert slow.count(16) == pytest.approx(trace.count(8))
    assert trace.scaled(2, 3).count(24) == pytest.approx(500 * 6)
    profile = RateProfile([trace])
    due = profile.due_s(np.arange(profile.total))
    assert np.all(np.diff(due) > 0)
    assert [trace.count(t) for t in due.tolist()] == pytest.approx(list(range(500)), abs=1e-6)


def test_recorded_arrivals_are_replayed_one_by_one(tmp_path):
    (tmp_path / "a.csv").write_text("when\n5\n5.5\n6\n8\n9\n")
    told = {"shape": "trace", "file": str(tmp_path / "a.csv"), "time": "when"}
    profile = RateProfile([Trace.model_validate(told)])
    # The last of five in four seconds is given as long as they take in the mean.
    assert (profile.total, profile.duration_s) == (5, 5)
    assert profile.due_s(np.arange(5)).tolist() == [0, 0.5, 1, 3, 4]
    assert [profile.count_by(t) for t in (0.4, 0.5, 2, 4.9)] == [1, 2, 3, 5]
    double = Trace.model_validate({**told, "times": 2})
    assert double.due_s(np.arange(10.0)).tolist() == [0, 0.25, 0.5, 0.75, 1, 2, 3, 3.5, 4, 4]
    mixed = RateProfile([Constant(shape="constant", rate=2.5, duration=1), profile.phases[0]])
    assert mixed.due_s(np.arange(8)) == pytest.approx([0, 0.4, 0.8, 1, 1.5, 2, 4, 5])


BAD = {
    "nothing": ({"shape": "constant", "rate": 1, "duration": 0}, "must be more than 0"),
    "all steps nothing": ({"shape": "steps", "rates": [0, 0], "duration": 1}, "all of them are 0"),
    "one step": ({"shape": "steps", "rates": [1], "duration": 1}, "at least 2 items"),
    "a spike downwards": (
        {"shape": "spike", "base": 5, "top": 4, "at": 0, "hold": 1, "duration": 9},
        "top: 4/s must be more than base 5/s",
    ),
    "a spike that does not fit": (
        {"shape": "spike", "base": 1, "top": 4, "at": 5, "hold": 6, "duration": 9},
        "the spike ends at 11 s of a phase of 9 s",
    ),
    "a spike of no time": (
        {"shape": "spike", "base": 1, "top": 4, "at": 5, "hold": 0, "duration": 9},
        "the spike takes no time",
    ),
    "a sine below nothing": (
        {"shape": "sine", "mean": 5, "amplitude": 6, "period": 1, "duration": 9},
        "the rate would fall below 0",
    ),
    "a day without a night": (
        {"shape": "diurnal", "low": 5, "high": 5, "duration": 9}, "must be more than low 5/s"
    ),
    "poisson of nothing": ({"shape": "poisson", "rate": 0, "duration": 9}, "must be more than 0"),
    "poisson that is even": (
        {"shape": "poisson", "rate": 1, "duration": 9, "arrivals": "even"}, "Input should be 'poi"
    ),
    "no file": ({"shape": "trace", "file": "/nowhere.csv"}, "cannot read /nowhere.csv"),
    "not a number": ({"shape": "constant", "rate": "nan", "duration": 9}, "is not a rate"),
}  # fmt: skip


@pytest.mark.parametrize("case", sorted(BAD))
def test_a_phase_that_makes_no_sense_is_refused(case):
    told, text = BAD[case]
    with pytest.raises(ValueError, match=text):
        TypeAdapter(rates.Phase).validate_python(told)


@pytest.mark.parametrize(
    ("content", "column", "text"),
    [
        ("at_s,rate\n0,1\n", "rate", "over two rows or more"),
        ("at_s,rate\n0,1\n1,-1\n", "rate", "has a rate below 0"),
        ("at_s,rate\n1,1\n0,1\n", "rate", "must"),
        ("at_s,rate\n1,1\n0,1\n", None, "must"),
        ("at_s\n0\n1\n", "rate", "no column 'rate'"),
        ("t\n0\n1\n", None, "no column 'at_s'"),
    ],
)
def test_a_trace_that_cannot_be_replayed_is_refused(tmp_path, content, column, text):
    (tmp_path / "t.csv").write_text(content)
    told = {"shape": "trace", "file": str(tmp_path / "t.csv"), "column": column}
    with pytest.raises(ValueError, match=text):
        Trace.model_validate(told)
