# ruff: noqa: S608 - names are those of the test
"""Partition keys of tables, and reports of what the magnetic store rejected."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest
import pytest_asyncio

pytestmark = pytest.mark.asyncio(loop_scope="module")

OLD_MS = 1_714_564_800_000
REQUIRED = {
    "CompositePartitionKey": [
        {"Type": "DIMENSION", "Name": "device", "EnforcementInRecord": "REQUIRED"}
    ]
}
OPTIONAL = {
    "CompositePartitionKey": [
        {"Type": "DIMENSION", "Name": "device", "EnforcementInRecord": "OPTIONAL"}
    ]
}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def write(cloud):
    client = await cloud.client("timestream-write")
    await client.create_database(DatabaseName="keyed")
    return client


def record(version: int, value: str, time_ms: int, **dimensions: str) -> dict[str, Any]:
    return {
        "Dimensions": [{"Name": name, "Value": text} for name, text in dimensions.items()],
        "MeasureName": "speed",
        "MeasureValue": value,
        "Time": str(time_ms),
        "Version": version,
    }


async def test_a_required_key_is_asked_of_each_record(write, name):
    await write.create_table(DatabaseName="keyed", TableName=name, Schema=REQUIRED)
    now_ms = int(time.time() * 1000)
    with_key, without = record(1, "1", now_ms, device="d1"), record(1, "1", now_ms, site="s")

    with pytest.raises(write.exceptions.RejectedRecordsException) as caught:
        await write.write_records(DatabaseName="keyed", TableName=name, Records=[with_key, without])
    [rejected] = caught.value.response["RejectedRecords"]
    assert rejected["RecordIndex"] == 1
    assert "no dimension device" in rejected["Reason"]

    await write.update_table(DatabaseName="keyed", TableName=name, Schema=OPTIONAL)
    done = await write.write_records(DatabaseName="keyed", TableName=name, Records=[without])
    assert done["RecordsIngested"]["Total"] == 1
    table = await write.describe_table(DatabaseName="keyed", TableName=name)
    assert table["Table"]["Schema"] == OPTIONAL


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ([{"Type": "DIMENSION"}], "needs a Name"),
        ([{"Type": "MEASURE", "Name": "x"}], "neither Name"),
        ([{"Type": "MEASURE"}, {"Type": "DIMENSION", "Name": "x"}], "exactly one|less than or equal to 1"),
    ],
)  # fmt: skip
async def test_a_key_that_is_none_is_refused(write, name, keys, message):
    with pytest.raises(write.exceptions.ValidationException, match=message):
        await write.create_table(
            DatabaseName="keyed", TableName=name, Schema={"CompositePartitionKey": keys}
        )


async def test_the_key_of_a_table_stays(write, name):
    await write.create_table(DatabaseName="keyed", TableName=name, Schema=REQUIRED)
    with pytest.raises(write.exceptions.ValidationException, match="cannot be changed"):
        await write.update_table(
            DatabaseName="keyed",
            TableName=name,
            Schema={"CompositePartitionKey": [{"Type": "MEASURE"}]},
        )


async def test_a_late_version_in_the_magnetic_store_is_told_by_a_report(
    cloud, write, name, eventually
):
    s3 = await cloud.client("s3")
    await s3.create_bucket(Bucket=name)
    await write.create_table(
        DatabaseName="keyed",
        TableName=name,
        MagneticStoreWriteProperties={
            "EnableMagneticStoreWrites": True,
            "MagneticStoreRejectedDataLocation": {
                "S3Configuration": {
                    "BucketName": name, "ObjectKeyPrefix": "late/", "EncryptionOption": "SSE_S3",
                }
            },
        },
    )  # fmt: skip
    now_ms = int(time.time() * 1000)
    for one in (record(5, "1", OLD_MS, device="d"), record(5, "1", now_ms, device="d")):
        await write.write_records(DatabaseName="keyed", TableName=name, Records=[one])

    done = await write.write_records(
        DatabaseName="keyed", TableName=name, Records=[record(4, "2", OLD_MS, device="d")]
    )
    assert done["RecordsIngested"]["MagneticStore"] == 1
    with pytest.raises(write.exceptions.RejectedRecordsException):
        await write.write_records(
            DatabaseName="keyed", TableName=name, Records=[record(4, "2", now_ms, device="d")]
        )

    async def listed() -> Any:
        return (await s3.list_objects_v2(Bucket=name)).get("Contents")

    [found] = await eventually(listed)
    assert found["Key"].startswith(f"late/123456789012/us-east-1/keyed/{name}/")
    got = await s3.get_object(Bucket=name, Key=found["Key"])
    assert got["ServerSideEncryption"] == "AES256"
    report = json.loads(await got["Body"].read())
    assert (report["DatabaseName"], report["TableName"]) == ("keyed", name)
    [rejected] = report["RejectedRecords"]
    assert (rejected["RecordIndex"], rejected["ExistingVersion"]) == (0, 5)
    assert "version 4 is lower than the existing version 5" in rejected["Reason"]
    assert rejected["Record"]["MeasureValue"] == "2"

    query = await cloud.client("timestream-query")
    kept = await query.query(QueryString=f'SELECT max(measure_value::double) FROM "keyed"."{name}"')
    assert kept["Rows"][0]["Data"][0] == {"ScalarValue": "1.0"}


async def test_a_location_without_a_bucket_is_refused(write, name):
    with pytest.raises(write.exceptions.ValidationException, match="BucketName"):
        await write.create_table(
            DatabaseName="keyed",
            TableName=name,
            MagneticStoreWriteProperties={
                "EnableMagneticStoreWrites": True,
                "MagneticStoreRejectedDataLocation": {"S3Configuration": {}},
            },
        )
