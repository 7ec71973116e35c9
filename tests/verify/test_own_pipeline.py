"""Runs verified in tables and buckets that are laid out by others."""

from __future__ import annotations

import base64
import datetime as dt
import gzip
import io
import json
import time
import uuid
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import pytest_asyncio

from fleetcast.errors import UsageError
from fleetcast.pipeline import Pipeline
from fleetcast.verify import verify_run
from fleetcast.verify.compared import Asked
from fleetcast.verify.exceptions import read
from fleetcast.verify.truth import Truth

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from fleetcast.verify import Verdict
    from fleetcast.verify.truth import TrueRow

pytestmark = pytest.mark.asyncio(loop_scope="module")

CLEAN = {"lost": 0, "duplicated": 0, "phantom": 0, "corrupted": 0, "late": 0}


def pipeline_of(**parts: Any) -> Pipeline:
    """A pipeline whose readings land within seconds."""
    told = {
        "name": "own", "region": "us-east-1", "stream": "s", "lands_within": "5s",
        "settles_after": "10ms", **parts,
    }  # fmt: skip
    return Pipeline.model_validate(told)


class Table:
    """A table, and a pipeline that lands in it alone."""

    def __init__(self, cloud: Any, name: str) -> None:
        self._cloud = cloud
        self.name = name

    def pipeline(self, **columns: Any) -> Pipeline:
        return pipeline_of(timeseries={"database": "fleet", "table": self.name, "columns": columns})

    async def write(self, *rows: dict[str, Any]) -> None:
        """Rows: texts are dimensions, `ms` or `s` the time, numbers measures."""
        records = []
        for row in rows:
            told = dict(row)
            unit = "MILLISECONDS" if "ms" in told else "SECONDS"
            at = told.pop("ms", None) or told.pop("s", None)
            dimensions = {n: v for n, v in told.items() if isinstance(v, str)}
            measures = {n: v for n, v in told.items() if n not in dimensions}
            records.append(
                {
                    "Dimensions": [{"Name": n, "Value": v} for n, v in dimensions.items()],
                    "Time": str(at), "TimeUnit": unit,
                    "MeasureName": "m", "MeasureValueType": "MULTI",
                    "MeasureValues": [
                        {
                            "Name": n, "Value": repr(v),
                            "Type": "BIGINT" if isinstance(v, int) else "DOUBLE",
                        }
                        for n, v in measures.items()
                    ],
                }
            )  # fmt: skip
        for first in range(0, len(records), 100):
            await self._cloud.clients["timestream-write"].write_records(
                DatabaseName="fleet", TableName=self.name, Records=records[first : first + 100]
            )


@pytest_asyncio.fixture(loop_scope="module")
async def table(cloud: Any) -> Table:
    name = f"t{uuid.uuid4().hex[:8]}"
    await cloud.clients["timestream-write"].create_table(DatabaseName="fleet", TableName=name)
    return Table(cloud, name)


def true_rows(run: Any) -> list[TrueRow]:
    """The readings that nothing is wrong with."""
    return [row for row in run.truth.rows(range(12)) if not run.truth.refusal[row.k]]


async def verified(run: Any, pipeline: Pipeline, cloud: Any) -> Verdict:
    return await verify_run(run.folder, pipeline, cloud.target, progress=lambda _: None)


def landed(verdict: Verdict, store: str) -> dict[str, int]:
    found = verdict.landed[store]
    return {"unique": found.unique, **{name: getattr(found, name) for name in CLEAN}}


