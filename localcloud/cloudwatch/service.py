"""The CloudWatch API over query, JSON and CBOR."""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import logging
import math
import time
from typing import TYPE_CHECKING, Any

from localcloud.cloudwatch.alarm_api import AlarmOperations
from localcloud.cloudwatch.clock import AlarmClock
from localcloud.cloudwatch.dashboards import Dashboards
from localcloud.cloudwatch.datum import read_datum
from localcloud.cloudwatch.labels import expand
from localcloud.cloudwatch.math import Line
from localcloud.cloudwatch.paging import page, position
from localcloud.cloudwatch.query import Queries, check_period, dimensions_of, statistic_series
from localcloud.cloudwatch.queues import QueueMetrics
from localcloud.cloudwatch.topics import TopicMetrics
from localcloud.http import AwsError, Request, Response
from localcloud.protocol import protocol

if TYPE_CHECKING:
    from collections.abc import Callable

    from localcloud.cloudwatch.metrics import MetricStore
    from localcloud.cloudwatch.topics import Fallback
    from localcloud.seams import CloudContext

log = logging.getLogger(__name__)

MAX_DATUMS = 1000
LIST_PAGE = 500
MAX_DATAPOINTS = 100_800
MAX_STATISTICS = 1440
RECENT_S = 3 * 3600


class CloudWatchService:
    """Metrics, alarms and dashboards.

    Anomaly detection, metric streams and insight rules are refused by name.
    """

    signing_names = ("monitoring",)

    def __init__(self, context: CloudContext, store: MetricStore) -> None:
        self._context = context
        self._store = store
        self.clock = AlarmClock(context, store)
        self._queues = QueueMetrics(context)
        self._dashboards = Dashboards(context)
        self._operations: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {
            "PutMetricData": self._put_metric_data,
            "GetMetricData": self._get_metric_data,
            "GetMetricStatistics": self._get_metric_statistics,
            "ListMetrics": self._list_metrics,
            **AlarmOperations(context, self.clock).operations(),
            **self._dashboards.operations(),
        }

    def watch(self, inner: Fallback) -> Fallback:
        """Who answers SQS and SNS, with their metrics published."""
        return TopicMetrics(self._queues.watch(inner), self._context.metrics)

    async def restore(self) -> None:
        """Nothing: metrics and the states of alarms begin anew."""

    async def start(self) -> None:
        """Starts the evaluation of alarms and the metrics of queues."""
        await self.clock.start()
        self._poll = asyncio.create_task(self._queues.run())

    async def stop(self) -> None:
        """Stops both."""
        self._poll.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._poll
        await self.clock.stop()

    def status(self) -> dict[str, Any]:
        """Counts, and the alarms by state."""
        states: dict[str, int] = {}
        for alarm in self.clock.alarms.values():
            states[alarm.state] = states.get(alarm.state, 0) + 1
        return {
            "series": len(self._store.series),
            "alarms": states,
            "dashboards": len(self._dashboards),
            "queue_metrics_failed": self._queues.failures,
            "unsupported": [
                "anomaly detection",
                "Metrics Insights",
                "metric streams",
                "Contributor Insights",
                "alarm actions but SNS",
                "dynamic labels of times",
            ],
        }

    def operations(self) -> frozenset[str]:
        """See `Service`."""
        return frozenset(self._operations)

    async def handle(self, request: Request) -> Response | None:
        """Answers a request."""
        api = protocol("cloudwatch")
        wire, operation, body = api.decode(request)
        answer = self._operations.get(operation)
        if answer is None:
            raise AwsError("UnsupportedOperation", f"CloudWatch {operation} is not served locally")
        try:
            return api.encode(wire, operation, answer(body))
        except KeyError as error:
            raise AwsError(
                "MissingParameter", f"The parameter {error.args[0]} is required."
            ) from error

    # Metrics

    def _put_metric_data(self, body: dict[str, Any]) -> dict[str, Any]:
        namespace = body["Namespace"]
        if namespace.startswith("AWS/"):
            raise AwsError(
                "InvalidParameterValue", "The value AWS/ for parameter Namespace is invalid."
            )
        datums = body.get("MetricData") or []
        if len(datums) > MAX_DATUMS:
            raise AwsError("InvalidParameterValue", f"at most {MAX_DATUMS} metrics in a call")
        # All are looked at before one is stored: a call that fails leaves nothing behind.
        for datum in [read_datum(given) for given in datums]:
            datum.add_to(self._store, namespace)
        return {}

    def _get_metric_data(self, body: dict[str, Any]) -> dict[str, Any]:
        asked = body["MetricDataQueries"]
        most = int(body.get("MaxDatapoints") or MAX_DATAPOINTS)
        if not 1 <= most <= MAX_DATAPOINTS:
            raise AwsError("ValidationError", f"MaxDatapoints must be 1 to {MAX_DATAPOINTS}")
        start, end = _range(body)
        queries = Queries(self._store, asked, start, end)
        results = [
            (query["Id"], label, line)
            for query in asked
            if query.get("ReturnData", True)
            for label, line in self._labelled(query, queries.value(query["Id"]))
        ]
        newest_first = body.get("ScanBy") != "TimestampAscending"
        return _pages(results, position(body.get("NextToken")), most, newest_first=newest_first)

    def _labelled(self, query: dict[str, Any], value: Line | list[Line]) -> list[tuple[str, Line]]:
        """(label, line) of each series that a query gave."""
        given, context = query.get("Label"), self._context
        if isinstance(value, Line):
            default = value.label if query.get("MetricStat") else query["Id"]
            line = Line(value.points, value.period_s, default, value.metric)
            label = default if given is None else given
            return [(expand(label, line, context.account_id, context.region), line)]
        labelled = []
        for line in value:
            label = line.label
            if given:
                template = given if "${" in given else f"{given} ${{LABEL}}"
                label = expand(template, line, context.account_id, context.region)
            labelled.append((label, line))
        return labelled

    def _get_metric_statistics(self, body: dict[str, Any]) -> dict[str, Any]:
        start, end = _range(body)
        period = int(body["Period"])
        check_period(period)
        if (end - start) // period > MAX_STATISTICS:
            raise AwsError(
                "InvalidParameterCombination",
                f"You have requested up to {(end - start) // period:,} datapoints, which exceeds the "
                f"limit of {MAX_STATISTICS:,}. You may reduce the datapoints requested by increasing "
                "Period, or decreasing the time range.",
            )
        extended = body.get("ExtendedStatistics") or ()
        names = [*(body.get("Statistics") or ()), *extended]
        if not names:
            raise AwsError(
                "InvalidParameterCombination",
                "At least one of the parameters Statistics and ExtendedStatistics must be specified.",
            )
        points: dict[int, dict[str, Any]] = {}
        dimensions = dimensions_of(body.get("Dimensions"))
        unit = self._store.unit(body["Namespace"], body["MetricName"], dimensions)
        for name in names:
            for at, value in statistic_series(self._store, body, name, start, end, period).items():
                point = points.setdefault(
                    at,
                    {"Timestamp": dt.datetime.fromtimestamp(at, dt.UTC), "Unit": unit or "None"},
                )
                if name in extended:
                    point.setdefault("ExtendedStatistics", {})[name] = value
                else:
                    point[name] = value
        return {"Label": body["MetricName"], "Datapoints": list(points.values())}

    def _list_metrics(self, body: dict[str, Any]) -> dict[str, Any]:
        wanted = [(f["Name"], f.get("Value")) for f in body.get("Dimensions") or ()]
        recent = body.get("RecentlyActive")
        if recent not in (None, "PT3H"):
            raise AwsError("ValidationError", f"RecentlyActive {recent!r} is not PT3H")
        since_s = time.time() - RECENT_S if recent else 0.0
        found = []
        for (namespace, name, dimensions), series in sorted(self._store.series.items()):
            has = dict(dimensions)
            if (
                body.get("Namespace") in (None, namespace)
                and body.get("MetricName") in (None, name)
                and all(key in has and value in (None, has[key]) for key, value in wanted)
                and (not recent or series.newest_s() >= since_s)
            ):
                found.append(
                    {
                        "Namespace": namespace,
                        "MetricName": name,
                        "Dimensions": [{"Name": k, "Value": v} for k, v in dimensions],
                    }
                )
        part, token = page(found, body.get("NextToken"), LIST_PAGE)
        return {"Metrics": part, **token}


