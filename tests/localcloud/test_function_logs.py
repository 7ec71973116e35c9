from __future__ import annotations

import json
import re
from typing import Any

import pytest
import pytest_asyncio

pytestmark = pytest.mark.asyncio(loop_scope="module")

CODE = """
    import logging, os, time
    if "AWS_LAMBDA_LOG_LEVEL" not in os.environ:
        logging.getLogger().setLevel("INFO")

    def handler(event, context):
        logging.getLogger().info("hello %s", event["n"])
        if event["n"] < 0:
            time.sleep(600)
        return "ok"
"""


@pytest_asyncio.fixture(loop_scope="module")
async def lines_of(cloud, function_of, eventually):
    async def run(n: int, **settings: Any) -> list[str]:
        """The lines of an invocation, in its log group."""
        client, logs = await cloud.client("lambda"), await cloud.client("logs")
        name = await function_of(CODE, **settings)
        await client.invoke(FunctionName=name, Payload=json.dumps({"n": n}).encode())
        group = settings.get("LoggingConfig", {}).get("LogGroup", f"/aws/lambda/{name}")

        async def messages() -> list[str]:
            try:
                found = await logs.filter_log_events(logGroupName=group)
            except logs.exceptions.ResourceNotFoundException:
                return []
            lines = [event["message"] for event in found["events"]]
            return lines if any("REPORT" in line or "report" in line for line in lines) else []

        return await eventually(messages)

    return run


async def test_a_report_has_the_figures_of_the_invocation(lines_of):
    lines = await lines_of(1, MemorySize=512)

    assert lines[0].startswith("INIT_START Runtime Version: python:3.")
    assert re.fullmatch(r"START RequestId: [\w-]+ Version: \$LATEST", lines[1])
    assert any("hello 1" in line for line in lines)
    figures = re.fullmatch(
        r"REPORT RequestId: [\w-]+\tDuration: [\d.]+ ms\tBilled Duration: \d+ ms\t"
        r"Memory Size: 512 MB\tMax Memory Used: (\d+) MB\tInit Duration: ([\d.]+) ms",
        lines[-1],
    )
    assert figures is not None
    assert 10 < int(figures.group(1)) < 512
    assert float(figures.group(2)) > 1


async def test_a_timeout_is_told_before_the_report(lines_of):
    lines = await lines_of(-1, Timeout=1)

    assert re.fullmatch(r"20\S+Z [\w-]+ Task timed out after 1.00 seconds", lines[-3])
    assert lines[-2].startswith("END RequestId: ")
    assert lines[-1].endswith("\tStatus: timeout")


async def test_json_logs_have_platform_events_and_the_functions_own(lines_of, name):
    group = f"/custom/{name}"
    lines = await lines_of(
        1,
        LoggingConfig={"LogFormat": "JSON", "LogGroup": group, "SystemLogLevel": "DEBUG"},
    )

    told = [json.loads(line) for line in lines]
    platform = {entry["type"]: entry["record"] for entry in told if "type" in entry}
    assert list(platform) == [
        "platform.initStart",
        "platform.start",
        "platform.runtimeDone",
        "platform.report",
    ]
    assert platform["platform.report"]["status"] == "success"
    assert platform["platform.report"]["metrics"].keys() >= {
        "durationMs",
        "billedDurationMs",
        "memorySizeMB",
        "initDurationMs",
    }
    (own,) = [entry for entry in told if "type" not in entry]
    assert (own["level"], own["message"]) == ("INFO", "hello 1")


async def test_log_levels_leave_lines_out(lines_of):
    config = {"LogFormat": "JSON", "ApplicationLogLevel": "WARN", "SystemLogLevel": "WARN"}
    lines = await lines_of(-1, Timeout=1, LoggingConfig=config)

    kinds = [json.loads(line).get("type") for line in lines if line.startswith("{")]
    assert kinds == ["platform.runtimeDone", "platform.report"]
    assert not any("hello" in line for line in lines)
