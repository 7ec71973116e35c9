"""Lines of charts: metrics that the stack publishes, and metric math on them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from dashboards.cloudwatch.errors import DashboardError
from stack.alarms import NAMESPACE
from stack.names import Names

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

Axis = Literal["left", "right"]
# Namespace to (dimensions, metrics): what AWS publishes of the stack's resources, and it of itself.
KNOWN_METRICS: dict[str, tuple[set[str], set[str]]] = {
    "AWS/Kinesis": (
        {"StreamName"},
        {"IncomingRecords", "IncomingBytes", "WriteProvisionedThroughputExceeded",
         "GetRecords.IteratorAgeMilliseconds", "PutRecords.ThrottledRecords"},
    ),
    "AWS/Lambda": (
        {"FunctionName"},
        {"Invocations", "Errors", "Throttles", "Duration", "ConcurrentExecutions", "IteratorAge"},
    ),
    "AWS/Timestream": (
        {"DatabaseName", "TableName", "Operation"},
        {"SuccessfulRequestLatency", "UserErrors", "SystemErrors"},
    ),
    "AWS/Firehose": (
        {"DeliveryStreamName"},
        {"DeliveryToS3.Records", "DeliveryToS3.Bytes", "DeliveryToS3.DataFreshness",
         "DeliveryToS3.Success"},
    ),
    "AWS/SQS": ({"QueueName"}, {"ApproximateNumberOfMessagesVisible"}),
    "AWS/IoT": ({"RuleName", "ActionType"}, {"Failure"}),
    NAMESPACE: (
        {"Environment"},
        {"ReadingsReceived", "ReadingsWritten", "ReadingsRefused", "TimestreamRejected",
         "CriticalReadings", "EndToEndLatency"},
    ),
}  # fmt: skip
_STATISTIC = re.compile(
    r"SampleCount|Sum|Average|Minimum|Maximum|IQM|(?:p|tm|wm|tc|ts)\d{1,2}(?:\.\d+)?|p100"
)
_ID = re.compile(r"[a-z][a-zA-Z0-9_]*")
# Functions are in capitals; what else is a word is the id of another line.
_WORDS = re.compile(r"'[^']*'|\"[^\"]*\"|(?<![\w.])([a-z][a-zA-Z0-9_]*)")


@dataclass(frozen=True, slots=True)
class Metric:
    """One line of a chart.

    Attributes:
        namespace: CloudWatch namespace.
        name: Metric name.
        dimensions: Dimension names to values.
        statistic: Sum, Average, Maximum, p99 ...
        label: What the legend says.
        id: What metric math calls it; empty where none uses it.
        visible: Whether it is drawn, rather than used by metric math alone.
        axis: On which side its scale is.
    """

    namespace: str
    name: str
    dimensions: Mapping[str, str]
    statistic: str
    label: str
    id: str = ""
    visible: bool = True
    axis: Axis = "left"

    def __post_init__(self) -> None:
        dimensions, names = KNOWN_METRICS.get(self.namespace, (set(), set()))
        where = f"dashboard metric {self.namespace} {self.name}"
        if self.name not in names:
            raise DashboardError(f"{where}: the stack publishes no such metric")
        if set(self.dimensions) != dimensions:
            raise DashboardError(
                f"{where}: its dimensions are {', '.join(sorted(dimensions))}, "
                f"not {', '.join(sorted(self.dimensions)) or 'none'}"
            )
        if not _STATISTIC.fullmatch(self.statistic):
            raise DashboardError(f"{where}: {self.statistic} is no statistic")
        _check_words(where, self.id, self.label)

    def body(self) -> list[Any]:
        """The metric in the dashboard body's array form."""
        flat = [text for pair in sorted(self.dimensions.items()) for text in pair]
        options: dict[str, Any] = {"stat": self.statistic, "label": self.label}
        if self.id:
            options["id"] = self.id
        if not self.visible:
            options["visible"] = False
        if self.axis == "right":
            options["yAxis"] = "right"
        return [self.namespace, self.name, *flat, options]


@dataclass(frozen=True, slots=True)
class Math:
    """A line that is computed from others of its chart.

    Attributes:
        expression: Metric math on the ids of the chart's lines.
        label: What the legend says.
        id: What other expressions call it; empty where none does.
        axis: On which side its scale is.
    """

    expression: str
    label: str
    id: str = ""
    axis: Axis = "left"

    def __post_init__(self) -> None:
        _check_words(f"dashboard expression {self.expression}", self.id, self.label)

    def uses(self) -> set[str]:
        """Ids of the lines that the expression is on."""
        return {word for word in _WORDS.findall(self.expression) if word}

    def body(self) -> list[Any]:
        """The expression in the dashboard body's array form."""
        options: dict[str, Any] = {"expression": self.expression, "label": self.label}
        if self.id:
            options["id"] = self.id
        if self.axis == "right":
            options["yAxis"] = "right"
        return [options]


def check_lines(title: str, lines: Iterable[Metric | Math], environment: str) -> None:
    """Checks that a chart's lines are of this environment's resources and know each other.

    Raises:
        DashboardError: an id is used twice or not there, or a resource is not the stack's.
    """
    lines = list(lines)
    ids = [line.id for line in lines if line.id]
    for twice in {one for one in ids if ids.count(one) > 1}:
        raise DashboardError(f"dashboard chart {title}: the id {twice} is used twice")
    known = resources(environment)
    for line in lines:
        if isinstance(line, Math):
            missing = sorted(line.uses() - set(ids))
            if missing:
                raise DashboardError(
                    f"dashboard chart {title}: {line.expression} uses {', '.join(missing)}, "
                    "which no line of the chart is called"
                )
            continue
        for name, value in line.dimensions.items():
            if value not in known[name]:
                raise DashboardError(
                    f"dashboard chart {title}: the stack {environment} has no {name} {value}"
                )


def resources(environment: str) -> dict[str, set[str]]:
    """Values that dimensions may have in an environment, by the dimension."""
    names = Names(environment)
    return {
        "StreamName": {names.stream},
        "FunctionName": {names.function},
        "DatabaseName": {names("telemetry")},
        "TableName": {names("readings")},
        "Operation": {"WriteRecords"},
        "DeliveryStreamName": {names.delivery_stream},
        "QueueName": {names("failures"), names("quarantine"), names("probe")},
        "RuleName": {names.rule("readings")},
        "ActionType": {"Kinesis"},
        "Environment": {environment},
    }


def _check_words(where: str, identity: str, label: str) -> None:
    if identity and not _ID.fullmatch(identity):
        raise DashboardError(f"{where}: an id begins with a small letter, not {identity!r}")
    if "${" in label:
        # Terraform would read it as an expression of its own.
        raise DashboardError(f"{where}: a label cannot hold ${{}}, not {label!r}")
