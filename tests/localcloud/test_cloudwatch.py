from __future__ import annotations

import datetime as dt
import time
from typing import Any

import pytest
import pytest_asyncio
from botocore.exceptions import ClientError

pytestmark = pytest.mark.asyncio(loop_scope="module")

MINUTE = 60


class Metrics:
    """A namespace of its own, at minutes counted from a round one in the last hour."""

    def __init__(self, client: Any, namespace: str) -> None:
        self.client, self.namespace = client, namespace
        self.start_s = int(time.time()) // 300 * 300 - 1800

    def at(self, minute: float) -> dt.datetime:
        return dt.datetime.fromtimestamp(self.start_s + minute * MINUTE, dt.UTC)

    def minute_of(self, moment: dt.datetime) -> float:
        return (moment.timestamp() - self.start_s) / MINUTE

    async def put(self, name: str, minute: float, **datum: Any) -> None:
        await self.client.put_metric_data(
            Namespace=self.namespace,
            MetricData=[{"MetricName": name, "Timestamp": self.at(minute), **datum}],
        )

    async def put_series(self, name: str, values: dict[int, float]) -> None:
        for minute, value in values.items():
            await self.put(name, minute, Value=value)

    async def statistics(
        self, name: str, *names: str, period: int = MINUTE, **more: Any
    ) -> dict[float, Any]:
        extended = [s for s in names if s.startswith("p")]
        asked: dict[str, Any] = {"ExtendedStatistics": extended} if extended else {}
        if len(extended) < len(names):
            asked["Statistics"] = [s for s in names if not s.startswith("p")]
        answer = await self.client.get_metric_statistics(
            Namespace=self.namespace, MetricName=name, Period=period,
            StartTime=self.at(0), EndTime=self.at(30), **asked, **more,
        )  # fmt: skip
        return {
            self.minute_of(p["Timestamp"]): [
                p["ExtendedStatistics"][s] if s in extended else p[s] for s in names
            ]
            for p in answer["Datapoints"]
        }

    def stat(
        self, name: str, metric: str, stat: str = "Sum", period: int = MINUTE, **more: Any
    ) -> Any:
        where = {"Namespace": self.namespace, "MetricName": metric}
        return {"Id": name, "MetricStat": {"Metric": where, "Period": period, "Stat": stat}, **more}

    async def data(
        self, *queries: Any, minutes: int = 4, **more: Any
    ) -> dict[str, dict[float, float]]:
        answer = await self.client.get_metric_data(
            MetricDataQueries=list(queries), StartTime=self.at(0), EndTime=self.at(minutes), **more
        )
        return {
            result["Id"]: {
                self.minute_of(at): value
                for at, value in zip(result["Timestamps"], result["Values"], strict=True)
            }
            for result in answer["MetricDataResults"]
        }


@pytest_asyncio.fixture(loop_scope="module")
async def metrics(cloud, name):
    return Metrics(await cloud.client("cloudwatch"), name)


async def test_samples_of_a_period_are_one_point(metrics):
    await metrics.put("m", 1.0, Value=2.0)
    await metrics.put("m", 1.5, Value=6.0)
    await metrics.put("m", 1.99, Value=1.0)
    await metrics.put("m", 3.0, Value=4.0)

    names = ("Sum", "Average", "Minimum", "Maximum", "SampleCount")
    assert await metrics.statistics("m", *names) == {
        1: [9.0, 3.0, 1.0, 6.0, 3.0],
        3: [4.0, 4.0, 4.0, 4.0, 1.0],
    }
    assert await metrics.statistics("m", "Sum", period=300) == {0: [13.0]}


async def test_values_count_as_often_as_counts_say(metrics):
    await metrics.put("m", 0, Values=[1.0, 10.0], Counts=[98.0, 2.0])

    assert await metrics.statistics("m", "Sum", "SampleCount", "p50", "p98", "p99", "Maximum") == {
        0: [118.0, 100.0, 1.0, 1.0, 10.0, 10.0]
    }