async def test_readings_are_told_by_device_and_time_among_those_of_others(
    cloud: Any, make_run: Callable[..., Any], table: Table
) -> None:
    run = make_run()
    rows = true_rows(run)
    mine = [
        {"sensor": r.device, "ms": r.ts_ms, "speed_": r.signals.get("speed", 0.5)} for r in rows
    ]
    real = [
        {"sensor": f"pump-{n}", "ms": run.info.start_ms + n, "speed_": 1.0} for n in range(1, 6)
    ]
    # Another run's, a minute before.
    earlier = [{**row, "ms": row["ms"] - 60_000} for row in mine]
    await table.write(*mine, *real, *earlier)
    mapping = {"device": "sensor", "time": "time"}
    verdict = await verified(run, table.pipeline(**mapping), cloud)
    assert landed(verdict, "timeseries") == {"unique": len(rows), **CLEAN}
    assert verdict.verdict == "pass", verdict.lines()
    assert {one.name for one in verdict.not_checked} == {
        "timeseries.content", "timeseries.late", "landing_latency", "archive", "refused", "alarms",
    }  # fmt: skip
    assert verdict.lines()[-1].endswith(
        "; not checked: timeseries.content, landing_latency, timeseries.late, archive, refused, alarms)"
    )
    again = await verified(run, table.pipeline(**mapping), cloud)
    assert again == verdict


async def test_what_time_tells_is_found_lost_double_or_strange(
    cloud: Any, make_run: Callable[..., Any], table: Table
) -> None:
    run = make_run()
    rows = true_rows(run)
    mine = [{"sensor": r.device, "ms": r.ts_ms, "x": 1} for r in rows[2:]]
    copy = {**mine[0], "copy": "yes"}
    strange = {"sensor": "dev-000003", "ms": run.info.start_ms + 1, "x": 1}
    assert all(r.ts_ms != strange["ms"] for r in rows if r.device == "dev-000003")
    await table.write(*mine, copy, strange)
    verdict = await verified(run, table.pipeline(device="sensor", time="time"), cloud)
    planted = {"unique": len(rows) - 2, **CLEAN, "lost": 2, "duplicated": 1, "phantom": 1}
    assert landed(verdict, "timeseries") == planted
    lost = {(one.device, one.seq) for one in read(run.folder) if one.kind == "lost"}
    assert lost == {(r.device, r.seq) for r in rows[:2]}


async def test_seq_as_a_text_times_in_seconds_and_measures_of_other_names(
    cloud: Any, make_run: Callable[..., Any], table: Table
) -> None:
    run = make_run()
    rows = true_rows(run)
    mine = [
        {
            "sensor": r.device, "n": str(r.seq), "trial": run.info.id, "s": r.ts_ms // 1000,
            **{f"{name}_v": value for name, value in r.signals.items()},
        }
        for r in rows
    ]  # fmt: skip
    changed = next(n for n, row in enumerate(mine) if "speed_v" in row)
    mine[changed]["speed_v"] += 1.0
    await table.write(*mine)
    mapping = {
        "device": "sensor", "sequence": "n", "run": "trial", "time": "time", "time_unit": "s",
        "measures": {name: f"{name}_v" for name in ("speed", "temperature", "charge")},
    }  # fmt: skip
    verdict = await verified(run, table.pipeline(**mapping), cloud)
    assert landed(verdict, "timeseries") == {"unique": len(rows), **CLEAN, "corrupted": 1}
    (wrong,) = [one for one in read(run.folder) if one.kind == "corrupted"]
    assert (wrong.device, wrong.seq) == (rows[changed].device, rows[changed].seq)
    assert [one.why for one in verdict.not_checked if one.name == "timeseries.content"] == [
        "not mapped: class, site"
    ]


async def test_an_id_that_holds_device_and_seq_tells_readings_in_both_stores(
    cloud: Any, make_run: Callable[..., Any], table: Table
) -> None:
    run = make_run()
    rows = true_rows(run)
    ids = [f"{run.info.id}|{r.device}/{r.seq}" for r in rows]
    await table.write(
        *[{"msg": told, "ms": r.ts_ms, "x": 1} for told, r in zip(ids, rows, strict=True)]
    )
    prefix = f"own/{uuid.uuid4().hex}/"
    body = b"\n".join(json.dumps({"key": told}).encode() for told in [*ids[1:], "pump/1"])
    await cloud.clients["s3"].put_object(Bucket="archive", Key=f"{prefix}x", Body=body)
    form = "{run}|{device}/{seq}"
    told = table.pipeline(id="msg", id_form=form).model_dump(mode="json", by_alias=True)
    told["archive"] = {
        "bucket": "archive", "prefix": prefix, "fields": {"id": "key", "id_form": form}
    }  # fmt: skip
    verdict = await verified(run, Pipeline.model_validate(told), cloud)
    assert landed(verdict, "timeseries") == {"unique": len(rows), **CLEAN}
    assert landed(verdict, "archive") == {"unique": len(rows) - 1, **CLEAN, "lost": 1}


