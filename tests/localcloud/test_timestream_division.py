"""Division of what is stored: by the types of its operands, as Trino has it."""

# ruff: noqa: S608 - the queries are put together of constants
from __future__ import annotations

import time
from typing import Any

import pytest
import pytest_asyncio

pytestmark = pytest.mark.asyncio(loop_scope="module")

T = '"workshop"."readings"'
# By column: device, x, y, n and zero.
ROWS = [
    ("d1", "1.5", "0.0", "7", "0"),
    ("d2", "-1.0", "0.0", "8", "0"),
    ("d3", "0.0", "0.0", "9", "0"),
]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def client(cloud):
    write = await cloud.client("timestream-write")
    await write.create_database(DatabaseName="workshop")
    await write.create_table(DatabaseName="workshop", TableName="readings")
    kinds = {"x": "DOUBLE", "y": "DOUBLE", "n": "BIGINT", "zero": "BIGINT"}
    await write.write_records(
        DatabaseName="workshop",
        TableName="readings",
        CommonAttributes={
            "Time": str(int(time.time() * 1000)),
            "MeasureName": "m",
            "MeasureValueType": "MULTI",
        },
        Records=[
            {
                "Dimensions": [{"Name": "device", "Value": device}],
                "MeasureValues": [
                    {"Name": name, "Type": kinds[name], "Value": value}
                    for name, value in zip(kinds, values, strict=True)
                ],
            }
            for device, *values in ROWS
        ],
    )
    return await cloud.client("timestream-query")


async def asked(client: Any, sql: str) -> list[tuple[str | None, ...]]:
    rows = (await client.query(QueryString=sql))["Rows"]
    return [tuple(datum.get("ScalarValue") for datum in row["Data"]) for row in rows]


@pytest.mark.parametrize(
    ("sql", "must"),
    [
        (f"SELECT x / y, x / zero, n / y FROM {T} ORDER BY device",
         [("Infinity", "Infinity", "Infinity"), ("-Infinity", "-Infinity", "Infinity"),
          ("NaN", "NaN", "Infinity")]),
        (f"SELECT n / 2, n % 4, n / 2.0 FROM {T} ORDER BY device",
         [("3", "3", "3.5"), ("4", "0", "4.0"), ("4", "1", "4.5")]),
        (f"SELECT x % y, mod(x, zero) FROM {T} WHERE device = 'd1'", [("NaN", "NaN")]),
        # NaN sorts behind Infinity.
        (f"SELECT device FROM {T} ORDER BY x / y", [("d2",), ("d1",), ("d3",)]),
        (f"SELECT device FROM {T} ORDER BY x / y DESC", [("d3",), ("d1",), ("d2",)]),
        (f"SELECT x / y, count(*) FROM {T} GROUP BY x / y HAVING x / y < 0", [("-Infinity", "1")]),
        (f"SELECT sum(x / y), min(x / y), count(x / y) FROM {T}", [("NaN", "-Infinity", "3")]),
        (f"SELECT sum(x / y), avg(x / y), max(x / y) FROM {T} WHERE x > 0",
         [("Infinity", "Infinity", "Infinity")]),
        (f"SELECT sum(x) / count(*), avg(x) / 0, sum(n) / 0.0, sum(n) / 5, sum(n) / count(*) FROM {T}",
         [("0.16666666666666666", "Infinity", "Infinity", "4", "8")]),
        (f"SELECT sum(x) OVER () / zero, n / sum(n) OVER () FROM {T} WHERE device = 'd1'", [("Infinity", "1")]),
        (f"SELECT (SELECT max(x) FROM {T}) / 0, (SELECT max(n) FROM {T}) / 2", [("Infinity", "4")]),
        (f"SELECT device FROM {T} WHERE is_nan(x / y)", [("d3",)]),
        (f"SELECT count_if(is_infinite(x / y)), count_if(is_finite(x / y)) FROM {T}", [("2", "0")]),
        (f"SELECT try(n / zero), try(n % zero), try(x / zero) FROM {T} WHERE device = 'd2'",
         [(None, None, "-Infinity")]),
        (f"SELECT n * 68428800 / 1 / 2 / 3 / 4 / 5 / 6 / 7 / 8 / 9 / 10 / 11 / 12 FROM {T} WHERE n = 7",
         [("1",)]),
        (f"SELECT x / (1 + 1 / (1 + 1 / (1 + 1 / (1 + x)))) FROM {T} WHERE device = 'd3'", [("0.0",)]),
        ("SELECT r.q / 0 FROM (SELECT CAST(ROW(2.5) AS ROW(q DOUBLE)) AS r)", [("Infinity",)]),
    ],
)  # fmt: skip
async def test_a_double_divided_by_zero_is_infinite_or_no_number(client, sql, must):
    assert await asked(client, sql) == must


@pytest.mark.parametrize(
    "expression",
    ["n / zero", "n / 0", "n % zero", "mod(n, 0)", "sum(n) / sum(zero)", "count(*) / 0", "max(n / 2 / zero)"],
)  # fmt: skip
async def test_a_whole_number_divided_by_zero_is_an_error(client, expression):
    with pytest.raises(client.exceptions.ValidationException, match=r"\bDivision by zero$"):
        await client.query(QueryString=f"SELECT {expression} FROM {T}")


async def test_the_type_of_a_quotient_is_told_without_its_rows(client):
    sql = f"SELECT n / 2 AS a, x / 2 AS b, n / x AS c FROM {T}"
    columns = (await client.prepare_query(QueryString=sql, ValidateOnly=True))["Columns"]

    assert [one["Type"]["ScalarType"] for one in columns] == ["BIGINT", "DOUBLE", "DOUBLE"]