async def test_statistic_sets_are_added_up(metrics):
    for total, count, low, high in ((10.0, 4, 1.0, 5.0), (7.0, 1, 7.0, 7.0)):
        values = {"Sum": total, "SampleCount": count, "Minimum": low, "Maximum": high}
        await metrics.put("m", 2, StatisticValues=values)

    names = ("Sum", "SampleCount", "Minimum", "Maximum", "Average")
    assert await metrics.statistics("m", *names) == {2: [17.0, 5.0, 1.0, 7.0, 3.4]}


async def test_a_set_of_dimensions_is_a_metric_of_its_own(metrics):
    one = [{"Name": "a", "Value": "1"}, {"Name": "b", "Value": "2"}]
    await metrics.put("m", 0, Value=1.0, Dimensions=one)
    await metrics.put("m", 0, Value=10.0, Dimensions=one[::-1])
    await metrics.put("m", 0, Value=100.0, Dimensions=one[:1])
    await metrics.put("m", 0, Value=1000.0)

    found = [await metrics.statistics("m", "Sum", Dimensions=d) for d in (one, one[:1], [])]
    listed = (await metrics.client.list_metrics(Namespace=metrics.namespace))["Metrics"]

    assert found == [{0: [11.0]}, {0: [100.0]}, {0: [1000.0]}]
    assert sorted(len(metric["Dimensions"]) for metric in listed) == [0, 1, 2]


async def test_the_end_of_the_asked_time_is_not_in_it(metrics):
    await metrics.put_series("m", {0: 1.0, 3: 2.0, 4: 4.0})

    assert await metrics.data(metrics.stat("m", "m")) == {"m": {0: 1.0, 3: 2.0}}


@pytest.mark.parametrize(
    ("order", "expected"), [("TimestampAscending", [0, 1, 2]), ("TimestampDescending", [2, 1, 0])]
)
async def test_points_come_in_the_order_asked_for(metrics, order, expected):
    await metrics.put_series("m", {1: 1.0, 0: 1.0, 2: 1.0})

    found = await metrics.data(metrics.stat("m", "m"), ScanBy=order)

    assert list(found["m"]) == expected


async def test_results_have_ids_labels_and_only_what_returns_data(metrics):
    await metrics.put_series("m", {0: 1.0})
    answer = await metrics.client.get_metric_data(
        MetricDataQueries=[
            metrics.stat("a", "m", ReturnData=False),
            metrics.stat("b", "m"),
            {"Id": "c", "Expression": "a + b", "Label": "both"},
        ],
        StartTime=metrics.at(0),
        EndTime=metrics.at(1),
    )

    results = answer["MetricDataResults"]
    assert [(r["Id"], r["Label"], r["StatusCode"]) for r in results] == [
        ("b", "m", "Complete"),
        ("c", "both", "Complete"),
    ]


