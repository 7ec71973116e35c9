"""Batch load, through the API: what comes into the table, and what is reported."""

from __future__ import annotations

import asyncio
import json
import time
from typing import Any

import pytest
import pytest_asyncio

from localcloud.faults.spec import parse

pytestmark = pytest.mark.asyncio(loop_scope="module")

NOW_MS = int(time.time() * 1000)
DIMENSIONS = [
    {"SourceColumn": "device", "DestinationColumn": "id"}, {"SourceColumn": "site"},
]  # fmt: skip
MULTI = {
    "TimeColumn": "at",
    "DimensionMappings": DIMENSIONS,
    "MultiMeasureMappings": {
        "TargetMultiMeasureName": "reading",
        "MultiMeasureAttributeMappings": [
            {"SourceColumn": "t", "TargetMultiMeasureAttributeName": "temperature", "MeasureValueType": "DOUBLE"},
            {"SourceColumn": "n", "MeasureValueType": "BIGINT"},
        ],
    },
}  # fmt: skip


class Loader:
    """A bucket with files, a table, and tasks between them."""

    def __init__(self, cloud: Any, s3: Any, write: Any, query: Any, name: str) -> None:
        self.cloud, self.s3, self.write, self.query, self.name = cloud, s3, write, query, name

    async def file(self, key: str, *lines: str) -> None:
        await self.s3.put_object(Bucket=self.name, Key=key, Body="\n".join(lines).encode())

    async def create(self, model: Any = MULTI, csv: Any = None, **more: Any) -> str:
        source = {
            "DataSourceS3Configuration": {"BucketName": self.name, "ObjectKeyPrefix": "in/"},
            "DataFormat": "CSV",
        }
        answer = await self.write.create_batch_load_task(**{
            "TargetDatabaseName": self.name, "TargetTableName": "rows",
            "DataSourceConfiguration": {**source, **({"CsvConfiguration": csv} if csv else {})},
            "DataModelConfiguration": {"DataModel": model},
            "ReportConfiguration": {
                "ReportS3Configuration": {"BucketName": self.name, "ObjectKeyPrefix": "out"}
            },
            **more,
        })  # fmt: skip
        return str(answer["TaskId"])

    async def over(self, task_id: str) -> dict[str, Any]:
        """The task, when it does not go on any more."""
        async with asyncio.timeout(30):
            while True:
                answer = await self.write.describe_batch_load_task(TaskId=task_id)
                task: dict[str, Any] = answer["BatchLoadTaskDescription"]
                if task["TaskStatus"] not in {"CREATED", "IN_PROGRESS", "PENDING_RESUME"}:
                    return task
                await asyncio.sleep(0.01)

    async def load(self, *given: Any, **more: Any) -> dict[str, Any]:
        return await self.over(await self.create(*given, **more))

    async def errors(self, task: dict[str, Any]) -> tuple[list[Any], dict[str, dict[str, Any]]]:
        """Errors of the task, and lines by reason and file, from the report."""
        key = f"out/{task['TaskId']}.json"
        body = await (await self.s3.get_object(Bucket=self.name, Key=key))["Body"].read()
        report = json.loads(body)
        assert report["taskId"] == task["TaskId"]
        files = {
            one["fileName"]: {error["reason"]: error["lineRanges"] for error in one["errors"]}
            for one in report["fileErrors"]
        }
        return report["taskErrors"], files

    async def rows(self, columns: str) -> list[tuple[str | None, ...]]:
        sql = f'SELECT {columns} FROM "{self.name}"."rows" ORDER BY 1, 2, 3'  # noqa: S608
        answer = await self.query.query(QueryString=sql)
        return [tuple(d.get("ScalarValue") for d in row["Data"]) for row in answer["Rows"]]


@pytest_asyncio.fixture(loop_scope="module")
async def loader(cloud, name):
    s3, write = await cloud.client("s3"), await cloud.client("timestream-write")
    await s3.create_bucket(Bucket=name)
    await write.create_database(DatabaseName=name)
    await write.create_table(DatabaseName=name, TableName="rows")
    return Loader(cloud, s3, write, await cloud.client("timestream-query"), name)


def counts(task: dict[str, Any]) -> list[int]:
    """Processed, ingested; failures to parse, to ingest, of files."""
    names = (
        "RecordsProcessed",
        "RecordsIngested",
        "ParseFailures",
        "RecordIngestionFailures",
        "FileFailures",
    )
    return [task["ProgressReport"][name] for name in names]


