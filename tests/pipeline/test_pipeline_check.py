"""`fleetcast pipeline check`: what is there, what is missing, and that nothing is changed."""

from __future__ import annotations

import gzip
import re
import time
from contextlib import AsyncExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import pytest_asyncio

from fleetcast.errors import TargetError, UsageError
from fleetcast.pipeline import Pipeline
from fleetcast.pipeline.check import check, shards_of
from fleetcast.target import Target
from localcloud.app import LocalCloud

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

pytestmark = pytest.mark.asyncio(loop_scope="module")

WHOLE: dict[str, Any] = {
    "name": "plant",
    "region": "us-east-1",
    "stream": "ingest",
    "signing_secret": "key",
    "timeseries": {
        "database": "plant",
        "table": "telemetry",
        "columns": {"device": "sensor", "sequence": "n", "run": "trial", "measures": {"t": "temp"}},
    },
    "archive": {
        "bucket": "raw",
        "prefix": "a/%Y/",
        "fields": {"device": "id", "sequence": "n", "run": "trial"},
    },
    "quarantine": {"queue": "rejected", "refuses": ["not_json"]},
    "alarms": {"critical-readings": "too-hot"},
}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def target() -> AsyncIterator[Target]:
    """A local cloud with all that the file names."""
    async with LocalCloud(port=0) as local, AsyncExitStack() as stack:
        where = Target.named("local", port=local.port)

        async def client(service: str) -> Any:
            return await stack.enter_async_context(where.client(service))

        await (await client("kinesis")).create_stream(StreamName="ingest", ShardCount=3)
        await (await client("secretsmanager")).create_secret(Name="key", SecretString="k")
        series = await client("timestream-write")
        await series.create_database(DatabaseName="plant")
        for table in ("telemetry", "empty"):
            await series.create_table(DatabaseName="plant", TableName=table)
        measures = [("n", "BIGINT", "1"), ("temp", "DOUBLE", "4.5"), ("open", "BOOLEAN", "true")]
        record = {
            "Dimensions": [{"Name": "sensor", "Value": "a"}, {"Name": "trial", "Value": "b"}],
            "Time": str(int(time.time() * 1000)),
        }
        await series.write_records(
            DatabaseName="plant",
            TableName="telemetry",
            Records=[
                {
                    **record,
                    "MeasureName": "m",
                    "MeasureValueType": "MULTI",
                    "MeasureValues": [
                        {"Name": name, "Type": kind, "Value": value}
                        for name, kind, value in measures
                    ],
                }
            ],
        )
        s3 = await client("s3")
        await s3.create_bucket(Bucket="raw")
        line = b'{"id":"a","n":1,"trial":"b"}\n'
        await s3.put_object(Bucket="raw", Key="a/2026/x.gz", Body=gzip.compress(line))
        await (await client("sqs")).create_queue(QueueName="rejected")
        await (await client("cloudwatch")).put_metric_alarm(
            AlarmName="too-hot", Namespace="N", MetricName="M", Statistic="Maximum", Period=60,
            EvaluationPeriods=1, Threshold=1, ComparisonOperator="GreaterThanThreshold",
        )  # fmt: skip
        yield where


async def looked_at(target: Target, **changed: Any) -> dict[str, tuple[str, str]]:
    points = await check(Pipeline.model_validate({**WHOLE, **changed}), target)
    return {point.name: (point.state, point.detail) for point in points}


async def test_all_that_is_there_is_told(target: Target) -> None:
    told = await looked_at(target)
    assert told == {
        "stream": ("ok", "ingest: ACTIVE, 3 shards"),
        "signing_secret": ("ok", "key: is there; its value is read when a run begins"),
        "timeseries": ("ok", '"plant"."telemetry": 4 columns are there'),
        "archive": ("ok", "s3://raw/a/: a/2026/x.gz has 1 lines that can be read"),
        "quarantine": ("ok", "rejected: 0 messages wait"),
        "alarms": ("ok", "too-hot is INSUFFICIENT_DATA"),
    }


def series(**changed: Any) -> dict[str, Any]:
    given = {**WHOLE["timeseries"]["columns"], **changed.pop("columns", {})}
    return {"timeseries": {**WHOLE["timeseries"], "columns": given, **changed}}


