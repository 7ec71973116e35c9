from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from localcloud.cloudwatch.evaluation import OPERATORS, Rule, next_state, reason

STATES = ("OK", "ALARM", "INSUFFICIENT_DATA")
TREATMENTS = ("missing", "ignore", "breaching", "notBreaching")
KEEP = "keep"


def rule(
    m: int, n: int, missing: str = "missing", comparison: str = "GreaterThanThreshold"
) -> Rule:
    return Rule(comparison, 10.0, n, m, missing)


def points(text: str) -> list[float | None]:
    """`X` breaches, `0` does not, `-` is missing."""
    return [{"X": 11.0, "0": 9.0, "-": None}[mark] for mark in text.split()]


# The tables of "Configuring how CloudWatch alarms treat missing data", by column as in TREATMENTS.
DOCUMENTED = [
    (3, 3, "0 - X - X", ("OK", "OK", "OK", "OK")),
    (3, 3, "- - - - 0", ("OK", "OK", "OK", "OK")),
    (3, 3, "- - - - -", ("INSUFFICIENT_DATA", KEEP, "ALARM", "OK")),
    (3, 3, "0 X X - X", ("ALARM", "ALARM", "ALARM", "ALARM")),
    (3, 3, "- - X - -", ("ALARM", KEEP, "ALARM", "OK")),
    (2, 3, "0 - X - X", ("ALARM", "ALARM", "ALARM", "ALARM")),
    (2, 3, "0 0 X 0 X", ("ALARM", "ALARM", "ALARM", "ALARM")),
    (2, 3, "0 - X - -", ("OK", "OK", "ALARM", "OK")),
    (2, 3, "- - - - 0", ("OK", "OK", "ALARM", "OK")),
    (2, 3, "- - - X -", ("ALARM", KEEP, "ALARM", "OK")),
]  # fmt: skip


@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize(("m", "n", "marks", "expected"), DOCUMENTED)
def test_missing_data_is_treated_as_documented(m, n, marks, expected, state):
    found = [next_state(rule(m, n, missing), points(marks), state) for missing in TREATMENTS]

    assert found == [state if wanted == KEEP else wanted for wanted in expected]


@pytest.mark.parametrize("marks", ["- - - - X", "- - - X -"])
@pytest.mark.parametrize("state", ["OK", "ALARM"])
def test_breaching_points_too_new_to_tell_change_no_state(marks, state):
    assert next_state(rule(3, 3), points(marks), state) == state


@pytest.mark.parametrize(
    ("comparison", "breaching"),
    [
        ("GreaterThanThreshold", [False, False, True]),
        ("GreaterThanOrEqualToThreshold", [False, True, True]),
        ("LessThanThreshold", [True, False, False]),
        ("LessThanOrEqualToThreshold", [True, True, False]),
    ],
)
def test_comparisons_treat_the_threshold_itself_as_named(comparison, breaching):
    compared = rule(1, 1, comparison=comparison)
    assert [compared.breaches(value) for value in (9.9, 10.0, 10.1)] == breaching


@st.composite
def cases(draw, *, real: bool = False):
    n = draw(st.integers(1, 6))
    m = draw(st.integers(1, n))
    made = Rule(
        draw(st.sampled_from(sorted(OPERATORS))),
        float(draw(st.integers(-3, 3))),
        n,
        m,
        draw(st.sampled_from(TREATMENTS)),
    )
    value = st.integers(-4, 4).map(float)
    value = value if real else st.none() | value
    size = made.range_periods
    return made, draw(st.lists(value, min_size=size, max_size=size)), draw(st.sampled_from(STATES))


def verdict(made: Rule, breaching: list[bool]) -> str:
    return "ALARM" if sum(breaching) >= made.datapoints_to_alarm else "OK"


@settings(deadline=None, max_examples=300)
@given(cases(real=True))
def test_m_of_the_last_n_points_decide_where_none_is_missing(case):
    made, values, state = case
    recent = [made.breaches(value) for value in values[-made.evaluation_periods :]]

    assert next_state(made, values, state) == verdict(made, recent)


@settings(deadline=None, max_examples=300)
@given(cases())
def test_the_newest_n_real_points_of_the_range_decide_where_there_are_as_many(case):
    made, values, state = case
    real = [made.breaches(value) for value in values if value is not None]

    if len(real) >= made.evaluation_periods:
        expected = verdict(made, real[-made.evaluation_periods :])
        assert next_state(made, values, state) == expected


@settings(deadline=None, max_examples=300)
@given(cases())
def test_filling_adds_only_what_is_lacking(case):
    made, values, state = case
    if made.missing in {"breaching", "notBreaching"}:
        real = [made.breaches(value) for value in values if value is not None]
        lacking = max(0, made.evaluation_periods - len(real))
        filled = real[-made.evaluation_periods :] + [made.missing == "breaching"] * lacking
        assert next_state(made, values, state) == verdict(made, filled)


@settings(deadline=None, max_examples=300)
@given(cases())
def test_insufficient_data_is_only_reached_without_any_point(case):
    made, values, state = case
    if next_state(made, values, state) == "INSUFFICIENT_DATA" != state:
        assert made.missing == "missing"
        assert values == [None] * made.range_periods


@settings(deadline=None, max_examples=300)
@given(cases(), st.integers(0, 7))
def test_one_more_breaching_point_never_ends_an_alarm(case, at):
    made, values, state = case
    before = next_state(made, values, state)
    at %= len(values)
    if before == "ALARM" and values[at] is not None:
        worst = 100.0 if made.comparison.startswith("Greater") else -100.0
        assert next_state(made, [*values[:at], worst, *values[at + 1 :]], state) == "ALARM"


@settings(deadline=None, max_examples=300)
@given(cases())
def test_greater_and_less_mirror_each_other(case):
    made, values, state = case
    turned = {"Greater": "Less", "LessTh": "GreaterTh"}
    other = next(
        made.comparison.replace(a, b, 1) for a, b in turned.items() if made.comparison.startswith(a)
    )
    mirror = Rule(
        other, -made.threshold, made.evaluation_periods, made.datapoints_to_alarm, made.missing
    )
    mirrored = [None if value is None else -value for value in values]

    assert next_state(mirror, mirrored, state) == next_state(made, values, state)


@settings(deadline=None, max_examples=300)
@given(cases())
def test_a_state_stays_where_the_same_points_are_evaluated_again(case):
    made, values, state = case
    once = next_state(made, values, state)

    assert next_state(made, values, once) == once


def test_the_reason_is_in_the_words_of_cloudwatch():
    alarming = reason(rule(2, 3), [("t3", 12.0), ("t2", 9.0), ("t1", 11.0)], "ALARM")
    calm = reason(rule(1, 1), [("t1", 9.0)], "OK")
    nothing = reason(rule(1, 2), [], "INSUFFICIENT_DATA")

    assert alarming == (
        "Threshold Crossed: 2 out of the last 3 datapoints [12.0 (t3), 11.0 (t1)] were greater than "
        "the threshold (10.0) (minimum 2 datapoints for OK -> ALARM transition)."
    )
    assert calm == (
        "Threshold Crossed: 1 out of the last 1 datapoints [9.0 (t1)] was not greater than "
        "the threshold (10.0) (minimum 1 datapoint for ALARM -> OK transition)."
    )
    assert nothing == "Threshold Crossed: no datapoints were received for 2 periods."
