from __future__ import annotations

import json
import time
from typing import Any

import pytest
import pytest_asyncio
from botocore.exceptions import ClientError

from localcloud.cloudwatch.metrics import MetricStore
from localcloud.logs.metric_filters import MINUTE_MS, MetricFilter

pytestmark = pytest.mark.asyncio(loop_scope="module")


class Group:
    """A log group with one stream, and the metric filters that it is given."""

    def __init__(self, client: Any, name: str) -> None:
        self.client, self.name = client, name

    async def put(self, *messages: str) -> None:
        now_ms = int(time.time() * 1000)
        await self.client.put_log_events(
            logGroupName=self.name,
            logStreamName="s",
            logEvents=[{"timestamp": now_ms, "message": message} for message in messages],
        )

    async def filter(self, pattern: str, **transformation: Any) -> None:
        await self.client.put_metric_filter(
            logGroupName=self.name,
            filterName="f",
            filterPattern=pattern,
            metricTransformations=[
                {
                    "metricNamespace": self.name,
                    "metricName": "m",
                    "metricValue": "1",
                    **transformation,
                }
            ],
        )


@pytest_asyncio.fixture(loop_scope="module")
async def group(cloud, name):
    client = await cloud.client("logs")
    await client.create_log_group(logGroupName=name)
    await client.create_log_stream(logGroupName=name, logStreamName="s")
    return Group(client, name)


async def test_matching_events_are_counted(group, samples):
    await group.put("ERROR before the filter")
    await group.filter("ERROR")
    await group.put("ERROR 1", "fine", "ERROR 2")

    assert await samples(group.name, "m") == 2


async def test_values_and_dimensions_come_from_the_event(group, samples):
    await group.filter(
        '{ $.level = "ERROR" && $.ms > 5 }',
        metricValue="$.ms",
        dimensions={"site": "$.site", "line": "$.at.line"},
        unit="Milliseconds",
    )
    event = {"level": "ERROR", "ms": 7.5, "site": "north", "at": {"line": 3}}
    await group.put(
        json.dumps(event),
        json.dumps({**event, "ms": 5}),
        json.dumps({**event, "ms": "8"}),
        json.dumps({"level": "ERROR", "ms": 9}),
        "no JSON",
    )

    assert await samples(group.name, "m", site="north", line="3") == 15.5
    assert await samples(group.name, "m") == 0


async def test_a_field_of_a_line_is_a_value(group, samples):
    await group.filter("[..., status = 5*, bytes]", metricValue="$bytes")
    await group.put('h "GET /" 500 12', 'h "GET /" 200 100', 'h "GET /" 503 -', 'h "GET /" 502 30')

    assert await samples(group.name, "m") == 42


async def test_a_filter_that_is_replaced_or_deleted_does_no_more(group, samples):
    await group.filter("ERROR")
    await group.filter("WARN")
    await group.put("ERROR", "WARN")
    await group.client.delete_metric_filter(logGroupName=group.name, filterName="f")
    await group.put("WARN")

    assert await samples(group.name, "m") == 1


async def test_what_a_function_prints_is_filtered_too(cloud, function_of, samples, eventually):
    client, logs = await cloud.client("lambda"), await cloud.client("logs")
    function = await function_of("""
        def handler(event, context):
            print("ERROR one")
            print("fine")
    """)
    name = f"/aws/lambda/{function}"
    await logs.create_log_group(logGroupName=name)
    await Group(logs, name).filter("ERROR")
    await client.invoke(FunctionName=function, Payload=b"{}")

    async def counted() -> bool:
        return await samples(name, "m") == 1

    await eventually(counted)


async def test_embedded_metrics_of_any_client_are_published(group, samples):
    directive = {"Namespace": group.name, "Dimensions": [["site"]], "Metrics": [{"Name": "n"}]}
    metadata = {"Timestamp": int(time.time() * 1000), "CloudWatchMetrics": [directive]}
    await group.put(
        json.dumps({"_aws": metadata, "site": "north", "n": [1, 2]}),
        json.dumps({"_aws": metadata, "site": "north", "n": "x"}),
    )

    assert await samples(group.name, "n", site="north") == 3
    assert await samples("AWS/Logs", "EMFValidationErrors", LogGroupName=group.name) == 1


def filter_with(**transformation: Any) -> MetricFilter:
    made = {"metricNamespace": "N", "metricName": "m", "metricValue": "1", **transformation}
    return MetricFilter.of(
        {"filterName": "f", "filterPattern": "ERROR", "metricTransformations": [made]}
    )


async def test_a_default_stands_for_the_events_of_a_minute_without_a_match():
    store, made = MetricStore(), filter_with(defaultValue=0)
    minute_ms = int(time.time()) // 60 * 60 * 1000
    made.take([(minute_ms, "a"), (minute_ms + 1000, "b")], store)
    made.take([(minute_ms + MINUTE_MS, "ERROR"), (minute_ms + MINUTE_MS, "c")], store)
    made.end_minutes(store, minute_ms + 1000)
    assert sum(b.count for s in store.series.values() for b in s.seconds.values()) == 1

    made.end_minutes(store, minute_ms + 2 * MINUTE_MS)

    periods = store.periods("N", "m", None, minute_ms // 1000, minute_ms // 1000 + 120, 60)
    assert {start: (b.total, b.count) for start, b in periods.items()} == {
        minute_ms // 1000: (0.0, 2.0),
        minute_ms // 1000 + 60: (1.0, 1.0),
    }


@pytest.mark.parametrize(
    ("pattern", "transformation", "message"),
    [
        ("{ $.a }", {}, "Invalid metric filter pattern"),
        ("", {"metricValue": "many"}, "neither a number nor a field"),
        ("", {"dimensions": {"a": "$.a"}, "defaultValue": 0}, "mutually exclusive"),
        ("", {"dimensions": dict.fromkeys("abcd", "$.a")}, "more than 3 dimensions"),
    ],
)
async def test_a_filter_that_cannot_be_evaluated_is_refused(
    group, pattern, transformation, message
):
    with pytest.raises(ClientError, match=message) as caught:
        await group.filter(pattern, **transformation)
    assert caught.value.response["Error"]["Code"] == "InvalidParameterException"
    described = await group.client.describe_metric_filters(logGroupName=group.name)
    assert described["metricFilters"] == []


async def test_a_pattern_can_be_tried_out(group):
    answer = await group.client.test_metric_filter(
        filterPattern="[ip, ..., bytes > 10]", logEventMessages=["a b 5", "a b c 12"]
    )

    assert answer["matches"] == [
        {
            "eventNumber": 2,
            "eventMessage": "a b c 12",
            "extractedValues": {"$ip": "a", "$2": "b", "$3": "c", "$bytes": "12"},
        }
    ]