EXPRESSIONS = [
    ("a + b", {0: 12, 1: 24, 2: 30}),
    ("a - 1", {0: 9, 1: 19, 2: 29}),
    ("-a * 2", {0: -20, 1: -40, 2: -60}),
    ("a / b", {0: 5, 1: 5}),
    ("a / (b - 2)", {1: 10}),
    ("b ^ 2", {0: 4, 1: 16}),
    ("-2 ^ 2 + a", {0: 6, 1: 16, 2: 26}),
    ("(a + b) * 100 / a", {0: 120, 1: 120, 2: 100}),
    ("a > 15", {0: 0, 1: 1, 2: 1}),
    ("b < a", {0: 1, 1: 1, 2: 1}),
    ("a >= 20 AND a <= 20", {0: 0, 1: 1, 2: 0}),
    ("a < 15 || a > 25", {0: 1, 1: 0, 2: 1}),
    ("SUM([a, b])", {0: 12, 1: 24, 2: 30}),
    ("AVG([a, b])", {0: 6, 1: 12, 2: 15}),
    ("MIN(METRICS())", {0: 2, 1: 4, 2: 30}),
    ('SUM(METRICS("b")) + 0', {0: 2, 1: 4}),
    ("MAX([a, b]) - MIN([a, b])", {0: 8, 1: 16, 2: 0}),
    ("STDDEV([a, b])", {0: 4, 1: 8, 2: 0}),
    ("DATAPOINT_COUNT([a, b])", {0: 2, 1: 2, 2: 1}),
    ("a / MAX(a)", {0: 10 / 30, 1: 20 / 30, 2: 1}),
    ("a - AVG(a)", {0: -5, 1: 5, 2: 15}),
    ("a * METRIC_COUNT(METRICS())", {0: 20, 1: 40, 2: 60}),
    ("b / DATAPOINT_COUNT(b)", {0: 1, 1: 2}),
    ("TIME_SERIES(SUM(a))", {0: 60, 1: 60, 2: 60, 3: 60}),
    ("TIME_SERIES(STDDEV(b))", {0: 1, 1: 1, 2: 1, 3: 1}),
    ("FILL(b, 0)", {0: 2, 1: 4, 2: 0, 3: 0}),
    ("FILL(b, REPEAT)", {0: 2, 1: 4, 2: 4, 3: 4}),
    ("FILL(b, a)", {0: 2, 1: 4, 2: 30}),
    ("FILL(IF(a != 20, a), LINEAR)", {0: 10, 1: 20, 2: 30}),
    ("a + FILL(b, 1)", {0: 12, 1: 24, 2: 31, 3: 1}),
    ("IF(a > 15, b, 7)", {0: 7, 1: 4, 2: 0}),
    ("IF(a > 15, 1)", {1: 1, 2: 1}),
    ("IF(a < 15, a, b)", {0: 10, 1: 4}),
    ("IF(MAX(a) > 5, b, a)", {0: 2, 1: 4}),
    ("RATE(a)", {1: 10 / 60, 2: 10 / 60}),
    ("DIFF(a)", {1: 10, 2: 10}),
    ("DIFF_TIME(a)", {1: 60, 2: 60}),
    ("RUNNING_SUM(a)", {0: 10, 1: 30, 2: 60}),
    ("b / PERIOD(b)", {0: 2 / 60, 1: 4 / 60}),
    ("CEIL(a / 7)", {0: 2, 1: 3, 2: 5}),
    ("FLOOR(a / 7)", {0: 1, 1: 2, 2: 4}),
    ("ABS(b - a)", {0: 8, 1: 16, 2: 30}),
    ("LOG10(a * 10)", {0: 2, 1: 2.30103, 2: 2.47712}),
    ("LOG(b - 2)", {1: 0.693147}),
    ("EPOCH(b) - MIN(EPOCH(b))", {0: 0, 1: 60, 2: 120, 3: 180}),
    ("FIRST(SORT([a, b], AVG, ASC))", {0: 2, 1: 4}),
    ("LAST(SLICE(SORT(METRICS(), SUM, DESC), 0, 1))", {0: 10, 1: 20, 2: 30}),
    ("SUM(-[a, b])", {0: -12, 1: -24, 2: -30}),
    ("SUM(REMOVE_EMPTY([b, IF(a > 100, a)]))", {0: 2, 1: 4}),
]


@pytest.mark.parametrize(("expression", "expected"), EXPRESSIONS)
async def test_metric_math(metrics, expression, expected):
    await metrics.put_series("a", {0: 10.0, 1: 20.0, 2: 30.0})
    await metrics.put_series("b", {0: 2.0, 1: 4.0})

    found = await metrics.data(
        metrics.stat("a", "a", ReturnData=False),
        metrics.stat("b", "b", ReturnData=False),
        {"Id": "e", "Expression": expression},
    )

    assert found == {"e": pytest.approx(expected)}


@pytest.mark.parametrize(
    ("expression", "message"),
    [
        ("ANOMALY_DETECTION_BAND(a)", "metric math function ANOMALY_DETECTION_BAND"),
        ("INSIGHT_RULE_METRIC(a, a)", "metric math function INSIGHT_RULE_METRIC"),
        ("SEARCH(a, a)", "metric math function SEARCH"),
        ("sum([a])", "metric math function sum"),
        ("SELECT AVG(a) FROM b", "Metrics Insights queries are not served"),
        ("a +", "Error in expression 'a +': at its end"),
        ("unknown + 1", "unknown id 'unknown'"),
        ("SUM(a)", "must be a time series or an array of time series, not a number"),
        ("[a, 1]", "an array is of time series"),
        ("[a] + [a]", "between two arrays"),
        ("IF([a], a)", "IF takes time series and numbers"),
        ("e + a", "'e' refers to itself"),
        ("SEARCH('{n} (', 'Sum')", "Error in search expression"),
        ("a.b", "at '.b'"),
        ("__import__(a)", "at '__import__'"),
    ],
)
async def test_metric_math_that_is_not_served_is_refused_by_name(metrics, expression, message):
    with pytest.raises(ClientError, match="ValidationError") as caught:
        await metrics.data(metrics.stat("a", "a"), {"Id": "e", "Expression": expression})

    assert message in str(caught.value)


