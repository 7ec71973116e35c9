from __future__ import annotations

import json

import pytest
import pytest_asyncio
from botocore.exceptions import ClientError

from dashboards.cloudwatch import telemetry_dashboard
from stack.config import StackConfig

pytestmark = pytest.mark.asyncio(loop_scope="module")

METRIC = {"type": "metric", "properties": {"metrics": [["AWS/SQS", "M", "QueueName", "q"]]}}


@pytest_asyncio.fixture(loop_scope="module")
async def client(cloud):
    return await cloud.client("cloudwatch")


async def test_a_dashboard_is_kept_listed_and_deleted(client, name):
    body = telemetry_dashboard(StackConfig(environment="board"), "123456789012").to_json()
    await client.put_dashboard(DashboardName=name, DashboardBody=body)
    await client.put_dashboard(DashboardName=f"{name}-b", DashboardBody='{"widgets": []}')

    got = await client.get_dashboard(DashboardName=name)
    listed = await client.list_dashboards(DashboardNamePrefix=name)
    other = await client.list_dashboards(DashboardNamePrefix="none")

    assert got["DashboardBody"] == body
    assert got["DashboardArn"] == f"arn:aws:cloudwatch::123456789012:dashboard/{name}"
    assert [(e["DashboardName"], e["Size"]) for e in listed["DashboardEntries"]] == [
        (name, len(body)), (f"{name}-b", 15),
    ]  # fmt: skip
    assert other["DashboardEntries"] == []
    await client.delete_dashboards(DashboardNames=[name])
    with pytest.raises(ClientError, match=f"Dashboard {name} does not exist"):
        await client.get_dashboard(DashboardName=name)


@pytest.mark.parametrize(
    ("widget", "path", "message"),
    [
        ({"type": "chart"}, "/widgets/0/type", "Should be one of the types"),
        ({**METRIC, "width": 25}, "/widgets/0/width", "Should be <= 24"),
        ({**METRIC, "x": -1}, "/widgets/0/x", "Should be >= 0"),
        ({**METRIC, "height": "6"}, "/widgets/0/height", "Should be integer"),
        ({"type": "text"}, "/widgets/0/properties", "required property 'properties'"),
        ({"type": "text", "properties": {}}, "/widgets/0/properties", "property 'markdown'"),
        ({"type": "metric", "properties": {}}, "/widgets/0/properties", "property 'metrics'"),
        ({"type": "metric", "properties": {"metrics": [["AWS/SQS"]]}},
         "/widgets/0/properties/metrics/0", "pairs of dimensions"),
        ({"type": "metric", "properties": {"metrics": [["A", "M", {"stat": "Sum"}, "x"]]}},
         "/widgets/0/properties/metrics/0", "Invalid metric field type"),
        ({"type": "metric", "properties": {"metrics": [["..."]]}},
         "/widgets/0/properties/metrics/0", "pairs of dimensions"),
        ({"type": "alarm", "properties": {"alarms": []}}, "/widgets/0/properties/alarms",
         "1 to 100 alarm ARNs"),
        ("text", "/widgets/0", "Should be object"),
    ],
)  # fmt: skip
async def test_a_body_with_a_mistake_is_refused_with_its_place(client, name, widget, path, message):
    with pytest.raises(ClientError, match="InvalidParameterInput") as caught:
        await client.put_dashboard(
            DashboardName=name, DashboardBody=json.dumps({"widgets": [widget]})
        )

    assert "there are 1 validation errors" in str(caught.value)
    assert f'"dataPath": "{path}"' in str(caught.value)
    assert message in str(caught.value)


async def test_a_metric_may_repeat_the_names_of_the_one_before(client, name):
    metrics = [["A", "M", "D", "x"], [".", "N", ".", "."], ["...", "y"], ["...", {"stat": "Sum"}]]
    widget = {"type": "metric", "properties": {"metrics": metrics}}
    await client.put_dashboard(DashboardName=name, DashboardBody=json.dumps({"widgets": [widget]}))

    await client.delete_dashboards(DashboardNames=[name])


@pytest.mark.parametrize(
    ("name_of", "body", "message"),
    [
        ("d", "{", "must be a valid JSON object"),
        ("d", "[]", "Should be object"),
        ("d", "{}", "required property 'widgets'"),
        ("a b", '{"widgets": []}', "contains invalid characters"),
    ],
)
async def test_what_is_no_dashboard_is_refused(client, name_of, body, message):
    with pytest.raises(ClientError, match="InvalidParameterInput") as caught:
        await client.put_dashboard(DashboardName=name_of, DashboardBody=body)

    assert message in str(caught.value)
