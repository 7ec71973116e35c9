"""How an alarm's state follows from its data points: pure functions, no clock and no store.

Follows "Evaluating an alarm" and "Configuring how alarms treat missing data" of the CloudWatch
user guide. CloudWatch fetches more points than it evaluates when some are missing; how many more
is not documented for every case, and here it is two.
"""

from __future__ import annotations

import operator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

State = Literal["OK", "ALARM", "INSUFFICIENT_DATA"]
Missing = Literal["missing", "ignore", "breaching", "notBreaching"]

EXTRA_PERIODS = 2

OPERATORS: dict[str, Callable[[float, float], bool]] = {
    "GreaterThanThreshold": operator.gt,
    "GreaterThanOrEqualToThreshold": operator.ge,
    "LessThanThreshold": operator.lt,
    "LessThanOrEqualToThreshold": operator.le,
}
_WORDS = {
    "GreaterThanThreshold": "greater than",
    "GreaterThanOrEqualToThreshold": "greater than or equal to",
    "LessThanThreshold": "less than",
    "LessThanOrEqualToThreshold": "less than or equal to",
}


@dataclass(frozen=True, slots=True)
class Rule:
    """What an alarm compares: M of N points against a threshold."""

    comparison: str
    threshold: float
    evaluation_periods: int
    datapoints_to_alarm: int
    missing: Missing

    @property
    def range_periods(self) -> int:
        """How many of the most recent periods are fetched."""
        return self.evaluation_periods + EXTRA_PERIODS

    def breaches(self, value: float) -> bool:
        """Whether one value is beyond the threshold."""
        return OPERATORS[self.comparison](value, self.threshold)


def next_state(rule: Rule, points: Sequence[float | None], state: State) -> State:
    """The state after an evaluation.

    Args:
        rule: What is compared.
        points: Values of the last `rule.range_periods` periods, oldest first; None where missing.
        state: The state before.
    """
    real = [value for value in points if value is not None]
    if not real and rule.missing in {"missing", "ignore"}:
        return "INSUFFICIENT_DATA" if rule.missing == "missing" else state
    # Every real point of the range counts, the newest first; as few as possible are filled in.
    breaching = [rule.breaches(value) for value in real[-rule.evaluation_periods :]]
    lacking = rule.evaluation_periods - len(breaching)
    if rule.missing in {"breaching", "notBreaching"}:
        breaching += [rule.missing == "breaching"] * lacking
    elif lacking and all(breaching) and len(breaching) < rule.datapoints_to_alarm:
        # Too few to tell, and none speaks against it.
        if rule.missing == "ignore":
            return state
        if _old_enough(rule, points):
            return "ALARM"
        return "OK" if state == "INSUFFICIENT_DATA" else state
    return _verdict(rule, breaching)


def _old_enough(rule: Rule, points: Sequence[float | None]) -> bool:
    """Whether a real point of the evaluated periods is as old as the data points to alarm.

    When every newer one breaches or is missing, that is an alarm before M points have come.
    """
    old = points[-rule.evaluation_periods : len(points) - rule.datapoints_to_alarm + 1]
    return any(value is not None for value in old)


def _verdict(rule: Rule, breaching: Sequence[bool]) -> State:
    return "ALARM" if sum(breaching) >= rule.datapoints_to_alarm else "OK"


def reason(rule: Rule, points: Sequence[tuple[str, float]], state: State) -> str:
    """StateReason in CloudWatch's words; `points` are (time, value), newest first."""
    if state == "INSUFFICIENT_DATA" or not points:
        what = "no datapoints were received for"
        ending = {"breaching": " and 1 missing datapoint was treated as [Breaching].",
                  "notBreaching": " and 1 missing datapoint was treated as [NonBreaching]."}  # fmt: skip
        periods = rule.evaluation_periods
        noun = "period" if periods == 1 else "periods"
        return (
            f"Threshold Crossed: {what} {periods} {noun}"
            f"{ending.get(rule.missing, '.') if state != 'INSUFFICIENT_DATA' else '.'}"
        )
    beyond = [point for point in points if rule.breaches(point[1])]
    shown = beyond if state == "ALARM" else [p for p in points if not rule.breaches(p[1])] or points
    count = len(shown)
    values = ", ".join(f"{value} ({time})" for time, value in shown[:5])
    noun = "datapoint" if count == 1 else "datapoints"
    verb = "was" if count == 1 else "were"
    negation = "" if state == "ALARM" else "not "
    turn = (
        f"minimum {rule.datapoints_to_alarm} "
        f"{'datapoint' if rule.datapoints_to_alarm == 1 else 'datapoints'} for "
        f"{'OK -> ALARM' if state == 'ALARM' else 'ALARM -> OK'} transition"
    )
    return (
        f"Threshold Crossed: {count} out of the last {rule.evaluation_periods} datapoints "
        f"[{values}] {verb} {negation}{_WORDS[rule.comparison]} the threshold "
        f"({rule.threshold}) ({turn})."
        if count <= rule.evaluation_periods
        else f"Threshold Crossed: {count} {noun} [{values}] {verb} {negation}"
        f"{_WORDS[rule.comparison]} the threshold ({rule.threshold})."
    )
