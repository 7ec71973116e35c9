"""Whatever a handler does, its invocation ends, the next one works, and the cloud answers."""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from localcloud.functions import processes, runtime

pytestmark = pytest.mark.asyncio(loop_scope="module")

linux_only = pytest.mark.skipif(sys.platform != "linux", reason="without /proc nothing is limited")

# Does what an event says, and "ok" otherwise.
CODE = """
    import ctypes, os, signal, subprocess, sys, threading, time

    def handler(event, context):
        match event.get("do"):
            case "exit":
                sys.exit(event["code"])
            case "die":
                os._exit(event["code"])
            case "signal":
                os.kill(os.getpid(), event["number"])
            case "segfault":
                ctypes.string_at(0)
            case "hang":
                signal.signal(signal.SIGTERM, signal.SIG_IGN)
                time.sleep(600)
            case "spin":
                while True:
                    pass
            case "eat":
                kept = []
                while True:
                    kept.append(bytearray(os.urandom(1024) * 1024 * 8))
            case "eat at once":
                return len(b"x" * (1 << 40))
            case "fork":
                while True:
                    if os.fork() == 0:
                        time.sleep(600)
            case "leave a child":
                child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"],
                                         start_new_session=True)
                open(event["file"], "w").write(str(child.pid))
                os._exit(1)
            case "flood":
                line = "x" * 1000 + "\\n"
                while True:
                    sys.stdout.write(line * 100)
            case "flood without lines":
                while True:
                    sys.stdout.write("x" * 100_000)
            case "close output":
                os.close(1), os.close(2)
            case "large answer":
                return "x" * (7 * 1024 * 1024)
            case "not JSON":
                return object()
        return "ok"
"""


@pytest_asyncio.fixture(loop_scope="module")
async def bad(cloud, function_of):
    client = await cloud.client("lambda")

    async def run(event: dict[str, Any], **settings: Any) -> tuple[Any, str | None]:
        """What the function answers, and its error; then it must still work."""
        name = await function_of(CODE, **{"Timeout": 20, "MemorySize": 256, **settings})
        answer = await client.invoke(FunctionName=name, Payload=json.dumps(event).encode())
        told = json.loads(await answer["Payload"].read())
        again = await client.invoke(FunctionName=name, Payload=b"{}")
        assert json.loads(await again["Payload"].read()) == "ok"
        assert cloud.local.health()["ready"]
        return told, answer.get("FunctionError")

    return run


@pytest.mark.parametrize(
    ("event", "message"),
    [
        ({"do": "exit", "code": 0}, "Runtime exited without providing a reason"),
        ({"do": "die", "code": 3}, "Runtime exited with error: exit status 3"),
        ({"do": "signal", "number": 15}, "Runtime exited with error: signal: terminated"),
        ({"do": "segfault"}, "Runtime exited with error: signal: segmentation fault"),
    ],
)
async def test_a_runtime_that_ends_is_an_exit_error(bad, event, message):
    told, error = await bad(event)

    assert (error, told["errorType"]) == ("Unhandled", "Runtime.ExitError")
    assert told["errorMessage"].startswith("RequestId: ")
    assert told["errorMessage"].endswith(f"Error: {message}")


@pytest.mark.parametrize("do", ["hang", "spin", "flood", "flood without lines"])
async def test_a_handler_without_an_end_is_ended(bad, do):
    told, error = await bad({"do": do}, Timeout=2)

    assert (error, told["errorType"]) == ("Unhandled", "Sandbox.Timedout")
    assert told["errorMessage"].endswith("Error: Task timed out after 2.00 seconds")


@linux_only
async def test_a_handler_that_eats_memory_is_ended_at_its_limit(bad):
    told, error = await bad({"do": "eat"})

    assert (error, told["errorType"]) == ("Unhandled", "Runtime.OutOfMemory")
    assert told["errorMessage"].endswith("Runtime exited with error: signal: killed")


@linux_only
async def test_memory_beyond_all_bounds_is_refused_to_the_handler(bad):
    told, error = await bad({"do": "eat at once"})

    assert (error, told["errorType"]) == ("Unhandled", "MemoryError")


@linux_only
async def test_a_handler_that_forks_without_end_is_ended_with_its_children(bad, monkeypatch):
    monkeypatch.setattr(processes, "MAX_PROCESSES", 50)
    told, error = await bad({"do": "fork"}, MemorySize=4096)

    assert (error, told["errorType"]) == ("Unhandled", "Runtime.ExitError")
    assert told["errorMessage"].endswith("signal: killed")


