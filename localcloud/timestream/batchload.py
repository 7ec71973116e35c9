"""Batch load: CSV files of a bucket into a table, as a task that goes on beside.

A task reads and writes S3 as whoever made it. It is over for good when all files were read: with errors
it is FAILED, and they stand in a report. Where S3 itself fails it stops, and may be resumed.
"""

from __future__ import annotations

import asyncio
import logging
import time
import uuid
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import orjson
from botocore.exceptions import BotoCoreError, ClientError

from localcloud.http import AwsError
from localcloud.timestream.loadfile import FileError, check_model, check_settings, rows_of
from localcloud.validation import check

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from localcloud.seams import CloudContext
    from localcloud.timestream.catalog import Catalog
    from localcloud.timestream.loadfile import Lines
    from localcloud.timestream.reports import Reports

Json = dict[str, Any]
log = logging.getLogger(__name__)

MAX_FILES = 100
RECORDS_PER_CALL = 100
MAX_ACTIVE, MAX_ACTIVE_OF_TABLE = 10, 5
RESUMABLE_S = 24 * 3600
SHOWN_TASKS = 20
_SERVER_ERROR = 500
_ACTIVE = {"CREATED", "IN_PROGRESS", "PENDING_RESUME"}
_COUNTS = (
    "RecordsProcessed", "RecordsIngested", "ParseFailures", "RecordIngestionFailures", "FileFailures",
)  # fmt: skip


class _StoppedError(Exception):
    """S3 does not answer as it should; later it may."""


@dataclass(slots=True)
class _File:
    """What came of a file: counts, and lines by what is wrong with them."""

    counts: dict[str, int] = field(default_factory=lambda: dict.fromkeys(_COUNTS, 0))
    errors: dict[str, list[Lines]] = field(default_factory=dict)

    def failed(self, count: str, why: str, lines: Lines | None, many: int = 1) -> None:
        """Notes an error; lines that follow one another are one range."""
        self.counts[count] += many
        ranges = self.errors.setdefault(why, [])
        if lines is None:
            return
        if ranges and lines[0] <= ranges[-1][1] + 1:
            ranges[-1] = (ranges[-1][0], max(lines[1], ranges[-1][1]))
        else:
            ranges.append(lines)


@dataclass(slots=True)
class _Task:
    """A task: what was asked for, how far it is, and what came of each file that was read."""

    task_id: str
    given: Json
    created_s: float
    updated_s: float
    status: str = "CREATED"
    error: str = ""
    model: Json | None = None
    files: dict[str, _File] = field(default_factory=dict)

    def became(self, status: str, error: str = "") -> None:
        """Notes a new status."""
        self.status, self.error, self.updated_s = status, error, time.time()

    def told(self) -> Json:
        """What a list tells of it."""
        told = {
            "TaskId": self.task_id, "TaskStatus": self.status,
            "CreationTime": self.created_s, "LastUpdatedTime": self.updated_s,
        }  # fmt: skip
        if self.status == "PROGRESS_STOPPED":
            told["ResumableUntil"] = self.updated_s + RESUMABLE_S
        return told

    def described(self) -> Json:
        """The API's BatchLoadTaskDescription."""
        names = (
            "DataSourceConfiguration", "ReportConfiguration", "DataModelConfiguration",
            "TargetDatabaseName", "TargetTableName", "RecordVersion",
        )  # fmt: skip
        progress = {name: sum(one.counts[name] for one in self.files.values()) for name in _COUNTS}
        return {
            **self.told(),
            **{name: self.given[name] for name in names if name in self.given},
            **({"ErrorMessage": self.error} if self.error else {}),
            "ProgressReport": {**progress, "BytesMetered": 0},
        }