async def test_a_table_with_a_row_for_each_measure(
    cloud: Any, make_run: Callable[..., Any], table: Table
) -> None:
    run = make_run()
    rows = true_rows(run)
    records = []
    for r in rows[1:]:
        told = {"no": r.seq, **{f"{name}_v": value for name, value in r.signals.items()}}
        # One reading is half there.
        for name, value in list(told.items())[: 1 if r is rows[5] else None]:
            records.append(
                {
                    "Dimensions": [
                        {"Name": "sensor", "Value": r.device},
                        {"Name": "trial", "Value": run.info.id},
                    ],
                    "Time": str(r.ts_ms), "MeasureName": name, "MeasureValue": repr(value),
                    "MeasureValueType": "BIGINT" if isinstance(value, int) else "DOUBLE",
                }
            )  # fmt: skip
    for first in range(0, len(records), 100):
        await cloud.clients["timestream-write"].write_records(
            DatabaseName="fleet", TableName=table.name, Records=records[first : first + 100]
        )
    mapping = {
        "device": "sensor", "sequence": "no", "run": "trial", "time": "time",
        "measures": {name: f"{name}_v" for name in ("speed", "temperature", "charge")},
    }  # fmt: skip
    told = table.pipeline(**mapping).model_dump(mode="json", by_alias=True)
    told["timeseries"]["records"] = "single"
    verdict = await verified(run, Pipeline.model_validate(told), cloud)
    planted = {"lost": 1, "corrupted": 1}
    assert landed(verdict, "timeseries") == {"unique": len(rows) - 1, **CLEAN, **planted}
    (half,) = [one for one in read(run.folder) if one.kind == "corrupted"]
    assert (half.device, half.seq) == (rows[5].device, rows[5].seq)


async def test_a_time_of_its_own_and_when_the_row_was_written(
    cloud: Any, make_run: Callable[..., Any], table: Table
) -> None:
    run = make_run()
    rows = true_rows(run)
    now_ms = int(time.time() * 1000)
    mine = [
        # The table's own time is that of writing, and of no use.
        {"sensor": r.device, "ms": now_ms + n, "taken": r.ts_ms, "stored": r.ts_ms + 250, "x": 1.5}
        for n, r in enumerate(rows)
    ]  # fmt: skip
    mine[3]["stored"] = now_ms + 3_600_000
    await table.write(*mine)
    mapping = {"device": "sensor", "time": "taken", "written": "stored"}
    verdict = await verified(run, table.pipeline(**mapping), cloud)
    assert landed(verdict, "timeseries") == {"unique": len(rows), **CLEAN, "late": 1}
    assert verdict.landing_latency_ms["p50"] == 250


async def test_broken_readings_may_be_in_the_table_or_not(
    cloud: Any, make_run: Callable[..., Any], table: Table
) -> None:
    run = make_run()
    every = list(run.truth.rows(range(12)))
    broken = [r for r in every if run.truth.refusal[r.k]]
    assert len(broken) > 3
    taken = {r.k for r in broken[::2]}
    await table.write(
        *[
            {"sensor": r.device, "ms": r.ts_ms, "n": r.seq}
            for r in every
            if r.k in taken or not run.truth.refusal[r.k]
        ]
    )
    mapping = {"device": "sensor", "sequence": "n", "time": "time"}
    verdict = await verified(run, table.pipeline(**mapping), cloud)
    good = len(every) - len(broken)
    assert landed(verdict, "timeseries") == {"unique": good + len(taken), **CLEAN}
    told = {one.name: one.why for one in verdict.not_checked}
    assert told["refused"] == f"{len(broken)} readings that faults broke may have landed or not"