@linux_only
async def test_children_of_a_function_do_not_outlive_it(bad, tmp_path, eventually):
    note = tmp_path / "child"
    await bad({"do": "leave a child", "file": str(note)})
    child = int(note.read_text())

    def gone() -> bool:
        try:
            state = Path(f"/proc/{child}/stat").read_text().rpartition(")")[2].split()[0]
        except OSError:
            return True
        return state == "Z"

    await eventually(gone)


async def test_a_function_without_output_still_answers(bad):
    assert await bad({"do": "close output"}) == ("ok", None)


async def test_an_answer_that_is_too_large_is_an_error(bad):
    told, error = await bad({"do": "large answer"})

    assert (error, told["errorType"]) == ("Unhandled", "Function.ResponseSizeTooLarge")
    assert "exceeded maximum allowed payload size (6291556 bytes)" in told["errorMessage"]


async def test_an_answer_that_is_not_json_is_an_error(bad):
    told, error = await bad({"do": "not JSON"})

    assert (error, told["errorType"]) == ("Unhandled", "Runtime.MarshalError")


async def test_a_flood_is_kept_only_in_part_and_the_loss_is_counted(bad, cloud, eventually):
    before = cloud.service("lambda").status()["log_lines_dropped"]

    await bad({"do": "flood"}, Timeout=4)

    await eventually(lambda: cloud.service("lambda").status()["log_lines_dropped"] > before)


# Initialization


async def test_an_initialization_that_takes_too_long_begins_anew_in_the_invocation(
    cloud, function_of, monkeypatch, tmp_path
):
    monkeypatch.setattr(runtime, "INIT_TIMEOUT_S", 1.5)
    client = await cloud.client("lambda")
    first = tmp_path / "first"
    name = await function_of(f"""
        import os, time
        if not os.path.exists({str(first)!r}):
            open({str(first)!r}, "w").close()
            time.sleep(600)
        def handler(event, context):
            return "late"
    """)
    answer = await client.invoke(FunctionName=name, Payload=b"{}", LogType="Tail")

    assert json.loads(await answer["Payload"].read()) == "late"


async def test_an_initialization_without_an_end_uses_up_the_timeout(
    cloud, function_of, monkeypatch
):
    monkeypatch.setattr(runtime, "INIT_TIMEOUT_S", 0.5)
    client = await cloud.client("lambda")
    name = await function_of("import time; time.sleep(600)", Timeout=1)
    answer = await client.invoke(FunctionName=name, Payload=b"{}")

    assert json.loads(await answer["Payload"].read())["errorType"] == "Sandbox.Timedout"


async def test_a_module_that_exits_is_an_exit_error_each_time(cloud, function_of):
    client = await cloud.client("lambda")
    name = await function_of("import os; os._exit(7)")
    for _ in range(2):
        answer = await client.invoke(FunctionName=name, Payload=b"{}")
        told = json.loads(await answer["Payload"].read())
        assert told["errorType"] == "Runtime.ExitError"
        assert told["errorMessage"].endswith("exit status 7")


# Batches


@pytest.mark.parametrize("do", ["die", "hang"])
async def test_no_batch_is_lost_to_a_bad_handler(mapped_of, tmp_path, do, cloud):
    mapped = await mapped_of("crash")
    client = await cloud.client("lambda")
    await client.update_function_configuration(FunctionName=mapped.function, Timeout=2)
    await mapped.put(do, "b", "c")
    await mapped.create()

    assert await mapped.seen_when(2) == [[do, "b", "c"], [do, "b", "c"]]
    assert (mapped.status()["delivered"], mapped.status()["given_up"]) == (3, 0)


async def test_the_cloud_answers_while_a_function_floods_its_log(cloud, function_of):
    client, sqs = await cloud.client("lambda"), await cloud.client("sqs")
    name = await function_of(CODE, Timeout=3)
    flood = asyncio.create_task(client.invoke(FunctionName=name, Payload=b'{"do": "flood"}'))
    asked = 0
    while not flood.done():
        await asyncio.wait_for(sqs.list_queues(), 20)
        asked += 1
        await asyncio.sleep(0.05)

    assert asked >= 3
    assert (await flood)["FunctionError"] == "Unhandled"
