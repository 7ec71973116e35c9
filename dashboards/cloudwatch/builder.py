"""A dashboard that is put together from typed widgets.

Widgets are checked when they are added: a metric, a resource or an alarm that the stack does not
have is refused. Body structure: "Dashboard body structure and syntax" of the CloudWatch API
reference.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from dashboards.cloudwatch.errors import DashboardError
from dashboards.cloudwatch.limits import GRID_WIDTH, MAX_WIDGETS, problems
from dashboards.cloudwatch.metrics import Metric, check_lines
from stack.alarms import alarm_specs
from stack.names import Names

if TYPE_CHECKING:
    from collections.abc import Sequence

    from dashboards.cloudwatch.metrics import Math
    from stack.alarms import AlarmSpec
    from stack.config import StackConfig

ALARM_COLOUR = "#d13212"
View = Literal["timeSeries", "bar", "pie", "singleValue", "table"]
# What a threshold's far side is.
_BEYOND = {"GreaterThanThreshold": "above", "GreaterThanOrEqualToThreshold": "above",
           "LessThanThreshold": "below", "LessThanOrEqualToThreshold": "below"}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Link:
    """A link in a text; `url` is one of https."""

    text: str
    url: str

    def __post_init__(self) -> None:
        if not self.url.startswith("https://") or any(c in self.url for c in " ()\n"):
            raise DashboardError(f"dashboard link {self.text}: {self.url} is no https URL")

    def __str__(self) -> str:
        return f"[{self.text}]({self.url})"


@dataclass(slots=True)
class Dashboard:
    """A grid of widgets that fills row by row.

    Attributes:
        config: Whose stack it shows.
        account_id: Its account, or Terraform's expression of it.
        start: How far back it is shown at first, such as `-PT3H`.
    """

    config: StackConfig
    account_id: str
    start: str = "-PT3H"
    _widgets: list[dict[str, Any]] = field(default_factory=list)
    _x: int = 0
    _y: int = 0
    _row_height: int = 0

    def text(self, markdown: str, *links: Link, width: int = GRID_WIDTH, height: int = 2) -> None:
        """Adds text, and links below it."""
        if links:
            markdown += "\n\n" + " | ".join(str(link) for link in links)
        self._add("text", {"markdown": markdown}, width, height)

    def chart(
        self,
        title: str,
        lines: Sequence[Metric | Math],
        *,
        alarm: str | Sequence[str] = (),
        width: int = 8,
        height: int = 6,
        stacked: bool = False,
        view: View = "timeSeries",
    ) -> None:
        """Adds a chart, with the thresholds of alarms as lines across it.

        Raises:
            DashboardError: the stack has no such alarm or resource, an expression uses a line that
                is not there, or an alarm watches none of the lines.
        """
        check_lines(title, lines, self.config.environment)
        properties = self._metrics(title, view, lines)
        properties["stacked"] = stacked
        properties["yAxis"] = {"left": {"min": 0}}
        shorts = [alarm] if isinstance(alarm, str) else list(alarm)
        if shorts:
            properties["annotations"] = {"horizontal": self._thresholds(title, shorts, lines)}
        self._add("metric", properties, width, height)

    def numbers(
        self,
        title: str,
        lines: Sequence[Metric | Math],
        *,
        whole_range: bool = False,
        width: int = GRID_WIDTH,
        height: int = 3,
    ) -> None:
        """Adds numbers: of the newest period, or of all of the time that is shown.

        Raises:
            DashboardError: as for `chart`.
        """
        check_lines(title, lines, self.config.environment)
        properties = self._metrics(title, "singleValue", lines)
        if whole_range:
            properties["setPeriodToTimeRange"] = True
        else:
            properties["sparkline"] = True
        self._add("metric", properties, width, height)

    def alarms(self, title: str, shorts: Sequence[str], *, height: int = 3) -> None:
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

    def log(self, title: str, group: str, query: str, *, height: int = 4) -> None:
        """Adds a Logs Insights query on a log group of the stack.

        Raises:
            DashboardError: the stack has no such log group.
        """
        names = Names(self.config.environment)
        groups = {
            f"/aws/lambda/{names.function}",
            f"/aws/kinesisfirehose/{names.delivery_stream}",
        }
        if group not in groups:
            raise DashboardError(f"dashboard log {title}: the stack has no log group {group}")
        properties = {
            "title": title, "region": self.config.region, "view": "table",
            "query": f"SOURCE '{group}' | {query}",
        }  # fmt: skip
        self._add("log", properties, GRID_WIDTH, height)

    def to_json(self) -> str:
        """The dashboard body.

        Raises:
            DashboardError: CloudWatch would not take it.
        """
        body = {"widgets": self._widgets, "start": self.start, "periodOverride": "inherit"}
        found = problems(body)
        if found:
            more = f" (and {len(found) - 1} more)" if len(found) > 1 else ""
            raise DashboardError(f"dashboard: {found[0]}{more}")
        return json.dumps(body, sort_keys=True)

    def _metrics(self, title: str, view: View, lines: Sequence[Metric | Math]) -> dict[str, Any]:
        return {
            "title": title,
            "view": view,
            "region": self.config.region,
            "period": self.config.alarm_period_s,
            "metrics": [line.body() for line in lines],
        }

    def _thresholds(
        self, title: str, shorts: Sequence[str], lines: Sequence[Metric | Math]
    ) -> list[dict[str, Any]]:
        """A line for each threshold, with the names of the alarms that have it."""
        found: dict[tuple[float, str], list[str]] = {}
        shown = [
            (line.namespace, line.name, dict(line.dimensions))
            for line in lines
            if isinstance(line, Metric)
        ]
        for short in shorts:
            spec = self._spec(short)
            if (spec.namespace, spec.metric, spec.dimensions) not in shown:
                raise DashboardError(
                    f"dashboard chart {title}: alarm {short} watches {spec.metric}, "
                    "which the chart does not show"
                )
            found.setdefault((spec.threshold, _BEYOND[spec.comparison]), []).append(short)
        return [
            {"label": f"alarm {', '.join(names)}", "value": value, "color": ALARM_COLOUR}
            # Everything is beyond 0: the whole chart would be filled.
            | ({"fill": beyond} if value else {})
            for (value, beyond), names in found.items()
        ]

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
