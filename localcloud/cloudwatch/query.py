"""GetMetricData's queries: metric statistics and metric math over the store."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from localcloud.cloudwatch.math import MathContext, Series, evaluate
from localcloud.http import AwsError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from localcloud.cloudwatch.metrics import MetricStore


def dimensions_of(dimensions: Sequence[Mapping[str, str]] | None) -> dict[str, str]:
    """The API's list of dimensions as a mapping."""
    return {dimension["Name"]: dimension.get("Value", "") for dimension in dimensions or ()}


def statistic_series(
    store: MetricStore,
    metric: Mapping[str, Any],
    statistic: str,
    start_s: int,
    end_s: int,
    period_s: int,
) -> Series:
    """One statistic of one metric, by period start.

    Raises:
        AwsError: ValidationError, where the statistic is not served.
    """
    buckets = store.periods(
        metric["Namespace"],
        metric["MetricName"],
        dimensions_of(metric.get("Dimensions")),
        start_s,
        end_s,
        period_s,
    )
    try:
        return {start: buckets[start].statistic(statistic) for start in sorted(buckets)}
    except ValueError as error:
        raise AwsError("ValidationError", str(error)) from error


def run_queries(
    store: MetricStore, queries: Sequence[Mapping[str, Any]], start_s: int, end_s: int
) -> dict[str, Series]:
    """Results of MetricDataQueries by id, in the order given.

    Raises:
        AwsError: ValidationError for a malformed query or an expression that is not served.
    """
    series: dict[str, Series] = {}
    periods: list[int] = []
    for query in queries:
        stat = query.get("MetricStat")
        if stat is None:
            continue
        period = int(stat["Period"])
        periods.append(period)
        series[query["Id"]] = statistic_series(
            store, stat["Metric"], stat["Stat"], start_s, end_s, period
        )
    pending = [query for query in queries if query.get("MetricStat") is None]
    for query in pending:
        if not query.get("Expression"):
            raise AwsError(
                "ValidationError", f"query {query.get('Id')!r} has no MetricStat or Expression"
            )
        period = int(query.get("Period") or (min(periods) if periods else 60))
        first = start_s - start_s % period
        context = MathContext(series, list(range(first, end_s, period)), period)
        series[query["Id"]] = evaluate(query["Expression"], context)
    return {query["Id"]: series[query["Id"]] for query in queries}
