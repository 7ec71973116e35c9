from __future__ import annotations

import time
from typing import Any

import pytest
import pytest_asyncio

pytestmark = pytest.mark.asyncio(loop_scope="module")

OLD_MS = 1_714_564_800_000
HOUR_MS = 3_600_000


class Table:
    """One table and short ways to write and read it."""

    def __init__(self, write: Any, query: Any, name: str) -> None:
        self.client, self.query, self.name = write, query, name

    async def write(self, *records: dict[str, Any], **common: Any) -> dict[str, int]:
        answer = await self.client.write_records(
            DatabaseName="fleet", TableName=self.name, Records=list(records), **common
        )
        return answer["RecordsIngested"]

    async def rejected(self, *records: dict[str, Any]) -> list[dict[str, Any]]:
        with pytest.raises(self.client.exceptions.RejectedRecordsException) as caught:
            await self.write(*records)
        return caught.value.response["RejectedRecords"]

    async def rows(self, columns: str) -> list[tuple[str | None, ...]]:
        sql = f'SELECT {columns} FROM "fleet"."{self.name}" ORDER BY time, 1'  # noqa: S608
        answer = await self.query.query(QueryString=sql)
        return [tuple(d.get("ScalarValue") for d in row["Data"]) for row in answer["Rows"]]


@pytest_asyncio.fixture(loop_scope="module")
async def table(cloud, name):
    write = await cloud.client("timestream-write")
    if not (await write.list_databases())["Databases"]:
        await write.create_database(DatabaseName="fleet")
    await write.create_table(
        DatabaseName="fleet",
        TableName=name,
        RetentionProperties={
            "MemoryStoreRetentionPeriodInHours": 24,
            "MagneticStoreRetentionPeriodInDays": 73_000,
        },
        MagneticStoreWriteProperties={"EnableMagneticStoreWrites": True},
    )
    return Table(write, await cloud.client("timestream-query"), name)


def single(value: str = "1.0", **more: Any) -> dict[str, Any]:
    return {
        "Dimensions": [{"Name": "device", "Value": "d1"}],
        "Time": str(OLD_MS),
        "MeasureName": "cpu",
        "MeasureValue": value,
        **more,
    }


def multi(*values: tuple[str, str, str], **more: Any) -> dict[str, Any]:
    return {
        "Dimensions": [{"Name": "device", "Value": "d1"}],
        "Time": str(OLD_MS),
        "MeasureName": "reading",
        "MeasureValueType": "MULTI",
        "MeasureValues": [{"Name": n, "Type": kind, "Value": value} for n, kind, value in values],
        **more,
    }


async def test_a_higher_version_replaces_the_values(table):
    await table.write(single("1.0", Version=1))
    await table.write(single("2.0", Version=5))

    assert await table.rows("measure_value::double") == [("2.0",)]


async def test_an_upsert_after_a_query_replaces_what_was_stored(table):
    await table.write(single("1.0"))
    assert await table.rows("measure_value::double") == [("1.0",)]
    await table.write(single("2.0", Version=2))

    assert await table.rows("measure_value::double") == [("2.0",)]


async def test_a_lower_version_is_rejected_with_the_existing_one(table):
    await table.write(single("1.0", Version=7))

    (why,) = await table.rejected(single("2.0", Version=6))

    assert why["ExistingVersion"] == 7
    assert "version 6 is lower than the existing version 7" in why["Reason"]
    assert await table.rows("measure_value::double") == [("1.0",)]


async def test_the_same_version_with_other_values_is_rejected(table):
    await table.write(single("1.0"))

    (why,) = await table.rejected(single("2.0"))

    assert why["ExistingVersion"] == 1
    assert why["Reason"].startswith("A record already exists with the same time, dimensions")


async def test_the_same_record_again_is_accepted_and_kept_once(table):
    await table.write(single("1.0"))

    assert (await table.write(single("1.0")))["Total"] == 1
    assert await table.rows("measure_value::double") == [("1.0",)]


async def test_records_differ_by_time_dimension_or_measure_name(table):
    other = [{"Name": "device", "Value": "d2"}]
    await table.write(
        single("1.0"),
        single("2.0", Time=str(OLD_MS + 1)),
        single("3.0", Dimensions=other),
        single("4.0", MeasureName="load"),
    )

    assert sorted(await table.rows("measure_value::double")) == [
        ("1.0",),
        ("2.0",),
        ("3.0",),
        ("4.0",),
    ]


async def test_the_order_of_dimensions_makes_no_other_record(table):
    one, two = {"Name": "a", "Value": "1"}, {"Name": "b", "Value": "2"}
    await table.write(single("1.0", Dimensions=[one, two]))
    await table.write(single("2.0", Dimensions=[two, one], Version=2))

    assert await table.rows("a, b, measure_value::double") == [("1", "2", "2.0")]


