"""What PutMetricAlarm and PutCompositeAlarm refuse."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from localcloud.cloudwatch.alarms import ACTIONS, alarm_name, math_period_s
from localcloud.cloudwatch.evaluation import OPERATORS
from localcloud.cloudwatch.expression import calls, names, parse
from localcloud.cloudwatch.query import check_queries
from localcloud.cloudwatch.rule import parse_rule
from localcloud.cloudwatch.statistics import SIMPLE, parse_extended
from localcloud.http import AwsError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from localcloud.cloudwatch.alarms import Alarm

MAX_ALARMS = 5000
MAX_ACTIONS = 5
MAX_NAME = 255
MAX_DESCRIPTION = 1024
MAX_MATH_METRICS = 10
MAX_PARENTS = 150
DAY_S = 86_400
WEEK_S = 7 * DAY_S
HIGH_RESOLUTION_PERIODS = (10, 20, 30)
_ARN = re.compile(r"arn:[^:]+:[^:]+:[^:]*:[^:]*:.+")
_METRIC_SETTINGS = (
    "AlarmName", "AlarmDescription", "ActionsEnabled", "OKActions", "AlarmActions",
    "InsufficientDataActions", "MetricName", "Namespace", "Statistic", "ExtendedStatistic",
    "Dimensions", "Period", "Unit", "EvaluationPeriods", "DatapointsToAlarm", "Threshold",
    "ComparisonOperator", "TreatMissingData", "EvaluateLowSampleCountPercentile", "Metrics",
)  # fmt: skip
_COMPOSITE_SETTINGS = (
    "AlarmName", "AlarmDescription", "ActionsEnabled", "OKActions", "AlarmActions",
    "InsufficientDataActions", "AlarmRule", "ActionsSuppressor", "ActionsSuppressorWaitPeriod",
    "ActionsSuppressorExtensionPeriod",
)  # fmt: skip
_OF_ONE_METRIC = ("MetricName", "Namespace", "Dimensions", "Period", "Unit", "Statistic",
                  "ExtendedStatistic")  # fmt: skip


def check_metric_alarm(settings: Mapping[str, Any]) -> None:
    """Checks what PutMetricAlarm is given.

    Raises:
        AwsError: ValidationError or InvalidParameterCombination naming the setting.
    """
    for name in ("AlarmName", "ComparisonOperator", "EvaluationPeriods"):
        if settings.get(name) in (None, ""):
            raise _invalid(f"The parameter {name} must be specified.")
    if settings["ComparisonOperator"] not in OPERATORS or "ThresholdMetricId" in settings:
        raise _invalid(
            f"comparison {settings['ComparisonOperator']} (anomaly detection) is not served locally"
        )
    _check_common(settings, _METRIC_SETTINGS)
    if "Threshold" not in settings:
        raise _invalid("The parameter Threshold must be specified.")
    periods = int(settings["EvaluationPeriods"])
    if periods < 1 or int(settings.get("DatapointsToAlarm") or 1) < 1:
        raise _invalid("EvaluationPeriods and DatapointsToAlarm must be at least 1.")
    if int(settings.get("DatapointsToAlarm") or 1) > periods:
        raise _invalid("DatapointsToAlarm must not exceed EvaluationPeriods.")
    for name, options in (
        ("TreatMissingData", ("missing", "ignore", "breaching", "notBreaching")),
        ("EvaluateLowSampleCountPercentile", ("evaluate", "ignore")),
    ):
        if settings.get(name, options[0]) not in options:
            raise _invalid(f"Option {settings[name]} is not supported for {name}.")
    period = _check_math(settings) if settings.get("Metrics") else _check_one_metric(settings)
    if period not in HIGH_RESOLUTION_PERIODS and (not period or period % 60):
        raise _invalid("Period must be 10, 20, 30 or a multiple of 60.")
    longest = WEEK_S if period >= 3600 else DAY_S  # noqa: PLR2004 - an hour
    if periods * period > longest:
        what = "a day" if longest == DAY_S else "seven days"
        raise _invalid(
            f"Metrics cannot be checked across more than {what} "
            f"(EvaluationPeriods * Period must be <= {longest})."
        )


def _check_one_metric(settings: Mapping[str, Any]) -> int:
    if not settings.get("MetricName") or not settings.get("Namespace"):
        raise _invalid("MetricName and Namespace, or Metrics, are required.")
    if settings.get("Statistic") and settings.get("ExtendedStatistic"):
        raise AwsError(
            "InvalidParameterCombination",
            "The parameters Statistic and ExtendedStatistic cannot be specified together.",
        )
    if settings.get("Statistic") not in SIMPLE:
        if settings.get("Statistic"):
            raise _invalid(f"The value {settings['Statistic']} for Statistic is not supported.")
        try:
            parse_extended(str(settings.get("ExtendedStatistic")))
        except ValueError as error:
            raise _invalid(str(error)) from error
    return int(settings.get("Period") or 0)


def _check_math(settings: Mapping[str, Any]) -> int:
    queries = settings["Metrics"]
    given = [name for name in _OF_ONE_METRIC if settings.get(name)]
    if given:
        raise AwsError(
            "InvalidParameterCombination",
            f"The parameters {given[0]} and Metrics cannot be specified together.",
        )
    check_queries(queries)
    if sum(1 for query in queries if query.get("ReturnData", True)) != 1:
        raise _invalid("Exactly one element of Metrics must return data.")
    if sum("MetricStat" in query for query in queries) > MAX_MATH_METRICS:
        raise _invalid(f"An alarm on metric math has at most {MAX_MATH_METRICS} metrics.")
    ids = {query["Id"] for query in queries}
    for query in queries:
        if not query.get("Expression"):
            continue
        tree = parse(query["Expression"])
        if "SEARCH" in calls(tree):
            raise _invalid("SEARCH is not supported in alarms.")
        if "ANOMALY_DETECTION_BAND" in calls(tree):
            raise _invalid("ANOMALY_DETECTION_BAND is not served locally.")
        unknown = sorted(name for name in names(tree) - ids if name[0].islower())
        if unknown:
            raise _invalid(f"Error in expression {query['Id']!r}: unknown id {unknown[0]!r}")
    periods = {int(query["MetricStat"]["Period"]) for query in queries if "MetricStat" in query}
    if len(periods) > 1:
        raise _invalid("Metrics list must contain metrics of the same period only.")
    return math_period_s(queries)


def check_composite_alarm(settings: Mapping[str, Any], alarms: Mapping[str, Alarm]) -> None:
    """Checks what PutCompositeAlarm is given, beside the alarms that there are.

    Raises:
        AwsError: ValidationError naming the setting.
    """
    for name in ("AlarmName", "AlarmRule"):
        if not settings.get(name):
            raise _invalid(f"The parameter {name} must be specified.")
    _check_common(settings, _COMPOSITE_SETTINGS)
    rule = parse_rule(settings["AlarmRule"])
    suppressor = settings.get("ActionsSuppressor")
    for name in ("ActionsSuppressorWaitPeriod", "ActionsSuppressorExtensionPeriod"):
        if (settings.get(name) is None) != (not suppressor):
            raise _invalid(f"{name} must be specified together with ActionsSuppressor.")
    missing = [child for child in rule.children if alarm_name(child) not in alarms]
    if missing and missing != [settings["AlarmName"]]:
        raise _invalid(
            f"Could not save the composite alarm as alarms [{', '.join(missing)}] in the alarm "
            "rule do not exist"
        )
    if suppressor and alarm_name(suppressor) not in alarms:
        raise _invalid(
            f"Could not save the composite alarm as the suppressor alarm {suppressor} does not exist"
        )
    children = {alarm_name(child) for child in rule.children}
    if settings["AlarmName"] in _descendants(children, alarms):
        raise _invalid(
            f"AlarmRule of {settings['AlarmName']} depends on the alarm itself: cycles of composite "
            "alarms are not served locally"
        )
    for child in children:
        parents = sum(child in children_of(alarm) for alarm in alarms.values())
        if parents >= MAX_PARENTS:
            raise _invalid(f"alarm {child} is watched by {MAX_PARENTS} composite alarms already")


def children_of(alarm: Alarm) -> set[str]:
    """Names of the alarms that an alarm's rule refers to; empty for metric alarms."""
    text = alarm.settings.get("AlarmRule")
    return {alarm_name(child) for child in parse_rule(text).children} if text else set()