async def test_a_table_that_nothing_came_to_has_lost_everything(
    cloud: Any, make_run: Callable[..., Any], table: Table
) -> None:
    run = make_run()
    verdict = await verified(run, table.pipeline(device="sensor", time="time"), cloud)
    assert landed(verdict, "timeseries") == {"unique": 0, **CLEAN, "lost": len(true_rows(run))}


async def test_readings_that_a_time_does_not_tell_apart_are_refused(
    make_run: Callable[..., Any], table: Table
) -> None:
    run = make_run()
    asked = Asked.of(table.pipeline(device="sensor", time="time", time_unit="s"))
    truth = Truth.of_run(run.folder, b"", asked)
    with pytest.raises(UsageError, match="within 1000 ms, so that their times do not tell them"):
        truth.landed_number("dev-000001", run.info.start_ms, asked.series)


FIELDS = {
    "device": "$.meta.sensor", "sequence": "meta.n", "time": "at", "run": "trial",
    "measures": {"speed": "values[0].v", "temperature": "values[1].t"},
}  # fmt: skip


def lines_of(run: Any, rows: Iterable[TrueRow]) -> list[dict[str, Any]]:
    return [
        {
            "meta": {"sensor": r.device, "n": r.seq},
            "at": dt.datetime.fromtimestamp(r.ts_ms / 1000, dt.UTC).isoformat(),
            "trial": run.info.id,
            "values": [{"v": r.signals.get("speed")}, {"t": r.signals.get("temperature")}],
        }
        for r in rows
    ]


@pytest.mark.parametrize("form", ["lines", "json"])
@pytest.mark.parametrize("compression", ["auto", "gzip", "none"])
async def test_lines_of_its_own_are_told_by_their_fields(
    cloud: Any, make_run: Callable[..., Any], form: str, compression: str
) -> None:
    run, other = make_run(), make_run()
    rows = true_rows(run)
    lines = lines_of(run, rows[1:])
    lines.append(lines[0])
    lines[5] = {**lines[5], "values": [{"v": 1234.5}, {"t": None}]}
    lines += lines_of(other, true_rows(other)[:7])
    lines.append({**lines[0], "meta": {"sensor": "dev-000001", "n": 4711}})
    texts = [json.dumps(line).encode() for line in lines]
    texts.insert(3, b'{"meta": {"sensor": "dev-0')
    body = (b"\n" if form == "lines" else b"").join(texts)
    prefix = f"own/{uuid.uuid4().hex}/"
    await cloud.clients["s3"].put_object(
        Bucket="archive",
        Key=f"{prefix}part-0",
        Body=body if compression == "none" else gzip.compress(body),
    )
    archive = {
        "bucket": "archive", "prefix": prefix, "format": form, "compression": compression,
        "fields": FIELDS,
    }  # fmt: skip
    verdict = await verified(run, pipeline_of(archive=archive), cloud)
    planted = {"lost": 1, "duplicated": 1, "corrupted": 1, "phantom": 1}
    assert landed(verdict, "archive") == {"unique": len(rows) - 1, **CLEAN, **planted}
    assert verdict.notes == ["8 lines of the archive are not of this run; not judged"]
    assert {one.name for one in verdict.not_checked} >= {"timeseries", "archive.content"}


