"""Looks at each point of a pipeline, with calls that change nothing: what is there, what is missing."""

from __future__ import annotations

import difflib
import zlib
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import orjson
import pyarrow as pa
from botocore.exceptions import BotoCoreError, ClientError

from fleetcast.errors import TargetError, UsageError
from fleetcast.pipeline.model import path_of
from fleetcast.pipeline.queues import queue_url
from fleetcast.verify.archive import ArchivePlace, at_path
from fleetcast.verify.mapped_series import Layout
from fleetcast.verify.timeseries import name_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from fleetcast.pipeline.model import Archive, Fields, Pipeline, Quarantine, TimeSeries
    from fleetcast.target import Target

# Columns of a table that nothing was written to.
_ALWAYS = {"time", "measure_name"}
_UNCOUNTABLE = {"boolean"}
# Larger objects are not read to see what is in them.
MOST_BYTES = 8 * 1024 * 1024
_LINES = 1000


@dataclass(frozen=True, slots=True)
class Point:
    """One point of a pipeline.

    Attributes:
        name: Which, as in the file.
        state: `ok`, `missing` (or not as the file says), or `not named` in the file.
        detail: What is there, or what is wrong and what to do.
    """

    name: str
    state: str
    detail: str

    @property
    def ok(self) -> bool:
        """Whether nothing is wrong with it."""
        return self.state != "missing"


class _WrongError(Exception):
    """A point is not as the file says."""


async def check(pipeline: Pipeline, target: Target) -> list[Point]:
    """All points, in the order in which a reading comes by.

    Raises:
        TargetError: the target does not answer.
    """
    points = []
    try:
        async with AsyncExitStack() as stack:

            async def client(service: str) -> Any:
                return await stack.enter_async_context(
                    target.client(service, connect_timeout=5, retries={"total_max_attempts": 2})
                )

            async for name, look in _looks(pipeline, client):
                points.append(await _looked_at(name, look))
    except (BotoCoreError, OSError) as error:
        where = target.endpoint_url or f"AWS in {target.region}"
        raise TargetError(f"cannot look at the pipeline on {where}: {error}") from error
    return points


async def shards_of(pipeline: Pipeline, target: Target) -> int:
    """How many open shards the stream has.

    Raises:
        UsageError: there is no such stream, or it is another than the file's ARN says.
        TargetError: the target does not answer.
    """
    try:
        async with target.client(
            "kinesis", connect_timeout=5, retries={"total_max_attempts": 2}
        ) as client:
            return int((await _stream_summary(client, pipeline))["OpenShardCount"])
    except _WrongError as error:
        raise UsageError(f"pipeline {pipeline.name}: stream: {error}") from error
    except (ClientError, BotoCoreError, OSError) as error:
        where = target.endpoint_url or f"AWS in {target.region}"
        raise TargetError(
            f"cannot find stream {pipeline.stream_name} of pipeline {pipeline.name} on {where}: {error}"
        ) from error


async def _looks(
    pipeline: Pipeline, client: Callable[[str], Awaitable[Any]]
) -> AsyncIterator[tuple[str, Awaitable[str] | None]]:
    yield "stream", _stream(await client("kinesis"), pipeline)
    secret, series, archive = pipeline.signing_secret, pipeline.timeseries, pipeline.archive
    secrets = await client("secretsmanager") if secret else None
    yield "signing_secret", _secret(secrets, secret) if secret else None
    query = await client("timestream-query") if series else None
    yield "timeseries", _series(query, series) if series else None
    s3 = await client("s3") if archive else None
    yield "archive", _archive(s3, archive) if archive else None
    queue, alarms = pipeline.quarantine, pipeline.alarms
    sqs = await client("sqs") if queue else None
    yield "quarantine", _queue(sqs, queue) if queue else None
    cloudwatch = await client("cloudwatch") if alarms else None
    yield "alarms", _alarms(cloudwatch, alarms) if alarms else None


_UNNAMED = {
    "signing_secret": "readings are not signed",
    "timeseries": "no table is compared",
    "archive": "no archive is compared",
    "quarantine": "what comes of broken readings is not checked",
    "alarms": "alarms are not checked",
}


async def _looked_at(name: str, look: Awaitable[str] | None) -> Point:
    if look is None:
        return Point(name, "not named", _UNNAMED[name])
    try:
        return Point(name, "ok", await look)
    except _WrongError as error:
        return Point(name, "missing", str(error))
    except ClientError as error:
        told = error.response.get("Error", {})
        return Point(name, "missing", f"{told.get('Code')}: {told.get('Message')}")


