"""Labels of GetMetricData's results, with their dynamic values.

Follows "Use dynamic labels" of the CloudWatch user guide. Values of times are refused by name.
"""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING, Any

from localcloud.http import AwsError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from localcloud.cloudwatch.math import Line

MAX_VALUES = 6
_VARIABLE = re.compile(r"\$\{([^{}]*)\}")
_PROPERTY = re.compile(r"PROP\('([^']*)'\)")
_VALUES: dict[str, Callable[[list[float]], float]] = {
    "AVG": lambda values: math.fsum(values) / len(values),
    "DATAPOINT_COUNT": len,
    "FIRST": lambda values: values[0],
    "FIRST_LAST_RANGE": lambda values: values[-1] - values[0],
    "LAST": lambda values: values[-1],
    "MAX": max,
    "MIN": min,
    "MIN_MAX_RANGE": lambda values: max(values) - min(values),
    "SUM": math.fsum,
}


def default_label(metric: Mapping[str, Any]) -> str:
    """What CloudWatch calls a metric that is asked for by name."""
    return str(metric["MetricName"])


def expand(label: str, line: Line, account_id: str, region: str) -> str:
    """The label with its variables replaced.

    Raises:
        AwsError: ValidationError for a variable that is not served, or too many.
    """
    variables = _VARIABLE.findall(label)
    if len(variables) > MAX_VALUES or variables.count("LABEL") > 1:
        raise AwsError(
            "ValidationError",
            f"label {label!r}: at most five dynamic values, and ${{LABEL}} at most once",
        )
    values = [line.points[at] for at in sorted(line.points)]

    def replace(match: re.Match[str]) -> str:
        name = match.group(1)
        if name == "LABEL":
            return line.label
        if name in _VALUES:
            return f"{_VALUES[name](values):.15g}" if values or name == "DATAPOINT_COUNT" else "--"
        prop = _PROPERTY.fullmatch(name)
        if prop:
            told = _property(prop.group(1), line, account_id, region)
            if told is not None:
                return told
        raise AwsError("ValidationError", f"${{{name}}} in a label is not served locally")

    return _VARIABLE.sub(replace, label)


def _property(name: str, line: Line, account_id: str, region: str) -> str | None:
    metric = line.metric or {}
    dimensions = {entry["Name"]: entry["Value"] for entry in metric.get("Dimensions") or ()}
    if name.startswith("Dim."):
        return str(dimensions.get(name.removeprefix("Dim."), ""))
    return {
        "AccountId": account_id,
        "MetricName": str(metric.get("MetricName", "")),
        "Namespace": str(metric.get("Namespace", "")),
        "Period": str(line.period_s),
        "Region": region,
        "Stat": str(metric.get("Stat", "")),
    }.get(name)