async def test_rows_of_all_files_become_records(loader):
    await loader.file(
        "in/a.csv", "at,device,site,t,n,else", f"{NOW_MS},d1,x,1.5,7,z", f"{NOW_MS},d2,,,8,z"
    )
    await loader.file("in/b.csv", "n,t,site,device,at", f'9,2.5,"x,y",d1,{NOW_MS + 1}')
    await loader.file("else/c.csv", "no")
    task = await loader.load()

    assert task["TaskStatus"] == "SUCCEEDED"
    assert counts(task) == [3, 3, 0, 0, 0]
    assert task["DataModelConfiguration"] == {"DataModel": MULTI}
    assert await loader.rows("id, site, temperature, n, measure_name") == [
        ("d1", "x", "1.5", "7", "reading"),
        ("d1", "x,y", "2.5", "9", "reading"),
        ("d2", None, None, "8", "reading"),
    ]
    assert "Contents" not in await loader.s3.list_objects_v2(Bucket=loader.name, Prefix="out")


async def test_csv_is_read_as_it_is_asked_for(loader):
    csv = {
        "ColumnSeparator": "|",
        "QuoteChar": "'",
        "EscapeChar": "\\",
        "NullValue": "-",
        "TrimWhiteSpace": True,
    }
    await loader.file("in/a", "at | device | site | t | n", f"{NOW_MS} |'a|b'| it\\'s | - | 1 ")
    task = await loader.load(MULTI, csv)

    assert task["TaskStatus"] == "SUCCEEDED"
    assert await loader.rows("id, site, n") == [("a|b", "it's", "1")]


async def test_measure_names_of_a_column_go_before_that_of_the_mapping(loader):
    await loader.file(
        "in/a", "at,device,site,t,n,kind", f"{NOW_MS},d,s,1,1,one", f"{NOW_MS},d,s,1,1,two"
    )
    await loader.load({**MULTI, "MeasureNameColumn": "kind"})

    assert await loader.rows("measure_name, n, id") == [("one", "1", "d"), ("two", "1", "d")]


async def test_mixed_mappings_make_a_record_each(loader):
    model = {
        "TimeColumn": "at",
        "TimeUnit": "SECONDS",
        "DimensionMappings": DIMENSIONS,
        "MixedMeasureMappings": [
            {"SourceColumn": "t", "TargetMeasureName": "temp", "MeasureValueType": "DOUBLE"},
            {"SourceColumn": "n", "MeasureValueType": "BIGINT"},
        ],
    }
    await loader.file(
        "in/a", "at,device,site,t,n", f"{NOW_MS // 1000},d,s,1.5,3", f"{NOW_MS // 1000 + 1},d,s,,4"
    )
    task = await loader.load(model)

    assert counts(task) == [3, 3, 0, 0, 0]
    columns = "measure_name, measure_value::double, measure_value::bigint"
    assert await loader.rows(columns) == [("n", None, "3"), ("n", None, "4"), ("temp", "1.5", None)]


async def test_what_is_wrong_is_reported_by_lines_and_the_rest_is_loaded(loader):
    await loader.file(
        "in/a", "at,device,site,t,n",
        f"{NOW_MS},d1,s,1,1", "5,d1,s,1,1", "6,d1,s,1,1", f"{NOW_MS},d1", f"{NOW_MS},d2,s,,", ",d2,s,1,1",
        f"{NOW_MS},d2,s,warm,1", f"{NOW_MS + 1},d2,s,1,1",
    )  # fmt: skip
    await loader.file("in/b", "at,device,t", "1,2,3")
    await loader.s3.put_object(Bucket=loader.name, Key="in/c", Body=b"\xff\xfe\x00")
    task = await loader.load()

    assert task["TaskStatus"] == "FAILED"
    assert counts(task) == [5, 2, 3, 3, 2]
    of_task, files = await loader.errors(task)
    assert of_task == []
    [outside] = [why for why in files["in/a"] if "outside the time range" in why]
    assert files == {
        "in/a": {
            "The row has 2 columns, and the header 5.": [[5, 5]],
            "The row has no measure.": [[6, 6]],
            "The row has no time.": [[7, 7]],
            outside: [[3, 4]],
            "The measure temperature is not a valid DOUBLE.": [[8, 8]],
        },
        "in/b": {"The file has no column n, site.": []},
        "in/c": {"The file is not text in UTF-8.": []},
    }
    assert await loader.rows("id, n, site") == [("d1", "1", "s"), ("d2", "1", "s")]


async def test_a_higher_version_replaces_what_was_loaded(loader):
    await loader.file("in/a", "at,device,site,t,n", f"{NOW_MS},d,s,1,1")
    await loader.load(RecordVersion=5)
    await loader.file("in/a", "at,device,site,t,n", f"{NOW_MS},d,s,1,2")

    assert (await loader.load(RecordVersion=4))["TaskStatus"] == "FAILED"
    assert (await loader.load(RecordVersion=6))["TaskStatus"] == "SUCCEEDED"
    assert await loader.rows("n, id, site") == [("2", "d", "s")]


