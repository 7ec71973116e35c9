"""The dashboards: fleet overview, device, pipeline health, and the comparison of runs.

Pipeline health is the CloudWatch dashboard that the stack deploys, chart by chart: what is changed
there is changed here.
"""

# ruff: noqa: S608 - the queries are Grafana's, which fills in what it gives

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from dashboards.cloudwatch import telemetry_dashboard
from dashboards.grafana.panels import board, cloudwatch, panel, timestream, variable
from dashboards.live.body import Widget, read_body
from fleetcast.target import LOCAL_ACCOUNT

if TYPE_CHECKING:
    from stack.config import StackConfig

FROM = "FROM $__database.$__table WHERE $__timeFilter"
CHOSEN = f"{FROM} AND class IN (${{class:singlequote}}) AND site IN (${{site:singlequote}})"
RUNS = f"{FROM} AND run IN (${{run:singlequote}})"
# What DESCRIBE tells beside the signals.
NO_SIGNALS = r"/^(?!(?:arrived_ms|class|device|measure_name|processed_ms|run|seq|site|time)$).*$/"


def boards(config: StackConfig) -> dict[str, dict[str, Any]]:
    """Dashboards of an environment by the name of their file."""
    environment = config.environment
    return {
        "fleet": _fleet(environment),
        "device": _device(environment),
        "pipeline": _pipeline(config),
        "runs": _runs(environment),
    }


def _fleet(environment: str) -> dict[str, Any]:
    devices = panel(
        "table", "Devices, the longest silent first",
        [timestream(
            "SELECT device, class, site, max(time) AS last_reading, count(*) AS readings "
            f"{CHOSEN} GROUP BY device, class, site ORDER BY last_reading LIMIT 500"
        )],
        width=24, height=11,
    )  # fmt: skip
    link = {
        "title": "signals of ${__value.raw}",
        "url": f"/d/fleetcast-device-{environment}?var-device=${{__value.raw}}&${{__url_time_range}}",
    }
    devices["fieldConfig"]["overrides"] = [
        {
            "matcher": {"id": "byName", "options": "device"},
            "properties": [{"id": "links", "value": [link]}],
        }
    ]
    return board(
        f"fleetcast-fleet-{environment}",
        f"Fleet: {environment}",
        [
            panel("stat", "Devices heard from",
                  [timestream(f"SELECT approx_distinct(device) AS devices {CHOSEN}")],
                  width=6, height=5),
            panel("stat", "Readings", [timestream(f"SELECT count(*) AS readings {CHOSEN}")],
                  width=6, height=5),
            panel("stat", "Sites", [timestream(f"SELECT approx_distinct(site) AS sites {CHOSEN}")],
                  width=6, height=5),
            panel("stat", "Last reading", [timestream(f"SELECT max(time) AS last {CHOSEN}")],
                  width=6, height=5, reduceOptions={"fields": "/.*/", "calcs": ["lastNotNull"]}),
            panel("timeseries", "Readings by class",
                  [timestream(
                      "SELECT bin(time, $__interval_ms) AS t, class, count(*) AS readings "
                      f"{CHOSEN} GROUP BY bin(time, $__interval_ms), class ORDER BY t"
                  )], by_label=True),
            panel("timeseries", "Devices that sent",
                  [timestream(
                      "SELECT bin(time, $__interval_ms) AS t, approx_distinct(device) AS devices "
                      f"{CHOSEN} GROUP BY bin(time, $__interval_ms) ORDER BY t"
                  )]),
            panel("barchart", "Readings by site",
                  [timestream(
                      "SELECT site, count(*) AS readings, approx_distinct(device) AS devices "
                      f"{CHOSEN} GROUP BY site ORDER BY site"
                  )], width=24, xField="site"),
            devices,
        ],
        variables=[
            variable("class", "Class", f"SELECT DISTINCT class {FROM}", many=True),
            variable("site", "Site", f"SELECT DISTINCT site {FROM}", many=True),
        ],
    )  # fmt: skip


