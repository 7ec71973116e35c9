from __future__ import annotations

import base64
import hashlib
import json
import os
from typing import Any

import pytest
import pytest_asyncio
from botocore.exceptions import ClientError

pytestmark = pytest.mark.asyncio(loop_scope="module")

ECHO = """
    def handler(event, context):
        return {"echo": event, "n": 1}
"""


@pytest_asyncio.fixture(loop_scope="module")
async def client(cloud):
    return await cloud.client("lambda")


@pytest.fixture
def invoke(client):
    async def run(name: str, event: Any = None, **more: Any) -> tuple[Any, str | None]:
        """What the function answers, and its error."""
        payload = json.dumps(event if event is not None else {}).encode()
        answer = await client.invoke(FunctionName=name, Payload=payload, **more)
        body = await answer["Payload"].read()
        return json.loads(body) if body else None, answer.get("FunctionError")

    return run


# Invocations


async def test_a_function_from_a_zip_answers_its_result(function_of, invoke, samples):
    name = await function_of(ECHO)

    assert await invoke(name, {"key": [1, "é"]}) == ({"echo": {"key": [1, "é"]}, "n": 1}, None)
    assert await samples("AWS/Lambda", "Invocations", FunctionName=name) == 1
    assert await samples("AWS/Lambda", "Errors", FunctionName=name) == 0


async def test_an_exception_is_answered_as_a_function_error(function_of, invoke, samples):
    name = await function_of("""
        def handler(event, context):
            raise KeyError("no such thing")
    """)

    answer, error = await invoke(name)

    assert error == "Unhandled"
    assert (answer["errorType"], answer["errorMessage"]) == ("KeyError", "'no such thing'")
    assert "in handler" in "".join(answer["stackTrace"])
    assert await samples("AWS/Lambda", "Errors", FunctionName=name) == 1


async def test_a_module_that_cannot_be_imported_is_a_function_error(function_of, invoke):
    name = await function_of("import nothing_of_that_name")

    answer, error = await invoke(name)

    assert error == "Unhandled"
    assert answer["errorType"] == "Runtime.ImportModuleError"
    assert "nothing_of_that_name" in answer["errorMessage"]


async def test_an_invocation_beyond_its_time_is_ended(function_of, invoke):
    name = await function_of(
        """
        import time
        def handler(event, context):
            if event.get("hang"):
                time.sleep(600)
            return "ok"
        """,
        Timeout=1,
    )

    answer, error = await invoke(name, {"hang": True})

    assert error == "Unhandled"
    assert answer["errorMessage"].endswith("Task timed out after 1.00 seconds")
    assert await invoke(name) == ("ok", None)


async def test_a_process_that_exits_fails_one_invocation_only(function_of, invoke):
    name = await function_of("""
        import os
        def handler(event, context):
            if event.get("die"):
                os._exit(3)
            return "ok"
    """)

    answer, error = await invoke(name, {"die": True})

    assert (answer["errorType"], error) == ("Runtime.ExitError", "Unhandled")
    assert answer["errorMessage"].endswith("Runtime exited with error: exit status 3")
    assert await invoke(name) == ("ok", None)


async def test_a_function_sees_its_settings_and_nothing_of_its_host(
    function_of, invoke, monkeypatch, cloud
):
    monkeypatch.setenv("HOST_SECRET", "not for functions")
    name = await function_of(
        """
        import os
        def handler(event, context):
            return {
                "environ": dict(os.environ),
                "arn": context.invoked_function_arn,
                "memory": context.memory_limit_in_mb,
                "in_time": 0 < context.get_remaining_time_in_millis() <= 30000,
            }
        """,
        MemorySize=256,
        Environment={"Variables": {"SITE": "north"}},
    )

    answer, _ = await invoke(name)

    environ = answer.pop("environ")
    assert answer == {
        "arn": f"arn:aws:lambda:us-east-1:123456789012:function:{name}",
        "memory": "256",
        "in_time": True,
    }
    assert "HOST_SECRET" not in environ
    assert environ["SITE"] == "north"
    assert environ["AWS_ENDPOINT_URL"] == cloud.local.context.endpoint_url
    assert environ["AWS_LAMBDA_FUNCTION_NAME"] == name