async def test_a_multi_measure_record_is_one_row_with_typed_columns(table):
    await table.write(
        multi(
            ("speed", "DOUBLE", "3.5"),
            ("count", "BIGINT", "9007199254740993"),
            ("state", "VARCHAR", "it's on"),
            ("on", "BOOLEAN", "true"),
            ("seen", "TIMESTAMP", str(OLD_MS + 250)),
        )
    )

    assert await table.rows('speed, "count", state, "on", seen, measure_name') == [
        ("3.5", "9007199254740993", "it's on", "true", "2024-05-01 12:00:00.250000000", "reading")
    ]


async def test_columns_appear_when_they_are_first_written(table):
    await table.write(multi(("a", "BIGINT", "1")))
    assert await table.rows("a") == [("1",)]
    await table.write(multi(("b", "DOUBLE", "2"), Time=str(OLD_MS + 1)))

    assert await table.rows("a, b") == [("1", None), (None, "2.0")]


async def test_common_attributes_complete_every_record(table):
    done = await table.write(
        {"MeasureValue": "1", "Dimensions": [{"Name": "device", "Value": "d1"}]},
        {"MeasureValue": "2", "Dimensions": [{"Name": "device", "Value": "d2"}]},
        CommonAttributes={
            "Dimensions": [{"Name": "site", "Value": "north"}],
            "MeasureName": "n",
            "MeasureValueType": "BIGINT",
            "Time": str(OLD_MS // 1000),
            "TimeUnit": "SECONDS",
        },
    )

    assert done["Total"] == 2
    assert await table.rows("device, site, measure_value::bigint, time") == [
        ("d1", "north", "1", "2024-05-01 12:00:00.000000000"),
        ("d2", "north", "2", "2024-05-01 12:00:00.000000000"),
    ]


@pytest.mark.parametrize(
    ("unit", "text", "expected"),
    [
        ("SECONDS", "1714564800", "12:00:00.000000000"),
        ("MILLISECONDS", "1714564800001", "12:00:00.001000000"),
        ("MICROSECONDS", "1714564800000001", "12:00:00.000001000"),
        ("NANOSECONDS", "1714564800000000001", "12:00:00.000000001"),
    ],
)
async def test_time_is_kept_to_the_nanosecond(table, unit, text, expected):
    await table.write(single(Time=text, TimeUnit=unit))

    assert await table.rows("time") == [(f"2024-05-01 {expected}",)]


async def test_ingested_counts_tell_the_stores_apart(table):
    now_ms = int(time.time() * 1000)
    done = await table.write(
        single(Time=str(now_ms)), single(Time=str(now_ms - HOUR_MS)), single(Time=str(OLD_MS))
    )

    assert done == {"Total": 3, "MemoryStore": 2, "MagneticStore": 1}


async def test_times_outside_the_window_are_rejected(table):
    await table.client.update_table(
        DatabaseName="fleet",
        TableName=table.name,
        MagneticStoreWriteProperties={"EnableMagneticStoreWrites": False},
    )
    now_ms = int(time.time() * 1000)
    times = [now_ms, now_ms - 25 * HOUR_MS, now_ms - 23 * HOUR_MS, now_ms + 16 * 60_000, OLD_MS]

    rejected = await table.rejected(*[single(Time=str(at_ms)) for at_ms in times])

    assert [why["RecordIndex"] for why in rejected] == [1, 3, 4]
    assert all("outside the time range" in why["Reason"] for why in rejected)


REJECTED = [
    (single("warm"), "cpu is not a valid DOUBLE"),
    (single("NaN"), "cpu is not a valid DOUBLE"),
    (single("1_000"), "cpu is not a valid DOUBLE"),
    (single("1.5", MeasureValueType="BIGINT"), "cpu is not a valid BIGINT"),
    (single(str(2**63), MeasureValueType="BIGINT"), "cpu is not a valid BIGINT"),
    (single("maybe", MeasureValueType="BOOLEAN"), "cpu is not a valid BOOLEAN"),
    (single("x" * 2049, MeasureValueType="VARCHAR"), "cpu exceeds 2048 bytes"),
    (single("9" * 18, MeasureValueType="TIMESTAMP"), "cpu is not a valid TIMESTAMP"),
    (single(Time="noon"), "time is not a number"),
    (single(Dimensions=[]), "At least one dimension"),
    (single(Dimensions=[{"Name": "device", "Value": "x" * 2049}]), "device exceeds 2048 bytes"),
    (single(Dimensions=[{"Name": "time", "Value": "x"}]), "time is reserved"),
    (single(Dimensions=[{"Name": "a", "Value": "1"}, {"Name": "a", "Value": "2"}]), "given twice"),
    (single(Dimensions=[{"Name": f"d{n}", "Value": "1"} for n in range(129)]), "at most 128"),
    (multi(("measure_name", "DOUBLE", "1")), "measure_name is reserved"),
    (multi(("a", "DOUBLE", "1"), ("a", "DOUBLE", "1")), "given twice"),
    (multi(("pump", "DOUBLE", "1"), Dimensions=[{"Name": "pump", "Value": "x"}]), "pump is taken"),
    (multi(("device", "DOUBLE", "1")), "exists in the table with another type"),
    (multi(("a", "DOUBLE", "1"), ("A", "DOUBLE", "1")), "A is taken"),
]  # fmt: skip


@pytest.mark.parametrize(("bad", "reason"), REJECTED, ids=[reason for _, reason in REJECTED])
async def test_a_bad_record_is_rejected_alone_with_its_reason(table, bad, reason):
    good = [single("1.0", Time=str(OLD_MS + 5)), single("2.0", Time=str(OLD_MS + 6))]

    (why,) = await table.rejected(good[0], bad, good[1])

    assert why["RecordIndex"] == 1
    assert reason in why["Reason"]
    assert await table.rows("measure_value::double") == [("1.0",), ("2.0",)]


async def test_a_measure_keeps_its_type(table):
    await table.write(multi(("a", "BIGINT", "1")))

    (why,) = await table.rejected(multi(("a", "DOUBLE", "1.5"), Time=str(OLD_MS + 1)))

    assert "exists in the table with another type" in why["Reason"]


async def test_a_call_takes_a_hundred_records_and_no_more(table):
    records = [single(Time=str(OLD_MS + n)) for n in range(101)]

    assert (await table.write(*records[:100]))["Total"] == 100
    with pytest.raises(
        table.client.exceptions.ValidationException, match="length less than or equal to 100"
    ):
        await table.write(*records)


async def test_a_missing_table_and_database_are_told_apart(table):
    missing = table.client.exceptions.ResourceNotFoundException
    with pytest.raises(missing, match="table nothing does not exist"):
        await table.client.write_records(
            DatabaseName="fleet", TableName="nothing", Records=[single()]
        )
    with pytest.raises(missing, match="database nothing does not exist"):
        await table.client.write_records(
            DatabaseName="nothing", TableName="nothing", Records=[single()]
        )


async def test_many_rows_are_counted_once_each_across_flushes(table):
    for first in range(0, 1000, 100):
        await table.write(
            *[single(str(n), Time=str(OLD_MS + n)) for n in range(first, first + 100)]
        )
        if first % 300 == 0:
            assert await table.rows("count(*) OVER ()") == [(str(first + 100),)] * (first + 100)

    sql = f'SELECT count(*), sum(measure_value::double) FROM "fleet"."{table.name}"'  # noqa: S608
    (row,) = (await table.query.query(QueryString=sql))["Rows"]
    assert [d["ScalarValue"] for d in row["Data"]] == ["1000", "499500.0"]


async def test_tables_and_databases_are_described_updated_and_deleted(cloud, name):
    client = await cloud.client("timestream-write")
    await client.create_database(DatabaseName=name, Tags=[{"Key": "k", "Value": "v"}])
    await client.create_table(DatabaseName=name, TableName="table-1")
    await client.update_table(
        DatabaseName=name,
        TableName="table-1",
        RetentionProperties={
            "MemoryStoreRetentionPeriodInHours": 2,
            "MagneticStoreRetentionPeriodInDays": 3,
        },
    )
    described = (await client.describe_table(DatabaseName=name, TableName="table-1"))["Table"]
    database = (await client.describe_database(DatabaseName=name))["Database"]
    tags = (await client.list_tags_for_resource(ResourceARN=database["Arn"]))["Tags"]

    assert described["RetentionProperties"]["MemoryStoreRetentionPeriodInHours"] == 2
    assert described["Arn"] == f"{database['Arn']}/table/table-1"
    assert (database["TableCount"], tags) == (1, [{"Key": "k", "Value": "v"}])
    with pytest.raises(client.exceptions.ConflictException):
        await client.create_table(DatabaseName=name, TableName="table-1")
    with pytest.raises(client.exceptions.ValidationException, match="because it has tables"):
        await client.delete_database(DatabaseName=name)
    await client.delete_table(DatabaseName=name, TableName="table-1")
    await client.delete_database(DatabaseName=name)
    with pytest.raises(client.exceptions.ResourceNotFoundException):
        await client.describe_database(DatabaseName=name)