@pytest.mark.parametrize(
    ("point", "changed", "said"),
    [
        ("stream", {"stream": "other"}, "ResourceNotFoundException: "),
        (
            "stream",
            {"stream": "arn:aws:kinesis:us-east-1:999999999999:stream/ingest"},
            "use the credentials of that account",
        ),
        ("signing_secret", {"signing_secret": "none"}, "ResourceNotFoundException: "),
        ("timeseries", series(table="none"), "none"),
        (
            "timeseries",
            series(columns={"device": "senso"}),
            "has no column 'senso' for columns.device: did you mean sensor?",
        ),
        ("timeseries", series(columns={"measures": {"t": "zzz"}}), "'zzz' for columns.measures.t: it"),
        ("timeseries", series(columns={"measures": {"t": "open"}}), "is boolean, which is no number"),
        ("archive", {"archive": {"bucket": "none"}}, "NoSuchBucket: "),
        (
            "archive",
            {"archive": {"bucket": "raw", "prefix": "a/", "compression": "none",
                         "fields": WHOLE["archive"]["fields"]}},
            "no line has what tells a reading: it is no JSON",
        ),
        (
            "archive",
            {"archive": {"bucket": "raw", "prefix": "a/",
                         "fields": {**WHOLE["archive"]["fields"], "sequence": "x.y"}}},
            "no line has what tells a reading: 'x.y' is not there",
        ),
        ("quarantine", {"quarantine": {"queue": "none", "refuses": ["not_json"]}}, "NonExistentQueue"),
        ("alarms", {"alarms": {"critical-readings": "cold"}}, "there is no alarm 'cold', which is to"),
    ],
)  # fmt: skip
async def test_what_is_missing_is_told_and_the_rest_is_looked_at_all_the_same(
    target: Target, point: str, changed: dict[str, Any], said: str
) -> None:
    told = await looked_at(target, **changed)
    state, detail = told.pop(point)
    assert state == "missing"
    assert said in detail
    assert "\n" not in detail
    assert {state for state, _ in told.values()} == {"ok"}


async def test_it_needs_only_what_the_page_says_and_tells_what_is_denied(
    target: Target, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = Path(__file__).parents[2] / "docs" / "bring-your-own.md"
    policy = re.findall(r"```json\n(.*?)```", page.read_text(), re.DOTALL)[0]
    async with target.client("iam") as iam:
        await iam.create_user(UserName="checker")
        made = (await iam.create_access_key(UserName="checker"))["AccessKey"]
        for allowed, wrong in (
            (policy, {}),
            (policy.replace("s3:ListBucket", "s3:ListAllMyBuckets"), {"archive"}),
            (policy.replace("kinesis:DescribeStreamSummary", "kinesis:ListStreams"), {"stream"}),
        ):
            await iam.put_user_policy(UserName="checker", PolicyName="may", PolicyDocument=allowed)
            with monkeypatch.context() as patch:
                patch.setattr("fleetcast.target.LOCAL_ACCESS_KEY", made["AccessKeyId"])
                patch.setattr("fleetcast.target.LOCAL_SECRET_KEY", made["SecretAccessKey"])
                told = await looked_at(target)
            assert {name for name, (state, _) in told.items() if state != "ok"} == set(wrong)
            assert all("AccessDenied" in told[name][1] for name in wrong)


async def test_what_the_file_does_not_name_is_said_and_is_no_failure(target: Target) -> None:
    parts = ("signing_secret", "archive", "quarantine", "alarms")
    told = await looked_at(target, **dict.fromkeys(parts[:3]), alarms={})
    assert {name: told[name] for name in parts} == {
        "signing_secret": ("not named", "readings are not signed"),
        "archive": ("not named", "no archive is compared"),
        "quarantine": ("not named", "what comes of broken readings is not checked"),
        "alarms": ("not named", "alarms are not checked"),
    }


async def test_a_table_and_a_bucket_that_hold_nothing_yet_are_no_failure(target: Target) -> None:
    told = await looked_at(
        target, **series(table="empty"), archive={"bucket": "raw", "prefix": "b"}
    )
    assert told["timeseries"] == (
        "ok",
        '"plant"."empty": holds nothing yet, so that its columns cannot be checked',
    )
    assert told["archive"] == ("ok", "s3://raw/b: can be listed, holds nothing to look into")


async def test_before_a_run_the_stream_is_asked_for_its_shards(target: Target) -> None:
    assert await shards_of(Pipeline.model_validate(WHOLE), target) == 3
    other = "arn:aws:kinesis:us-east-1:999999999999:stream/ingest"
    with pytest.raises(UsageError, match="pipeline plant: stream: the file says arn"):
        await shards_of(Pipeline.model_validate({**WHOLE, "stream": other}), target)
    with pytest.raises(TargetError, match="cannot find stream none of pipeline plant on http"):
        await shards_of(Pipeline.model_validate({**WHOLE, "stream": "none"}), target)


async def test_a_target_that_does_not_answer_is_one_line() -> None:
    gone = Target("local", "us-east-1", "http://127.0.0.1:9")
    with pytest.raises(TargetError, match=r"cannot look at the pipeline on http://127\.0\.0\.1:9"):
        await check(Pipeline.model_validate(WHOLE), gone)