async def test_one_process_serves_one_invocation_after_the_other(function_of, invoke):
    name = await function_of("""
        import os
        count = 0
        def handler(event, context):
            global count
            count += 1
            return [os.getpid(), count]
    """)

    (first, _), (second, _) = await invoke(name), await invoke(name)

    assert first[0] == second[0] != os.getpid()
    assert (first[1], second[1]) == (1, 2)


async def test_an_event_is_run_after_the_answer(function_of, client, invoke, tmp_path, eventually):
    done = tmp_path / "done"
    name = await function_of(f"""
        def handler(event, context):
            open({str(done)!r}, "w").write(event["text"])
    """)

    answer = await client.invoke(
        FunctionName=name, InvocationType="Event", Payload=b'{"text": "later"}'
    )

    assert answer["StatusCode"] == 202
    assert await eventually(lambda: done.exists() and done.read_text()) == "later"


async def test_a_dry_run_runs_nothing(function_of, client):
    name = await function_of("import nothing_of_that_name")

    answer = await client.invoke(FunctionName=name, InvocationType="DryRun")

    assert answer["StatusCode"] == 204


async def test_what_a_function_prints_is_in_its_log(function_of, client, cloud, eventually):
    name = await function_of("""
        def handler(event, context):
            print("seen", event["n"])
    """)
    answer = await client.invoke(FunctionName=name, Payload=b'{"n": 7}', LogType="Tail")
    logs = await cloud.client("logs")

    async def messages() -> list[str]:
        found = await logs.filter_log_events(logGroupName=f"/aws/lambda/{name}")
        lines = [event["message"] for event in found["events"]]
        return lines if any(line.startswith("REPORT") for line in lines) else []

    lines = await eventually(lambda: _if_there(logs, messages))
    assert "seen 7" in base64.b64decode(answer["LogResult"]).decode()
    kinds = [line.split(" ")[0] for line in lines]
    assert [kind for kind in kinds if kind in {"START", "seen", "END", "REPORT"}] == [
        "START",
        "seen",
        "END",
        "REPORT",
    ]


async def _if_there(logs: Any, messages: Any) -> list[str]:
    try:
        return await messages()
    except logs.exceptions.ResourceNotFoundException:
        return []


async def test_embedded_metrics_are_published(function_of, invoke, samples, eventually):
    name = await function_of("""
        import json, time
        def handler(event, context):
            print(json.dumps({
                "_aws": {
                    "Timestamp": int(time.time() * 1000),
                    "CloudWatchMetrics": [{
                        "Namespace": event["namespace"],
                        "Dimensions": [["site"]],
                        "Metrics": [{"Name": "readings", "Unit": "Count"}, {"Name": "lag"}],
                    }],
                },
                "site": "north", "readings": 3, "lag": [0.5, 1.5],
            }))
    """)
    for _ in range(2):
        await invoke(name, {"namespace": name})

    assert await eventually(lambda: _equals(samples(name, "readings", site="north"), 6))
    assert await samples(name, "lag", site="north") == 4.0


async def _equals(total: Any, wanted: float) -> bool:
    return (await total) == wanted


# Settings


async def test_code_comes_from_a_bucket(cloud, client, name, zipped, function_of, invoke):
    s3 = await cloud.client("s3")
    await s3.create_bucket(Bucket=name)
    archive = zipped(ECHO)
    await s3.put_object(Bucket=name, Key="code.zip", Body=archive)
    await function_of("", Code={"S3Bucket": name, "S3Key": "code.zip"})

    described = await client.get_function_configuration(FunctionName=name)

    assert (await invoke(name, 1))[0]["echo"] == 1
    assert described["CodeSha256"] == base64.b64encode(hashlib.sha256(archive).digest()).decode()
    assert (described["State"], described["CodeSize"]) == ("Active", len(archive))
    with pytest.raises(client.exceptions.InvalidParameterValueException, match="GetObject"):
        await client.update_function_code(FunctionName=name, S3Bucket=name, S3Key="other.zip")