async def test_rows_of_parquet_are_told_by_their_fields(
    cloud: Any, make_run: Callable[..., Any]
) -> None:
    run = make_run()
    rows = true_rows(run)
    columns = {
        "d": [r.device for r in rows[1:]],
        "at": pa.array([r.ts_ms for r in rows[1:]], pa.timestamp("ms")),
        "m": [{"v": r.signals.get("speed")} for r in rows[1:]],
    }
    packed = io.BytesIO()
    pq.write_table(pa.table(columns), packed)
    prefix = f"own/{uuid.uuid4().hex}/"
    s3 = cloud.clients["s3"]
    await s3.put_object(Bucket="archive", Key=f"{prefix}a", Body=packed.getvalue())
    await s3.put_object(Bucket="archive", Key=f"{prefix}b", Body=b"no Parquet")
    archive = {
        "bucket": "archive", "prefix": prefix, "format": "parquet",
        "fields": {"device": "d", "time": "at", "measures": {"speed": "m.v"}},
    }  # fmt: skip
    verdict = await verified(run, pipeline_of(archive=archive), cloud)
    assert landed(verdict, "archive") == {"unique": len(rows) - 1, **CLEAN, "lost": 1}
    failed = {check.name: check.detail for check in verdict.checks if not check.ok}
    assert failed.keys() == {"archive.lost", "archive.readable"}
    assert f"1 objects, first {prefix}b: " in failed["archive.readable"]


async def test_lines_without_a_run_are_told_by_time_and_real_devices_are_none_of_it(
    cloud: Any, make_run: Callable[..., Any]
) -> None:
    run = make_run()
    rows = true_rows(run)
    lines = [{"d": r.device, "ms": r.ts_ms} for r in rows]
    lines += [{"d": r.device, "ms": r.ts_ms - 60_000} for r in rows]
    lines += [{"d": "pump-1", "ms": rows[0].ts_ms}, {"d": "pump-1"}]
    prefix = f"own/{uuid.uuid4().hex}/"
    body = b"\n".join(json.dumps(line).encode() for line in lines)
    await cloud.clients["s3"].put_object(Bucket="archive", Key=f"{prefix}x", Body=body)
    archive = {"bucket": "archive", "prefix": prefix, "fields": {"device": "d", "time": "ms"}}
    verdict = await verified(run, pipeline_of(archive=archive), cloud)
    assert landed(verdict, "archive") == {"unique": len(rows), **CLEAN}


@pytest.mark.parametrize("shape", [{}, {"payload": "record.data", "encoding": "base64"}])
async def test_a_queue_of_others_holds_what_was_refused(
    cloud: Any, make_run: Callable[..., Any], table: Table, shape: dict[str, str]
) -> None:
    run = make_run()
    sqs = cloud.clients["sqs"]
    name = f"q-{uuid.uuid4().hex[:8]}"
    url = (await sqs.create_queue(QueueName=name))["QueueUrl"]
    refused = {k: p for k, p in run.payloads.items() if run.truth.refusal[k]}
    # Some are no text, and could not be in a body.
    reasons = [
        run.truth.reasons[run.truth.refusal[k]] for k in refused
    ]  # fmt: skip
    asked = sorted({*reasons} - {"not_json"})
    due = [p for (k, p), reason in zip(refused.items(), reasons, strict=True) if reason in asked]
    for payload in due[1:]:
        told = {"record": {"data": base64.b64encode(payload).decode()}}
        body = json.dumps(told) if shape else payload.decode()
        await sqs.send_message(QueueUrl=url, MessageBody=body)
    await sqs.send_message(QueueUrl=url, MessageBody="of somebody else")
    await table.write(*[{"sensor": r.device, "ms": r.ts_ms, "x": 1} for r in true_rows(run)])
    pipeline = table.pipeline(device="sensor", time="time").model_dump(mode="json", by_alias=True)
    pipeline["signing_secret"] = "key"
    pipeline["quarantine"] = {"queue": name, "refuses": asked, **shape}
    verdict = await verified(run, Pipeline.model_validate(pipeline), cloud)
    assert (verdict.refused.expected, verdict.refused.missing) == (len(due), 1)
    assert (verdict.refused.quarantined, verdict.refused.wrong_reason) == (len(due) - 1, 0)
    assert [check.name for check in verdict.checks if not check.ok] == ["refused"]
    left = await sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10)
    assert [message["Body"] for message in left["Messages"]] == ["of somebody else"]
