"""The AWS CLI against the local cloud, as a person types it."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import time
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

AWS = Path(sys.executable).with_name("aws")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("aws")


@pytest.fixture(scope="module")
def run(blocking_port: int, folder: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    place = {
        **{name: value for name, value in os.environ.items() if not name.startswith("AWS_")},
        "AWS_REGION": "us-east-1", "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ACCESS_KEY_ID": "fleetcast-local", "AWS_SECRET_ACCESS_KEY": "fleetcast-local",
        "AWS_CONFIG_FILE": str(folder / "config"),
        "AWS_SHARED_CREDENTIALS_FILE": str(folder / "credentials"),
        "AWS_MAX_ATTEMPTS": "1",
    }  # fmt: skip

    def call(words: str, *more: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [AWS, "--endpoint-url", f"http://127.0.0.1:{blocking_port}", *words.split(), *more],
            env=place, cwd=folder, capture_output=True, text=True, check=False, timeout=120,
        )  # fmt: skip

    return call


@pytest.fixture(scope="module")
def aws(run: Callable[..., subprocess.CompletedProcess[str]]) -> Callable[..., Any]:
    """The JSON, or the text, that a command prints."""

    def call(words: str, *more: str) -> Any:
        done = run(words, *more)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout) if done.stdout.startswith("{") else done.stdout

    return call


def test_records_go_through_a_stream(aws: Callable[..., Any]) -> None:
    aws("kinesis create-stream --stream-name cli --shard-count 1")
    put = aws("kinesis put-record --stream-name cli --partition-key k --data hello")
    iterator = aws(
        "kinesis get-shard-iterator --stream-name cli --shard-iterator-type TRIM_HORIZON "
        f"--shard-id {put['ShardId']}"
    )["ShardIterator"]
    [record] = aws("kinesis get-records --shard-iterator", iterator)["Records"]
    assert record["Data"] == "aGVsbG8="
    assert record["SequenceNumber"] == put["SequenceNumber"]


def test_files_go_to_a_bucket_and_back(aws: Callable[..., Any], folder: Path) -> None:
    (folder / "up").mkdir()
    (folder / "up" / "a b.txt").write_text("x" * 100)
    aws("s3 mb s3://cli-bucket")
    aws("s3 sync up s3://cli-bucket/in")
    assert "100 a b.txt" in aws("s3 ls s3://cli-bucket/in/")
    aws("s3 cp", "s3://cli-bucket/in/a b.txt", "down.txt")
    assert (folder / "down.txt").read_text() == "x" * 100
    aws("s3 rb s3://cli-bucket --force")


def test_rows_are_written_and_queried(aws: Callable[..., Any]) -> None:
    aws("timestream-write create-database --database-name cli")
    aws("timestream-write create-table --database-name cli --table-name rows")
    record = {
        "Dimensions": [{"Name": "device", "Value": "d-1"}], "MeasureName": "temperature",
        "MeasureValue": "4.5", "MeasureValueType": "DOUBLE", "Time": str(int(time.time() * 1000)),
    }  # fmt: skip
    aws("timestream-write write-records --database-name cli --table-name rows --records",
        json.dumps([record]))  # fmt: skip
    told = aws("timestream-query query --query-string",
               'SELECT device, measure_value::double FROM "cli"."rows"')  # fmt: skip
    assert [value["ScalarValue"] for value in told["Rows"][0]["Data"]] == ["d-1", "4.5"]


def test_a_function_is_created_and_invoked(aws: Callable[..., Any], folder: Path) -> None:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("app.py", "def handler(event, context): return {'got': event['n'] + 1}")
    (folder / "code.zip").write_bytes(packed.getvalue())
    aws("lambda create-function --function-name cli --runtime python3.12 --handler app.handler "
        "--role arn:aws:iam::123456789012:role/cli --zip-file fileb://code.zip")  # fmt: skip
    told = aws("lambda invoke --function-name cli --payload", '{"n": 1}', "out.json")
    assert told["StatusCode"] == 200
    assert json.loads((folder / "out.json").read_text()) == {"got": 2}


def test_metrics_and_alarms_are_told(aws: Callable[..., Any]) -> None:
    aws("cloudwatch put-metric-data --namespace Cli --metric-name m --value 3")
    assert aws("cloudwatch list-metrics --namespace Cli")["Metrics"][0]["MetricName"] == "m"
    aws("cloudwatch put-metric-alarm --alarm-name cli --namespace Cli --metric-name m "
        "--comparison-operator GreaterThanThreshold --threshold 1 --period 10 "
        "--evaluation-periods 1 --statistic Sum")  # fmt: skip
    [alarm] = aws("cloudwatch describe-alarms --alarm-names cli")["MetricAlarms"]
    assert alarm["Threshold"] == 1.0


def test_messages_go_through_a_queue(aws: Callable[..., Any]) -> None:
    url = aws("sqs create-queue --queue-name cli")["QueueUrl"]
    aws(f"sqs send-message --message-body hello --queue-url {url}")
    assert aws(f"sqs receive-message --queue-url {url}")["Messages"][0]["Body"] == "hello"


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ("kinesis describe-stream --stream-name nobody", "(ResourceNotFoundException)"),
        ("lambda get-function --function-name nobody", "(ResourceNotFoundException)"),
        ("s3api get-object --bucket nobody --key k out", "(NoSuchBucket)"),
        ("timestream-query query --query-string SELEC", "(ValidationException)"),
        ("cloudwatch get-dashboard --dashboard-name nobody", "(ResourceNotFound)"),
        ("firehose describe-delivery-stream --delivery-stream-name x",
         "(ResourceNotFoundException)"),
    ],
)  # fmt: skip
def test_errors_have_the_words_of_aws(
    run: Callable[..., subprocess.CompletedProcess[str]], words: str, told: str
) -> None:
    done = run(words)
    assert done.returncode != 0
    assert f"An error occurred {told}" in done.stderr
