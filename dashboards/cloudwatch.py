"""The CloudWatch dashboard that the stack deploys, built from typed widgets.

Widgets are checked when they are added: a metric of a namespace that the stack does not publish
to, or an alarm that it does not have, is refused. Body structure: "Dashboard body structure and
syntax" of the CloudWatch API reference.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from fleetcast.errors import UsageError
from stack.alarms import ALARM_NAMES, NAMESPACE, alarm_specs
from stack.names import Names

if TYPE_CHECKING:
    from collections.abc import Sequence

    from stack.alarms import AlarmSpec
    from stack.config import StackConfig

GRID_WIDTH = 24
MAX_WIDGETS = 500
KNOWN_METRICS = {
    "AWS/Kinesis": {"IncomingRecords", "IncomingBytes", "WriteProvisionedThroughputExceeded",
                    "GetRecords.IteratorAgeMilliseconds", "PutRecords.ThrottledRecords"},
    "AWS/Lambda": {"Invocations", "Errors", "Throttles", "Duration", "ConcurrentExecutions",
                   "IteratorAge"},
    "AWS/Timestream": {"SuccessfulRequestLatency", "UserErrors", "SystemErrors"},
    "AWS/Firehose": {"DeliveryToS3.Records", "DeliveryToS3.Bytes", "DeliveryToS3.DataFreshness",
                     "DeliveryToS3.Success"},
    "AWS/SQS": {"ApproximateNumberOfMessagesVisible"},
    "AWS/IoT": {"Failure"},
    NAMESPACE: {"ReadingsReceived", "ReadingsWritten", "ReadingsRefused", "TimestreamRejected",
                "CriticalReadings", "EndToEndLatency"},
}  # fmt: skip


class DashboardError(UsageError):
    """A widget shows what the stack does not have."""


@dataclass(frozen=True, slots=True)
class Metric:
    """One line of a chart.

    Attributes:
        namespace: CloudWatch namespace.
        name: Metric name.
        dimensions: Dimension names to values.
        statistic: Sum, Average, Maximum, p99 ...
        label: What the legend says.
    """

    namespace: str
    name: str
    dimensions: dict[str, str]
    statistic: str
    label: str

    def __post_init__(self) -> None:
        if self.name not in KNOWN_METRICS.get(self.namespace, set()):
            raise DashboardError(
                f"dashboard metric {self.namespace} {self.name}: the stack publishes no such metric"
            )

    def body(self) -> list[Any]:
        """The metric in the dashboard body's array form."""
        flat = [text for pair in sorted(self.dimensions.items()) for text in pair]
        return [self.namespace, self.name, *flat, {"stat": self.statistic, "label": self.label}]


@dataclass(slots=True)
class Dashboard:
    """A grid of widgets that fills row by row."""

    config: StackConfig
    account_id: str
    _widgets: list[dict[str, Any]] = field(default_factory=list)
    _x: int = 0
    _y: int = 0
    _row_height: int = 0

    def text(self, markdown: str, *, width: int = GRID_WIDTH, height: int = 2) -> None:
        """Adds text."""
        self._add("text", {"markdown": markdown}, width, height)

    def chart(
        self,
        title: str,
        metrics: Sequence[Metric],
        *,
        alarm: str | None = None,
        width: int = 8,
        height: int = 6,
    ) -> None:
        """Adds a chart over time, with the threshold of `alarm` as a line across it.

        Raises:
            DashboardError: the stack has no such alarm.
        """
        properties: dict[str, Any] = {
            "title": title,
            "view": "timeSeries",
            "stacked": False,
            "region": self.config.region,
            "period": self.config.alarm_period_s,
            "metrics": [metric.body() for metric in metrics],
            "yAxis": {"left": {"min": 0}},
        }
        if alarm is not None:
            spec = self._spec(alarm)
            properties["annotations"] = {
                "horizontal": [{"label": f"alarm {alarm}", "value": spec.threshold}]
            }
        self._add("metric", properties, width, height)

    def alarms(self, title: str, shorts: Sequence[str], *, height: int = 4) -> None:
        """Adds the states of alarms.

        Raises:
            DashboardError: the stack has no such alarm.
        """
        names = Names(self.config.environment)
        arns = [
            f"arn:aws:cloudwatch:{self.config.region}:{self.account_id}:alarm:"
            f"{names(self._spec(short).short)}"
            for short in shorts
        ]
        self._add("alarm", {"title": title, "alarms": arns}, GRID_WIDTH, height)

    def _spec(self, short: str) -> AlarmSpec:
        for spec in alarm_specs(self.config):
            if spec.short == short:
                return spec
        raise DashboardError(f"dashboard alarm {short}: the stack has no such alarm")

    def _add(self, kind: str, properties: dict[str, Any], width: int, height: int) -> None:
        if len(self._widgets) >= MAX_WIDGETS:
            raise DashboardError(f"a dashboard has at most {MAX_WIDGETS} widgets")
        if not 1 <= width <= GRID_WIDTH:
            raise DashboardError(f"a widget is 1 to {GRID_WIDTH} wide, not {width}")
        if self._x + width > GRID_WIDTH:
            self._x, self._y, self._row_height = 0, self._y + self._row_height, 0
        self._widgets.append(
            {
                "type": kind, "x": self._x, "y": self._y, "width": width, "height": height,
                "properties": properties,
            }
        )  # fmt: skip
        self._x += width
        self._row_height = max(self._row_height, height)

    def to_json(self) -> str:
        """The dashboard body."""
        return json.dumps({"widgets": self._widgets}, sort_keys=True)