def _range(body: dict[str, Any]) -> tuple[int, int]:
    """Begin and end of the asked time.

    Raises:
        AwsError: ValidationError, where there is nothing between them.
    """
    start, end = _seconds(body["StartTime"]), _seconds(body["EndTime"])
    if start >= end:
        raise AwsError(
            "ValidationError", "The parameter StartTime must be less than the parameter EndTime."
        )
    # What was measured in the second that has begun by the end is before it.
    return math.floor(start), math.ceil(end)


def _pages(
    results: list[tuple[str, str, Line]], first: int, most: int, *, newest_first: bool
) -> dict[str, Any]:
    """A page of at most `most` points from the `first` of all results' points on."""
    answer: list[dict[str, Any]] = []
    passed = taken = 0
    more = False
    for query_id, label, line in results:
        times = sorted(line.points, reverse=newest_first)
        skipped = min(len(times), max(0, first - passed))
        passed += len(times)
        part = times[skipped : skipped + most - taken]
        left = len(times) - skipped - len(part)
        more = more or left > 0
        # What a page before has told wholly is not told again; what has no points is told once.
        if (first and not part and not left) or (more and not part):
            continue
        taken += len(part)
        answer.append(
            {
                "Id": query_id,
                "Label": label,
                "Timestamps": [dt.datetime.fromtimestamp(at, dt.UTC) for at in part],
                "Values": [line.points[at] for at in part],
                "StatusCode": "PartialData" if left else "Complete",
            }
        )
    page_of: dict[str, Any] = {"MetricDataResults": answer, "Messages": []}
    if more:
        page_of["NextToken"] = str(first + taken)
    return page_of


def _seconds(moment: dt.datetime) -> float:
    return (moment if moment.tzinfo else moment.replace(tzinfo=dt.UTC)).timestamp()
