"""Every query of every panel is run as Grafana would run it, and gives rows."""

from __future__ import annotations

import re
import time
from typing import TYPE_CHECKING, Any

import pytest
import pytest_asyncio
from botocore.exceptions import ClientError

from dashboards.grafana import boards
from dashboards.grafana.provisioning import datasources
from stack.config import StackConfig

if TYPE_CHECKING:
    from tests.dashboards.conftest import Deployed

pytestmark = pytest.mark.asyncio(loop_scope="module")
CONFIG = StackConfig.for_target("local", "shown")
TIMESTREAM, CLOUDWATCH = "grafana-timestream-datasource", "cloudwatch"
# Topic rules publish where MQTT arrives; the run of these tests sends to the stream.
SILENT = {"Topic rule"}
INTERVAL_MS = 10_000


def panels(kind: str) -> list[Any]:
    return [
        pytest.param(name, panel, id=f"{name}: {panel['title']}")
        for name, board in boards(CONFIG).items()
        for panel in board["panels"]
        if panel["datasource"]["type"] == kind
    ]


class Grafana:
    """Expands macros and variables as the data source and Grafana do."""

    def __init__(self, deployed: Deployed) -> None:
        self._deployed = deployed
        (source, _) = datasources(deployed.config, deployed.target)["datasources"]
        self._settings = source["jsonData"]
        self.range_ms = (int(time.time() * 1000) - 900_000, int(time.time() * 1000) + 5_000)

    def macros(self, query: str) -> str:
        start, end = self.range_ms
        for macro, value in (
            ("$__database", self._settings["defaultDatabase"]),
            ("$__table", self._settings["defaultTable"]),
            ("$__timeFilter",
             f"time BETWEEN from_milliseconds({start}) AND from_milliseconds({end})"),
            ("$__interval_ms", f"{INTERVAL_MS}ms"),
        ):  # fmt: skip
            query = query.replace(macro, value)
        assert "$__" not in query
        return query

    async def values(self, variable: dict[str, Any]) -> list[str]:
        rows = await self.rows(variable["query"]["rawQuery"])
        pattern = re.compile(variable["regex"].strip("/") or ".*")
        found = [row["Data"][0]["ScalarValue"] for row in rows]
        return [value for value in found if pattern.match(value)]

    async def with_variables(self, query: str, variables: list[dict[str, Any]]) -> str:
        for variable in variables:
            values = await self.values(variable)
            assert values, variable["name"]
            name = variable["name"]
            query = query.replace(f"${{{name}:singlequote}}", ",".join(f"'{v}'" for v in values))
            query = query.replace(f"${{{name}}}", values[0]).replace(f"${name}", values[0])
        return query

    async def rows(self, query: str) -> list[Any]:
        return await self._deployed.rows(self.macros(query))


@pytest_asyncio.fixture(loop_scope="module")
async def grafana(deployed: Deployed) -> Grafana:
    return Grafana(deployed)


@pytest.mark.parametrize(("name", "panel"), panels(TIMESTREAM))
async def test_a_timestream_panel_gets_rows(grafana, name, panel):
    variables = boards(CONFIG)[name]["templating"]["list"]
    for target in panel["targets"]:
        query = await grafana.with_variables(target["rawQuery"], variables)
        assert "${" not in query
        rows = await grafana.rows(query)
        assert rows
        assert any("ScalarValue" in datum for datum in rows[-1]["Data"])


@pytest.mark.parametrize(("name", "panel"), panels(CLOUDWATCH))
async def test_a_cloudwatch_panel_gets_values(deployed, grafana, eventually, name, panel):
    queries = []
    for target in panel["targets"]:
        query: dict[str, Any] = {"Id": target["id"], "ReturnData": not target["hide"]}
        if target["expression"]:
            query |= {"Expression": target["expression"], "Period": int(target["period"])}
        else:
            query["MetricStat"] = {
                "Metric": {
                    "Namespace": target["namespace"], "MetricName": target["metricName"],
                    "Dimensions": [
                        {"Name": name, "Value": values[0]}
                        for name, values in target["dimensions"].items()
                    ],
                },
                "Period": int(target["period"]), "Stat": target["statistic"],
            }  # fmt: skip
        queries.append(query)
    start, _ = grafana.range_ms

    async def with_values() -> set[str]:
        async with deployed.target.client("cloudwatch") as client:
            answer = await client.get_metric_data(
                MetricDataQueries=queries, StartTime=start / 1000, EndTime=time.time() + 60
            )
        return {one["Id"] for one in answer["MetricDataResults"] if one["Values"]}

    if panel["title"] in SILENT:
        assert await with_values() == set()
        return
    wanted = {target["id"] for target in panel["targets"] if not target["hide"]}

    async def complete() -> bool:
        return await with_values() == wanted

    await eventually(complete)


async def test_a_variable_of_signals_has_signals_only(grafana):
    (signal,) = [v for v in boards(CONFIG)["device"]["templating"]["list"] if v["name"] == "signal"]
    assert await grafana.values(signal) == ["temperature"]


async def test_a_wrong_query_would_be_seen(grafana):
    with pytest.raises(ClientError, match="nothing"):
        await grafana.rows("SELECT nothing FROM $__database.$__table WHERE $__timeFilter")
