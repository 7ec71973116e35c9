"""GetMetricData's queries: metric statistics and metric math over the store."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from localcloud.cloudwatch.labels import default_label
from localcloud.cloudwatch.math import Line, MathContext, Value, evaluate
from localcloud.cloudwatch.metrics import MINUTE_S
from localcloud.cloudwatch.search import MAX_FOUND, compile_search
from localcloud.cloudwatch.statistics import statistic_of
from localcloud.http import AwsError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from localcloud.cloudwatch.metrics import MetricStore

MAX_QUERIES = 500
HIGH_RESOLUTION_PERIODS = (1, 5, 10, 20, 30)
_ID = re.compile(r"[a-z][a-zA-Z0-9_]*")


def dimensions_of(dimensions: Sequence[Mapping[str, str]] | None) -> dict[str, str]:
    """The API's list of dimensions as a mapping."""
    return {dimension["Name"]: dimension.get("Value", "") for dimension in dimensions or ()}


def check_period(period_s: int) -> None:
    """Refuses a period that CloudWatch does not have.

    Raises:
        AwsError: ValidationError.
    """
    if period_s not in HIGH_RESOLUTION_PERIODS and (period_s < 1 or period_s % 60):
        raise AwsError(
            "ValidationError",
            f"Period {period_s} is invalid: it must be 1, 5, 10, 20, 30 or a multiple of 60",
        )


def statistic_series(
    store: MetricStore,
    metric: Mapping[str, Any],
    statistic: str,
    start_s: int,
    end_s: int,
    period_s: int,
) -> dict[int, float]:
    """One statistic of one metric, by period start; nothing where its Unit is another.

    What CloudWatch keeps are minutes, or the periods of high resolution: one that has begun in the
    range is in it whole, and the range begins with the one that its begin lies in.

    Raises:
        AwsError: ValidationError, where the statistic is not served.
    """
    dimensions = dimensions_of(metric.get("Dimensions"))
    if metric.get("Unit"):
        unit = store.unit(metric["Namespace"], metric["MetricName"], dimensions)
        if unit not in (None, metric["Unit"]):
            return {}
    step_s = min(period_s, MINUTE_S)
    buckets = store.periods(
        metric["Namespace"], metric["MetricName"], dimensions,
        start_s - start_s % step_s, end_s + -end_s % step_s, period_s,
    )  # fmt: skip
    try:
        found = {start: statistic_of(statistic, buckets[start]) for start in sorted(buckets)}
    except ValueError as error:
        raise AwsError("ValidationError", str(error)) from error
    return {start: value for start, value in found.items() if value is not None}


class Queries:
    """A set of MetricDataQueries over a time range.

    Args:
        store: The metrics.
        queries: MetricDataQuery structures.
        start_s: Begin of the range.
        end_s: Its end, which is not in it.

    Raises:
        AwsError: ValidationError for malformed queries.
    """

    def __init__(
        self,
        store: MetricStore,
        queries: Sequence[Mapping[str, Any]],
        start_s: int,
        end_s: int,
    ) -> None:
        check_queries(queries)
        self._store = store
        self._queries = {query["Id"]: query for query in queries}
        self._start_s = start_s
        self._end_s = end_s
        self._metrics: dict[str, Line] = {}
        for query in queries:
            if query.get("MetricStat"):
                self._metrics[query["Id"]] = self._metric({**query["MetricStat"], **query})
        self._done: dict[str, Line | list[Line]] = dict(self._metrics)
        self._doing: set[str] = set()

    def value(self, query_id: str) -> Line | list[Line]:
        """The series of a query, or the array of series of an expression.

        Raises:
            AwsError: ValidationError for an unknown id, a cycle, or what is not served.
        """
        if query_id in self._done:
            return self._done[query_id]
        query = self._queries.get(query_id)
        if query is None:
            raise AwsError("ValidationError", f"Error in expression: unknown id {query_id!r}")
        if query_id in self._doing:
            raise AwsError("ValidationError", f"expression {query_id!r} refers to itself")
        self._doing.add(query_id)
        period_s = self._period_of(query)
        first = self._start_s - self._start_s % period_s
        context = MathContext(
            self._as_value,
            self._metrics,
            range(first, self._end_s, period_s),
            period_s,
            self._search,
        )
        self._done[query_id] = evaluate(query["Expression"], context)
        return self._done[query_id]

    def _as_value(self, query_id: str) -> Value:
        return self.value(query_id)

    def _period_of(self, query: Mapping[str, Any]) -> int:
        """The period of an expression: its own, or the longest of the request's metrics."""
        if query.get("Period"):
            return int(query["Period"])
        return max((line.period_s for line in self._metrics.values()), default=60)

    def _metric(self, query: Mapping[str, Any]) -> Line:
        metric, period_s = query["Metric"], int(query["Period"])
        asked = {**metric, "Unit": query.get("Unit")}
        points = statistic_series(
            self._store, asked, query["Stat"], self._start_s, self._end_s, period_s
        )
        properties = {**metric, "Stat": query["Stat"]}
        return Line(points, period_s, default_label(metric), properties)

    def _search(self, query: str, statistic: str, period_s: int) -> list[Line]:
        check_period(period_s)
        matches = compile_search(query)
        lines = []
        for namespace, name, dimensions in sorted(filter(matches, self._store.series)):
            metric = {
                "Namespace": namespace,
                "MetricName": name,
                "Dimensions": [{"Name": key, "Value": value} for key, value in dimensions],
            }
            line = self._metric({"Metric": metric, "Period": period_s, "Stat": statistic})
            label = " ".join([*(value for _, value in dimensions), name])
            if line.points:
                lines.append(Line(line.points, period_s, label, line.metric))
        return lines[:MAX_FOUND]


def check_queries(queries: Sequence[Mapping[str, Any]]) -> None:
    """Refuses malformed MetricDataQueries.

    Raises:
        AwsError: ValidationError.
    """
    if not 1 <= len(queries) <= MAX_QUERIES:
        raise AwsError("ValidationError", f"1 to {MAX_QUERIES} MetricDataQueries in a request")
    seen: set[str] = set()
    for number, query in enumerate(queries, 1):
        query_id = query.get("Id")
        if not isinstance(query_id, str) or not _ID.fullmatch(query_id):
            raise AwsError(
                "ValidationError",
                f"The value {query_id!r} for parameter MetricDataQueries.member.{number}.Id is not "
                "matching the expected pattern ^[a-z][a-zA-Z0-9_]*$.",
            )
        if query_id in seen:
            raise AwsError(
                "ValidationError",
                f"The values for parameter id in MetricDataQueries are not unique: {query_id}.",
            )
        seen.add(query_id)
        if bool(query.get("MetricStat")) == bool(query.get("Expression")):
            raise AwsError(
                "ValidationError",
                f"query {query_id!r} must have either MetricStat or Expression",
            )
        if str(query.get("Expression", "")).lstrip().upper().startswith("SELECT "):
            raise AwsError("ValidationError", "Metrics Insights queries are not served locally")
        period = query.get("Period") or (query.get("MetricStat") or {}).get("Period")
        if period is not None:
            check_period(int(period))
        elif query.get("MetricStat"):
            raise AwsError("ValidationError", f"query {query_id!r} has no Period")