def telemetry_dashboard(config: StackConfig, account_id: str) -> Dashboard:
    """The dashboard of an environment: what comes in, is processed, lands and alarms."""
    names = Names(config.environment)
    stream = {"StreamName": names.stream}
    function = {"FunctionName": names.function}
    own = {"Environment": config.environment}
    delivery = {"DeliveryStreamName": names.delivery_stream}
    writes = {
        "DatabaseName": names("telemetry"), "TableName": names("readings"),
        "Operation": "WriteRecords",
    }  # fmt: skip
    board = Dashboard(config, account_id)
    board.text(f"# fleetcast {config.environment}\nFrom device to time series and archive.")
    board.alarms("Alarms", ALARM_NAMES)
    board.chart(
        "Readings into the stream",
        [Metric("AWS/Kinesis", "IncomingRecords", stream, "Sum", "records")],
        alarm="silent-fleet",
    )
    board.chart(
        "Refused by full shards",
        [Metric("AWS/Kinesis", "WriteProvisionedThroughputExceeded", stream, "Sum", "records")],
        alarm="write-throttling",
    )
    board.chart(
        "How far consumers are behind (ms)",
        [Metric("AWS/Kinesis", "GetRecords.IteratorAgeMilliseconds", stream, "Maximum", "age")],
        alarm="iterator-age",
    )
    board.chart(
        "Readings through the processor",
        [
            Metric(NAMESPACE, "ReadingsReceived", own, "Sum", "received"),
            Metric(NAMESPACE, "ReadingsWritten", own, "Sum", "written"),
            Metric(NAMESPACE, "ReadingsRefused", own, "Sum", "refused"),
        ],
        alarm="refused-readings",
    )
    board.chart(
        "Processor",
        [
            Metric("AWS/Lambda", "Errors", function, "Sum", "errors"),
            Metric("AWS/Lambda", "Throttles", function, "Sum", "throttles"),
        ],
        alarm="processor-errors",
    )
    board.chart(
        "Processor duration (ms)",
        [
            Metric("AWS/Lambda", "Duration", function, "p50", "p50"),
            Metric("AWS/Lambda", "Duration", function, "p99", "p99"),
        ],
        alarm="processor-duration",
    )
    board.chart(
        "From device to processor (ms)",
        [
            Metric(NAMESPACE, "EndToEndLatency", own, "p50", "p50"),
            Metric(NAMESPACE, "EndToEndLatency", own, "p99", "p99"),
        ],
        alarm="end-to-end-latency",
    )
    board.chart(
        "Critical readings",
        [Metric(NAMESPACE, "CriticalReadings", own, "Sum", "critical")],
        alarm="critical-readings",
    )
    board.chart(
        "Timestream writes (ms)",
        [Metric("AWS/Timestream", "SuccessfulRequestLatency", writes, "p99", "p99")],
    )
    board.chart(
        "Archive",
        [Metric("AWS/Firehose", "DeliveryToS3.Records", delivery, "Sum", "records")],
    )
    board.chart(
        "Archive freshness (s)",
        [Metric("AWS/Firehose", "DeliveryToS3.DataFreshness", delivery, "Maximum", "age")],
        alarm="archive-freshness",
    )
    board.chart(
        "Queues",
        [
            Metric("AWS/SQS", "ApproximateNumberOfMessagesVisible", {"QueueName": names(queue)},
                   "Maximum", queue)
            for queue in ("failures", "quarantine")
        ],
        alarm="failure-queue",
    )  # fmt: skip
    return board