async def test_new_code_and_settings_are_in_the_next_invocation(
    client, function_of, invoke, zipped
):
    code = """
        import os
        def handler(event, context):
            return [{version}, os.environ.get("MODE")]
    """
    name = await function_of(code.replace("{version}", "1"))
    assert (await invoke(name))[0] == [1, None]
    await client.update_function_code(
        FunctionName=name, ZipFile=zipped(code.replace("{version}", "2"))
    )
    assert (await invoke(name))[0] == [2, None]
    await client.update_function_configuration(
        FunctionName=name, Environment={"Variables": {"MODE": "eco"}}
    )
    assert (await invoke(name))[0] == [2, "eco"]


async def test_reserved_concurrency_throttles(client, function_of, invoke, samples):
    name = await function_of(ECHO)
    await client.put_function_concurrency(FunctionName=name, ReservedConcurrentExecutions=0)

    with pytest.raises(client.exceptions.TooManyRequestsException, match="Rate Exceeded"):
        await invoke(name)
    assert await samples("AWS/Lambda", "Throttles", FunctionName=name) == 1
    await client.delete_function_concurrency(FunctionName=name)
    assert (await invoke(name))[1] is None


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"Runtime": "nodejs20.x"}, "Runtime nodejs20.x is not supported locally"),
        (
            {"Layers": ["arn:aws:lambda:us-east-1:123456789012:layer:l:1"]},
            "Layers is not supported locally",
        ),
        ({"VpcConfig": {"SubnetIds": ["subnet-1"]}}, "VpcConfig is not supported locally"),
        ({"Code": {"ZipFile": b"no zip"}}, "Could not unzip uploaded file"),
        ({"Handler": "app/handler"}, "Handler"),
        ({"Timeout": 901}, "Timeout must be from 1 to 900 seconds"),
        ({"MemorySize": 10_241}, "MemorySize must be from 128 to 10240 MB"),
        ({"Publish": True}, "Publish is not supported locally"),
        ({"TracingConfig": {"Mode": "Active"}}, "TracingConfig Active is not supported"),
        ({"SnapStart": {"ApplyOn": "PublishedVersions"}}, "SnapStart PublishedVersions"),
        ({"Environment": {"Variables": {"AWS_REGION": "x"}}}, "reserved keys"),
        ({"Environment": {"Variables": {"A1": "x" * 4096}}}, "exceeded the 4KB limit"),
        ({"Environment": {"Variables": {"1A": "x"}}}, "Map keys must satisfy constraint"),
        ({"LoggingConfig": {"SystemLogLevel": "WARN"}}, "goes with the LogFormat JSON"),
        (
            {"DeadLetterConfig": {"TargetArn": "arn:aws:s3:::b"}},
            "no ARN that a dead-letter queue can have",
        ),
    ],
)
async def test_what_is_not_served_is_refused_by_name(client, function_of, name, settings, message):
    with pytest.raises(ClientError) as caught:
        await function_of(ECHO, **settings)

    assert message in str(caught.value)
    with pytest.raises(client.exceptions.ResourceNotFoundException):
        await client.get_function(FunctionName=name)


async def test_a_name_is_taken_once_and_an_unknown_one_is_not_found(client, function_of, name):
    await function_of(ECHO)

    with pytest.raises(client.exceptions.ResourceConflictException):
        await function_of(ECHO)
    with pytest.raises(client.exceptions.ResourceNotFoundException, match="Function not found"):
        await client.invoke(FunctionName="nothing")
    with pytest.raises(ClientError, match="smaller than 6291456 bytes"):
        await client.invoke(FunctionName=name, Payload=b'"%s"' % (b"x" * (6 * 1024 * 1024)))