def _descendants(children: set[str], alarms: Mapping[str, Alarm]) -> set[str]:
    found: set[str] = set()
    left = list(children)
    while left:
        name = left.pop()
        if name not in found:
            found.add(name)
            if name in alarms:
                left += children_of(alarms[name])
    return found


def _check_common(settings: Mapping[str, Any], served: tuple[str, ...]) -> None:
    unknown = sorted(name for name in settings if name not in served)
    if unknown:
        raise _invalid(f"{unknown[0]} is not served locally")
    name = settings["AlarmName"]
    if not isinstance(name, str) or len(name) > MAX_NAME or not name.isascii():
        raise _invalid(f"AlarmName must be 1 to {MAX_NAME} ASCII characters")
    if len(settings.get("AlarmDescription") or "") > MAX_DESCRIPTION:
        raise _invalid(f"AlarmDescription must be at most {MAX_DESCRIPTION} characters")
    for kind in ACTIONS.values():
        actions = settings.get(kind) or ()
        if len(actions) > MAX_ACTIONS:
            raise _invalid(f"{kind} must have at most {MAX_ACTIONS} members")
        for action in actions:
            if not _ARN.fullmatch(action):
                raise _invalid(f"Invalid arn syntax: {action}")


def _invalid(message: str) -> AwsError:
    return AwsError("ValidationError", message)