class BatchLoads:
    """All tasks, and the operations on them.

    Args:
        context: The cloud.
        catalog: The tables.
        write: WriteRecords, without the asking for rights.
        reports: Writes reports of errors.
    """

    def __init__(
        self,
        context: CloudContext,
        catalog: Catalog,
        write: Callable[[Json], Awaitable[Json]],
        reports: Reports,
    ) -> None:
        self._context = context
        self._catalog = catalog
        self._write = write
        self._reports = reports
        self._all: dict[str, _Task] = {}
        self._by_token: dict[str, _Task] = {}
        self._running: set[asyncio.Task[None]] = set()

    def operations(self) -> dict[str, Callable[[Json], Json]]:
        """The operations by API name."""
        return {
            "CreateBatchLoadTask": self._create,
            "DescribeBatchLoadTask": lambda body: {
                "BatchLoadTaskDescription": self._found(body).described()
            },
            "ListBatchLoadTasks": self._list,
            "ResumeBatchLoadTask": self._resume,
        }

    async def stop(self) -> None:
        """Ends what runs."""
        for task in list(self._running):
            task.cancel()
        await asyncio.gather(*self._running, return_exceptions=True)

    def _create(self, body: Json) -> Json:
        token = body.get("ClientToken")
        known = self._by_token.get(token) if token else None
        if known is not None:
            if known.given != body:
                raise AwsError("ConflictException", "The ClientToken was used for another task.")
            return {"TaskId": known.task_id}
        self._catalog.table(body["TargetDatabaseName"], body["TargetTableName"])
        check_settings(body["DataSourceConfiguration"])
        config = body.get("DataModelConfiguration") or {}
        if bool(config.get("DataModel")) == bool(config.get("DataModelS3Configuration")):
            raise AwsError(
                "ValidationException",
                "DataModelConfiguration needs either a DataModel or a DataModelS3Configuration.",
            )
        if config.get("DataModel"):
            check_model(config["DataModel"])
        report = body["ReportConfiguration"].get("ReportS3Configuration")
        if not report:
            raise AwsError(
                "ValidationException", "ReportConfiguration needs ReportS3Configuration."
            )
        self._check_active(body)
        now = time.time()
        task = _Task(uuid.uuid4().hex.upper(), body, now, now, model=config.get("DataModel"))
        self._all[task.task_id] = task
        if token:
            self._by_token[token] = task
        self._begin(task)
        return {"TaskId": task.task_id}

    def _check_active(self, body: Json) -> None:
        """Throttles, as "Quotas" has it, where many tasks go on."""
        names = ("TargetDatabaseName", "TargetTableName")
        active = [task.given for task in self._all.values() if task.status in _ACTIVE]
        of_table = [one for one in active if all(one[name] == body[name] for name in names)]
        if len(active) >= MAX_ACTIVE or len(of_table) >= MAX_ACTIVE_OF_TABLE:
            raise AwsError(
                "ThrottlingException",
                f"{len(of_table)} batch load tasks of the table and {len(active)} of the account are "
                f"active, of {MAX_ACTIVE_OF_TABLE} and {MAX_ACTIVE}.",
            )

    def _list(self, body: Json) -> Json:
        token = body.get("NextToken") or "0"
        if not (token.isascii() and token.isdecimal()):
            raise AwsError("ValidationException", "Invalid NextToken.")
        first, limit = int(token), body.get("MaxResults") or SHOWN_TASKS
        wanted = body.get("TaskStatus")
        found = [
            {
                **task.told(),
                "DatabaseName": task.given["TargetDatabaseName"],
                "TableName": task.given["TargetTableName"],
            }
            for task in reversed(self._all.values())
            if wanted in {None, task.status}
        ]
        answer: Json = {"BatchLoadTasks": found[first : first + limit]}
        if len(found) > first + limit:
            answer["NextToken"] = str(first + limit)
        return answer

    def _resume(self, body: Json) -> Json:
        task = self._found(body)
        over = time.time() > task.updated_s + RESUMABLE_S
        if task.status != "PROGRESS_STOPPED" or over:
            raise AwsError(
                "ValidationException",
                f"Task {task.task_id} is {'over' if over else task.status} and cannot be resumed.",
            )
        task.became("PENDING_RESUME")
        self._begin(task)
        return {}

    def _found(self, body: Json) -> _Task:
        if body["TaskId"] not in self._all:
            raise AwsError(
                "ResourceNotFoundException", f"The batch load task {body['TaskId']} does not exist."
            )
        return self._all[body["TaskId"]]

    def _begin(self, task: _Task) -> None:
        running = asyncio.create_task(self._run(task))
        self._running.add(running)
        running.add_done_callback(self._running.discard)

    async def _run(self, task: _Task) -> None:
        """Loads all files that were not loaded yet; never fails, but tells how it went."""
        task.became("IN_PROGRESS")
        try:
            await self._load(task)
            wrong = {key: one for key, one in task.files.items() if one.errors}
            if wrong:
                await self._report(task, [], wrong)
            task.became("FAILED" if wrong else "SUCCEEDED")
        except _StoppedError as error:
            task.became("PROGRESS_STOPPED", str(error))
        except AwsError as error:
            try:
                await self._report(task, [{"reason": error.message}], task.files)
            except (AwsError, _StoppedError) as unwritten:
                log.warning("the report of %s could not be written: %s", task.task_id, unwritten)
            task.became("FAILED", error.message)
        except Exception as error:
            log.exception("the batch load %s failed", task.task_id)
            task.became("PROGRESS_STOPPED", f"{type(error).__name__}: {error}")

    async def _load(self, task: _Task) -> None:
        source = task.given["DataSourceConfiguration"]
        place = source["DataSourceS3Configuration"]
        bucket, prefix = place["BucketName"], place.get("ObjectKeyPrefix", "")
        report = task.given["ReportConfiguration"]["ReportS3Configuration"]
        await self._asked("get_bucket_acl", Bucket=report["BucketName"])
        await self._asked("get_bucket_acl", Bucket=bucket)
        if task.model is None:
            task.model = await self._model(task)
        keys = await self._keys(bucket, prefix)
        if not keys:
            raise AwsError("ValidationException", f"There is no file at s3://{bucket}/{prefix}.")
        if len(keys) > MAX_FILES:
            raise AwsError("ValidationException", f"There are more than {MAX_FILES} files.")
        for key in keys:
            if key not in task.files:
                body = await self._body(bucket, key)
                file = _File()
                await self._load_file(task, file, body, source.get("CsvConfiguration") or {})
                task.files[key] = file
                task.updated_s = time.time()

    async def _load_file(self, task: _Task, file: _File, body: bytes, settings: Json) -> None:
        records: list[Json] = []
        lines: list[Lines] = []
        try:
            for row in rows_of(body, task.model or {}, settings):
                if row.why:
                    file.failed("ParseFailures", row.why, row.lines)
                records += row.records
                lines += [row.lines] * len(row.records)
                while len(records) >= RECORDS_PER_CALL:
                    await self._ingest(
                        task, file, records[:RECORDS_PER_CALL], lines[:RECORDS_PER_CALL]
                    )
                    del records[:RECORDS_PER_CALL], lines[:RECORDS_PER_CALL]
            if records:
                await self._ingest(task, file, records, lines)
        except FileError as error:
            file.failed("FileFailures", str(error), None)

    async def _ingest(
        self, task: _Task, file: _File, records: list[Json], lines: list[Lines]
    ) -> None:
        rejected: list[Json] = []
        try:
            await self._write(
                {
                    "DatabaseName": task.given["TargetDatabaseName"],
                    "TableName": task.given["TargetTableName"],
                    "CommonAttributes": {"Version": task.given.get("RecordVersion", 1)},
                    "Records": records,
                }
            )
        except AwsError as error:
            if error.code != "RejectedRecordsException":
                raise
            rejected = error.extra["RejectedRecords"]
        file.counts["RecordsProcessed"] += len(records)
        file.counts["RecordsIngested"] += len(records) - len(rejected)
        for one in rejected:
            file.failed("RecordIngestionFailures", one["Reason"], lines[one["RecordIndex"]])
        # Everyone else on the loop gets their turn.
        await asyncio.sleep(0)

    async def _model(self, task: _Task) -> Json:
        """The data model that lies in S3."""
        place = task.given["DataModelConfiguration"]["DataModelS3Configuration"]
        if not place.get("BucketName") or not place.get("ObjectKey"):
            raise AwsError(
                "ValidationException", "DataModelS3Configuration needs BucketName and ObjectKey."
            )
        body = await self._body(place["BucketName"], place["ObjectKey"])
        try:
            model: Json = orjson.loads(body)
        except orjson.JSONDecodeError as error:
            raise AwsError("ValidationException", f"The data model is not JSON: {error}") from error
        client = await self._context.client("timestream-write")
        asked = client.meta.service_model.operation_model("CreateBatchLoadTask").input_shape
        check(asked.members["DataModelConfiguration"].members["DataModel"], model)
        check_model(model)
        return model

    async def _keys(self, bucket: str, prefix: str) -> list[str]:
        keys: list[str] = []
        more: Json = {}
        while True:
            answer = await self._asked("list_objects_v2", Bucket=bucket, Prefix=prefix, **more)
            keys += [one["Key"] for one in answer.get("Contents") or () if one["Size"]]
            if not answer.get("NextContinuationToken") or len(keys) > MAX_FILES:
                return keys
            more = {"ContinuationToken": answer["NextContinuationToken"]}

    async def _body(self, bucket: str, key: str) -> bytes:
        answer = await self._asked("get_object", Bucket=bucket, Key=key)
        return bytes(await answer["Body"].read())

    async def _report(self, task: _Task, of_task: list[Json], files: dict[str, _File]) -> None:
        report = {
            "taskId": task.task_id,
            "taskErrors": of_task,
            "fileErrors": [
                {
                    "fileName": key,
                    "errors": [
                        {"reason": why, "lineRanges": [list(lines) for lines in ranges]}
                        for why, ranges in one.errors.items()
                    ],
                }
                for key, one in files.items()
                if one.errors
            ],
        }
        location = task.given["ReportConfiguration"]["ReportS3Configuration"]
        try:
            await self._reports.put(location, f"{task.task_id}.json", report)
        except (ClientError, BotoCoreError) as error:
            raise _told(error, location["BucketName"]) from error

    async def _asked(self, operation: str, **parameters: Any) -> Json:
        """An answer of S3, asked as whoever made the task."""
        client = await self._context.client("s3")
        try:
            answer: Json = await getattr(client, operation)(**parameters)
        except (ClientError, BotoCoreError) as error:
            raise _told(error, parameters["Bucket"]) from error
        return answer


def _told(error: ClientError | BotoCoreError, bucket: str) -> AwsError | _StoppedError:
    """What S3 says of a bucket: that something is wrong for good, or that it may be right later."""
    if not isinstance(error, ClientError):
        return _StoppedError(f"s3://{bucket}: {error}")
    told = error.response["Error"]
    if error.response["ResponseMetadata"]["HTTPStatusCode"] >= _SERVER_ERROR:
        return _StoppedError(f"s3://{bucket}: {told['Message']}")
    return AwsError("ValidationException", f"s3://{bucket}: {told['Message']}")