async def test_an_array_gives_a_result_for_each_series(metrics):
    await metrics.put_series("errors", {0: 1.0})
    await metrics.put_series("faults", {0: 2.0, 1: 3.0})
    answer = await metrics.client.get_metric_data(
        MetricDataQueries=[
            metrics.stat("a", "errors", ReturnData=False),
            metrics.stat("b", "faults", ReturnData=False),
            {"Id": "e", "Expression": "FILL(METRICS(), 0)", "Label": "filled"},
            {"Id": "f", "Expression": "[b, a] * 2", "Label": "${LABEL}: ${MAX} of ${PROP('Stat')}"},
        ],
        StartTime=metrics.at(0),
        EndTime=metrics.at(2),
        ScanBy="TimestampAscending",
    )

    assert [(r["Id"], r["Label"], r["Values"]) for r in answer["MetricDataResults"]] == [
        ("e", "filled errors", [1.0, 0.0]),
        ("e", "filled faults", [2.0, 3.0]),
        ("f", "faults: 6 of Sum", [4.0, 6.0]),
        ("f", "errors: 2 of Sum", [2.0]),
    ]


async def test_a_search_finds_metrics_by_schema_and_terms(metrics):
    for site, value in (("north", 1.0), ("south", 2.0)):
        for name in ("ReadErrors", "WriteErrors", "Reads"):
            where = [{"Name": "site", "Value": site}]
            await metrics.put(name, 0, Value=value, Dimensions=where)
    await metrics.put("ReadErrors", 0, Value=9.0)

    async def found(terms: str) -> list[str]:
        search = f"SEARCH('{{{metrics.namespace}, site}} {terms}', 'Sum', 60)"
        answer = await metrics.client.get_metric_data(
            MetricDataQueries=[{"Id": "s", "Expression": search}],
            StartTime=metrics.at(0),
            EndTime=metrics.at(1),
        )
        return [result["Label"] for result in answer["MetricDataResults"]]

    assert await found("errors south") == ["south ReadErrors", "south WriteErrors"]
    assert await found('MetricName="Reads"') == ["north Reads", "south Reads"]
    assert await found("site=north NOT (Write OR Reads)") == ["north ReadErrors"]
    assert await found('"Read"') == []


async def test_points_come_in_pages(metrics):
    await metrics.put_series("a", dict.fromkeys(range(5), 1.0))
    await metrics.put_series("b", dict.fromkeys(range(3), 2.0))
    asked: dict[str, Any] = {
        "MetricDataQueries": [metrics.stat("a", "a"), metrics.stat("b", "b")],
        "StartTime": metrics.at(0), "EndTime": metrics.at(9),
        "ScanBy": "TimestampAscending", "MaxDatapoints": 3,
    }  # fmt: skip
    pages, token = [], {}
    while True:
        answer = await metrics.client.get_metric_data(**asked, **token)
        pages.append(
            [
                (r["Id"], [metrics.minute_of(at) for at in r["Timestamps"]], r["StatusCode"])
                for r in answer["MetricDataResults"]
            ]
        )
        if "NextToken" not in answer:
            break
        token = {"NextToken": answer["NextToken"]}

    assert pages == [
        [("a", [0, 1, 2], "PartialData")],
        [("a", [3, 4], "Complete"), ("b", [0], "PartialData")],
        [("b", [1, 2], "Complete")],
    ]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"Id": "A"}, "not matching the expected pattern"),
        ({"Id": "b"}, "not unique"),
        ({"Expression": "b"}, "either MetricStat or Expression"),
        ({"Label": "${LAST_TIME}"}, "${LAST_TIME} in a label is not served"),
        ({"Label": "${MAX}" * 7}, "at most five dynamic values"),
        ({"Period": 45}, "Period 45 is invalid"),
        ({"Stat": "q"}, "The value q for parameter"),
    ],
)
async def test_malformed_queries_are_refused(metrics, change, message):
    await metrics.put_series("a", {0: 1.0})
    first = metrics.stat("a", "a")
    for name, value in change.items():
        target = first["MetricStat"] if name in {"Period", "Stat"} else first
        target[name] = value

    with pytest.raises(ClientError, match="ValidationError") as caught:
        await metrics.data(first, metrics.stat("b", "a"))

    assert message in str(caught.value)


