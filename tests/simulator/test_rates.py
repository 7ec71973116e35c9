from __future__ import annotations

import itertools
import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from simulator.rates import Constant, Ramp, RateProfile

RATES = st.one_of(st.just(0.0), st.floats(0.01, 20_000, allow_nan=False))
SECONDS = st.floats(0.01, 300, allow_nan=False)
CONSTANTS = st.builds(lambda r, d: Constant(shape="constant", rate=r, duration=d), RATES, SECONDS)
RAMPS = (
    st.tuples(RATES, RATES, SECONDS)
    .filter(lambda drawn: drawn[0] + drawn[1] > 0)
    .map(lambda drawn: Ramp(shape="ramp", start=drawn[0], end=drawn[1], duration=drawn[2]))
)
PHASES = st.lists(st.one_of(CONSTANTS, RAMPS), min_size=1, max_size=5)


def numbers_of(profile: RateProfile, most: int = 3000) -> np.ndarray:
    """Readings from both ends and in between, without walking through millions."""
    return np.unique(np.linspace(0, profile.total - 1, min(most, profile.total)).astype(np.int64))


def readings(phases: list[Constant | Ramp]) -> Fraction:
    """How many readings are due in all phases, in exact arithmetic."""
    total = Fraction(0)
    for phase in phases:
        if isinstance(phase, Constant):
            total += Fraction(phase.rate) * Fraction(phase.duration)
        else:
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
        forgiven = 1e-6 + profile.peak * profile.duration_s * 1e-13
        assert abs(profile.count_by(due_s) - number) <= forgiven


@settings(deadline=None, max_examples=200)
@given(PHASES)
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
@given(st.one_of(CONSTANTS, RAMPS), st.floats(0.1, 10), st.floats(0.1, 10))
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