def _device(environment: str) -> dict[str, Any]:
    of_device = f"{FROM} AND device = '$device'"
    signal = 'avg("${signal}") AS "${signal}"'
    return board(
        f"fleetcast-device-{environment}",
        f"Device: {environment}",
        [
            panel("stat", "Readings",
                  [timestream(f"SELECT count(*) AS readings {of_device}")], width=8, height=4),
            panel("stat", "Highest sequence number",
                  [timestream(f"SELECT max(seq) AS seq {of_device}")], width=8, height=4),
            panel("stat", "Last reading", [timestream(f"SELECT max(time) AS last {of_device}")],
                  width=8, height=4, reduceOptions={"fields": "/.*/", "calcs": ["lastNotNull"]}),
            panel("timeseries", "Signal ${signal}",
                  [timestream(
                      f"SELECT bin(time, $__interval_ms) AS t, {signal}, "
                      'min("${signal}") AS lowest, max("${signal}") AS highest '
                      f"{of_device} GROUP BY bin(time, $__interval_ms) ORDER BY t"
                  )], width=24, height=9),
            panel("timeseries", "From device to processor",
                  [timestream(
                      "SELECT time, processed_ms - to_milliseconds(time) AS until_processed, "
                      "arrived_ms - to_milliseconds(time) AS until_arrived "
                      f"{of_device} ORDER BY time"
                  )], unit="ms"),
            panel("timeseries", "Time since the reading before",
                  [timestream(
                      "SELECT time, (to_milliseconds(time) - to_milliseconds("
                      "lag(time) OVER (ORDER BY time))) AS gap "
                      f"{of_device} ORDER BY time"
                  )], unit="ms"),
            panel("table", "Newest readings",
                  [timestream(f"SELECT * {of_device} ORDER BY time DESC LIMIT 100")], width=24),
        ],
        variables=[
            variable("device", "Device",
                     f"SELECT DISTINCT device {FROM} ORDER BY device LIMIT 1000"),
            variable("signal", "Signal", "DESCRIBE $__database.$__table", regex=NO_SIGNALS),
        ],
        back="now-30m",
    )  # fmt: skip


def _runs(environment: str) -> dict[str, Any]:
    return board(
        f"fleetcast-runs-{environment}",
        f"Runs: {environment}",
        [
            panel("table", "Runs",
                  [timestream(
                      "SELECT run, min(time) AS began, max(time) AS ended, count(*) AS readings, "
                      f"approx_distinct(device) AS devices, max(seq) AS highest_seq {RUNS} "
                      "GROUP BY run ORDER BY began DESC"
                  )], width=24, height=7),
            panel("timeseries", "Readings",
                  [timestream(
                      "SELECT bin(time, $__interval_ms) AS t, run, count(*) AS readings "
                      f"{RUNS} GROUP BY bin(time, $__interval_ms), run ORDER BY t"
                  )], by_label=True),
            panel("barchart", "Readings by class",
                  [timestream(
                      f"SELECT class, run, count(*) AS readings {RUNS} GROUP BY class, run "
                      "ORDER BY class, run"
                  )], xField="class"),
            panel("table", "From device to processor (ms)",
                  [timestream(
                      "SELECT run, avg(processed_ms - to_milliseconds(time)) AS mean, "
                      "approx_percentile(processed_ms - to_milliseconds(time), 0.99) AS p99, "
                      f"max(processed_ms - to_milliseconds(time)) AS most {RUNS} "
                      "GROUP BY run ORDER BY run"
                  )], width=24, height=7),
            panel("table", "Readings of a device, fewest and most",
                  [timestream(
                      "WITH each AS (SELECT run, device, count(*) AS readings "
                      f"{RUNS} GROUP BY run, device) SELECT run, count(*) AS devices, "
                      "min(readings) AS fewest, max(readings) AS most, avg(readings) AS mean "
                      "FROM each GROUP BY run ORDER BY run"
                  )], width=24, height=7),
        ],
        variables=[variable("run", "Run", f"SELECT DISTINCT run {FROM}", many=True)],
        back="now-6h",
    )  # fmt: skip


def _pipeline(config: StackConfig) -> dict[str, Any]:
    body = read_body(telemetry_dashboard(config, LOCAL_ACCOUNT).to_json())
    charts = [_chart(widget) for widget in body.widgets if widget.kind == "metric"]
    return board(
        f"fleetcast-pipeline-{config.environment}", f"Pipeline: {config.environment}", charts
    )


def _chart(widget: Widget) -> dict[str, Any]:
    """A panel of a chart of the CloudWatch dashboard."""
    properties = widget.properties
    targets = [
        cloudwatch(_named(series.query, number), chr(ord("A") + number))
        for number, series in enumerate(widget.series)
    ]
    single = properties["view"] == "singleValue"
    made = panel(
        "stat" if single else "timeseries",
        str(properties["title"]),
        targets,
        width=widget.place[2],
        height=5 if single else 8,
        thresholds=[
            line["value"] for line in properties.get("annotations", {}).get("horizontal", ())
        ],
    )
    if single:
        made["options"] = {"reduceOptions": {"calcs": ["sum"]}}
    made["fieldConfig"]["overrides"] = [
        {
            "matcher": {"id": "byFrameRefID", "options": target["refId"]},
            "properties": [{"id": "custom.axisPlacement", "value": "right"}],
        }
        for target, series in zip(targets, widget.series, strict=True)
        if series.axis == "right"
    ]
    return made


def _named(query: dict[str, Any], number: int) -> dict[str, Any]:
    """The query with an id that expressions and Grafana know it by; its own where it has one."""
    own = query["Id"]
    return {**query, "Id": f"q{number}" if own.endswith("_shown") else own}