async def test_a_unit_asks_for_the_metric_of_that_unit(metrics):
    await metrics.put("m", 0, Value=1.0, Unit="Seconds")

    assert await metrics.statistics("m", "Sum", Unit="Seconds") == {0: [1.0]}
    assert await metrics.statistics("m", "Sum", Unit="Bytes") == {}


@pytest.mark.parametrize(
    ("namespace", "datum", "code"),
    [
        ("AWS/Own", {"Value": 1.0}, "InvalidParameterValue"),
        ("n", {"Values": [1.0], "Counts": [1.0, 2.0]}, "InvalidParameterValue"),
        ("n", {"Values": [1.0] * 151}, "InvalidParameterValue"),
        ("n", {}, "MissingParameter"),
        ("n", {"Value": float("nan")}, "InvalidParameterValue"),
        (
            "n",
            {"Value": 1.0, "Timestamp": dt.datetime(2020, 1, 1, tzinfo=dt.UTC)},
            "InvalidParameterValue",
        ),
    ],
)
async def test_malformed_data_is_refused(metrics, code_of, namespace, datum, code):
    with pytest.raises(ClientError) as caught:
        await metrics.client.put_metric_data(
            Namespace=namespace, MetricData=[{"MetricName": "m", **datum}]
        )

    assert code_of(caught.value) == code


async def test_the_cloud_publishes_the_metrics_of_its_services(cloud, metrics, stream_of):
    stream = await stream_of()
    stream.hold_clock()
    await stream.put(*[("k", bytes(999))] * 10)
    await stream.put(("k", bytes(2**20 - 1)))
    end = dt.datetime.now(dt.UTC) + dt.timedelta(minutes=1)

    async def total(metric: str) -> float:
        answer = await metrics.client.get_metric_statistics(
            Namespace="AWS/Kinesis", MetricName=metric, Statistics=["Sum"], Period=3600,
            Dimensions=[{"Name": "StreamName", "Value": stream.name}],
            StartTime=end - dt.timedelta(minutes=10), EndTime=end,
        )  # fmt: skip
        return sum(point["Sum"] for point in answer["Datapoints"])

    assert await total("IncomingRecords") == 10
    assert await total("IncomingBytes") == 10_000
    assert await total("WriteProvisionedThroughputExceeded") == 1
    assert await total("PutRecords.ThrottledRecords") == 1
    # AWS counts only its own failures there.
    assert await total("PutRecords.FailedRecords") == 0


@pytest.mark.parametrize(
    ("period", "begin", "end", "found"),
    [
        # Minutes 0 and 1 have a sample each 10 s; a period is there whole or not at all.
        (60, 0.0, 1.0, {0: 6}),
        (60, 0.0, 1.01, {0: 6, 1: 6}),
        (60, 0.9, 1.5, {0: 6, 1: 6}),
        (30, 0.6, 1.01, {0.5: 3, 1: 3}),
        (10, 0.9, 1.0, {50 / 60: 1}),
        (10, 0.9, 1 + 0.0001, {50 / 60: 1, 1: 1}),
    ],
)
async def test_a_period_that_begins_within_the_time_asked_for_is_told_whole(
    metrics: Metrics, period: int, begin: float, end: float, found: dict[float, float]
) -> None:
    for second in range(0, 120, 10):
        await metrics.put("m", second / 60, Value=1, StorageResolution=1)
    answer = await metrics.client.get_metric_data(
        MetricDataQueries=[metrics.stat("m", "m", period=period)],
        StartTime=metrics.at(begin), EndTime=metrics.at(end), ScanBy="TimestampAscending",
    )  # fmt: skip
    (told,) = answer["MetricDataResults"]
    times = [metrics.minute_of(at) for at in told["Timestamps"]]
    assert times == pytest.approx(list(found))
    assert told["Values"] == list(found.values())