async def _stream_summary(client: Any, pipeline: Pipeline) -> dict[str, Any]:
    answer = await client.describe_stream_summary(StreamName=pipeline.stream_name)
    summary: dict[str, Any] = answer["StreamDescriptionSummary"]
    if pipeline.stream_arn and pipeline.stream_arn != summary["StreamARN"]:
        raise _WrongError(
            f"the file says {pipeline.stream_arn}, and the stream of this name in this account is "
            f"{summary['StreamARN']}: use the credentials of that account"
        )
    return summary


async def _stream(client: Any, pipeline: Pipeline) -> str:
    summary = await _stream_summary(client, pipeline)
    return f"{pipeline.stream_name}: {summary['StreamStatus']}, {summary['OpenShardCount']} shards"


async def _secret(client: Any, secret: str) -> str:
    await client.describe_secret(SecretId=secret)
    return f"{secret}: is there; its value is read when a run begins"


async def _series(client: Any, series: TimeSeries) -> str:
    table = f"{name_of(series.database)}.{name_of(series.table)}"
    types = (await Layout.of(client, series)).types
    if not {name for name in types if not name.startswith("measure_value::")} - _ALWAYS:
        return f"{table}: holds nothing yet, so that its columns cannot be checked"
    for field, column in series.columns.names().items():
        if column not in types:
            close = difflib.get_close_matches(column, types, 1)
            known = ", ".join(sorted(types))
            hint = f"did you mean {close[0]}?" if close else f"it has {known}"
            raise _WrongError(f"{table}: has no column {column!r} for columns.{field}: {hint}")
        if types[column] in _UNCOUNTABLE and field != "run":
            raise _WrongError(
                f"{table}: column {column!r} for columns.{field} is {types[column]}, which is no "
                "number, text or time"
            )
    return f"{table}: {len(series.columns.names())} columns are there"


async def _archive(client: Any, archive: Archive) -> str:
    prefix = archive.prefix.split("%", 1)[0]
    answer = await client.list_objects_v2(Bucket=archive.bucket, Prefix=prefix, MaxKeys=100)
    items = [item for item in answer.get("Contents", ()) if 0 < item["Size"] <= MOST_BYTES]
    where = f"s3://{archive.bucket}/{prefix}"
    if not items:
        return f"{where}: can be listed, holds nothing to look into"
    key = items[-1]["Key"]
    body = await (await client.get_object(Bucket=archive.bucket, Key=key))["Body"].read()
    place = ArchivePlace(archive.bucket, archive.prefix, archive.format, archive.compression)
    try:
        lines = place.pieces(place.unpacked(key, body))[:_LINES]
    except zlib.error as error:
        raise _WrongError(
            f"{where}: {key} is no GZIP ({error}): say how it is compressed"
        ) from error
    except pa.ArrowInvalid as error:
        raise _WrongError(f"{where}: {key} is no Parquet ({error}): say its format") from error
    if archive.fields is not None:
        _check_fields(key, lines, archive.fields)
    return f"{where}: {key} has {len(lines):,} lines that can be read"


def _check_fields(key: str, lines: list[bytes], fields: Fields) -> None:
    """Looks for a line that has all that tells a reading."""
    needed = {field: p for field, p in fields.names().items() if not field.startswith("measures.")}
    lacking = "it is no JSON"
    for line in lines:
        try:
            value = orjson.loads(line)
        except ValueError:
            continue
        gone = [p for p in needed.values() if at_path(value, path_of(p)) is None]
        if not gone:
            return
        lacking = f"{gone[0]!r} is not there"
    raise _WrongError(f"{key}: no line has what tells a reading: {lacking}")


async def _queue(client: Any, queue: Quarantine) -> str:
    url = await queue_url(client, queue.queue)
    answer = await client.get_queue_attributes(
        QueueUrl=url, AttributeNames=["ApproximateNumberOfMessages"]
    )
    waiting = answer["Attributes"]["ApproximateNumberOfMessages"]
    return f"{queue.queue}: {waiting} messages wait"


async def _alarms(client: Any, alarms: dict[str, str]) -> str:
    answer = await client.describe_alarms(
        AlarmNames=list(dict.fromkeys(alarms.values())),
        AlarmTypes=["MetricAlarm", "CompositeAlarm"],
    )
    there = {
        alarm["AlarmName"]: alarm["StateValue"]
        for kind in ("MetricAlarms", "CompositeAlarms")
        for alarm in answer.get(kind, ())
    }
    for short, name in alarms.items():
        if name not in there:
            raise _WrongError(f"there is no alarm {name!r}, which is to be {short}")
    return ", ".join(f"{name} is {there[name]}" for name in dict.fromkeys(alarms.values()))