async def test_a_data_model_may_lie_in_the_bucket(loader):
    await loader.file("in/a", "at,device,site,t,n", f"{NOW_MS},d,s,1,1")
    place = {"BucketName": loader.name, "ObjectKey": "model.json"}
    config = {"DataModelS3Configuration": place}

    told = {}
    for body in (json.dumps(MULTI), '{"TimeColumn": "at"}', "{"):
        await loader.file("model.json", body)
        task = await loader.load(DataModelConfiguration=config)
        told[body] = (task["TaskStatus"], task.get("ErrorMessage", ""))
    assert told[json.dumps(MULTI)] == ("SUCCEEDED", "")
    assert told['{"TimeColumn": "at"}'][0] == told["{"][0] == "FAILED"
    assert "'dimensionMappings'" in told['{"TimeColumn": "at"}'][1]
    assert "The data model is not JSON" in told["{"][1]


async def test_a_task_that_s3_stopped_goes_on_with_the_files_that_are_left(loader):
    await loader.file("in/a", "at,device,site,t,n", f"{NOW_MS},d,s,1,1")
    board = loader.cloud.local.context.faults.board
    board.add(parse({"service": "s3", "kind": "throttle", "operation": "GetObject"}))
    task_id = await loader.create()
    stopped = await loader.over(task_id)
    board.clear()
    listed = await loader.write.list_batch_load_tasks(TaskStatus="PROGRESS_STOPPED")
    await loader.write.resume_batch_load_task(TaskId=task_id)
    task = await loader.over(task_id)

    assert stopped["TaskStatus"] == "PROGRESS_STOPPED"
    assert stopped["ResumableUntil"] > stopped["LastUpdatedTime"]
    [one] = [one for one in listed["BatchLoadTasks"] if one["TaskId"] == task_id]
    assert (one["DatabaseName"], one["TableName"]) == (loader.name, "rows")
    assert (task["TaskStatus"], counts(task)) == ("SUCCEEDED", [1, 1, 0, 0, 0])
    with pytest.raises(loader.write.exceptions.ValidationException, match="SUCCEEDED and cannot"):
        await loader.write.resume_batch_load_task(TaskId=task_id)


async def test_a_task_without_files_or_without_a_bucket_fails(loader):
    task = await loader.load()
    assert (task["TaskStatus"], "There is no file at" in task["ErrorMessage"]) == ("FAILED", True)
    of_task, files = await loader.errors(task)
    assert (of_task, files) == ([{"reason": task["ErrorMessage"]}], {})

    report = {"ReportS3Configuration": {"BucketName": "no-such-bucket"}}
    task = await loader.load(ReportConfiguration=report)
    assert task["TaskStatus"] == "FAILED"
    assert "s3://no-such-bucket: The specified bucket does not exist" in task["ErrorMessage"]


async def test_the_same_token_is_the_same_task(loader):
    await loader.file("in/a", "at,device,site,t,n", f"{NOW_MS},d,s,1,1")
    token = loader.name
    task_id = await loader.create(ClientToken=token)

    assert await loader.create(ClientToken=token) == task_id
    with pytest.raises(loader.write.exceptions.ConflictException):
        await loader.create(ClientToken=token, RecordVersion=2)
    await loader.over(task_id)


@pytest.mark.parametrize(
    ("model", "csv", "why"),
    [
        ({**MULTI, "TimeColumn": None}, None, "needs a TimeColumn"),
        ({**MULTI, "MultiMeasureMappings": None}, None, "either MultiMeasureMappings or Mixed"),
        ({**MULTI, "MultiMeasureMappings": {"MultiMeasureAttributeMappings": [
            {"SourceColumn": "n", "MeasureValueType": "BIGINT"}]}}, None, "need a TargetMultiMeasureName"),
        ({**MULTI, "MultiMeasureMappings": {"TargetMultiMeasureName": "m", "MultiMeasureAttributeMappings": [
            {"SourceColumn": "n"}]}}, None, "mapping of n needs a MeasureValueType"),
        (MULTI, {"ColumnSeparator": "x"}, "ColumnSeparator must be"),
        (MULTI, {"QuoteChar": "x"}, "QuoteChar must be"),
    ],
)  # fmt: skip
async def test_a_task_that_cannot_be_is_refused(loader, model, csv, why):
    plain = {name: value for name, value in model.items() if value is not None}
    with pytest.raises(loader.write.exceptions.ValidationException, match=why):
        await loader.create(plain, csv)


async def test_a_table_and_a_task_must_be_there(loader):
    missing = loader.write.exceptions.ResourceNotFoundException
    with pytest.raises(missing, match="table nothing does not exist"):
        await loader.create(TargetTableName="nothing")
    with pytest.raises(missing, match="batch load task ABC does not exist"):
        await loader.write.describe_batch_load_task(TaskId="ABC")
