from __future__ import annotations

import re
import time
from typing import Any

import pytest
import pytest_asyncio
from botocore.exceptions import ClientError

pytestmark = pytest.mark.asyncio(loop_scope="module")

START_MS = 1_714_564_800_000  # 2024-05-01 12:00:00 UTC
# (device, site, seconds after the start, speed, n, state)
ROWS = [
    ("d1", "north", 0, 10.0, 1, "ok"),
    ("d1", "north", 30, 20.5, 2, None),
    ("d1", "north", 60, 30.0, 3, "ok"),
    ("d2", "south", 0, 5.0, 4, "ok"),
    ("d2", "south", 90, 15.0, 5, "hot"),
    ("d3", "south", 3600, 0.25, 6, None),
]


def record(device: str, site: str, second: int, measures: dict[str, Any]) -> dict[str, Any]:
    kinds = {float: "DOUBLE", int: "BIGINT", str: "VARCHAR", bool: "BOOLEAN"}
    return {
        "Dimensions": [{"Name": "device", "Value": device}, {"Name": "site", "Value": site}],
        "Time": str(START_MS + second * 1000),
        "MeasureName": "reading",
        "MeasureValueType": "MULTI",
        "MeasureValues": [
            {"Name": name, "Type": kinds[type(value)], "Value": str(value)}
            for name, value in measures.items()
            if value is not None
        ],
    }


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def planted(cloud):
    write = await cloud.client("timestream-write")
    await write.create_database(DatabaseName="fleet")
    magnetic = {"EnableMagneticStoreWrites": True}
    for table in ("readings", "singles", "recent", "empty"):
        await write.create_table(
            DatabaseName="fleet", TableName=table, MagneticStoreWriteProperties=magnetic
        )
    await write.write_records(
        DatabaseName="fleet",
        TableName="readings",
        Records=[
            record(device, site, second, {"speed": speed, "n": n, "state": state, "on": n < 4})
            for device, site, second, speed, n, state in ROWS
        ],
    )
    await write.write_records(
        DatabaseName="fleet",
        TableName="singles",
        CommonAttributes={"Dimensions": [{"Name": "host", "Value": "h1"}], "Time": str(START_MS)},
        Records=[
            {"MeasureName": "cpu", "MeasureValue": "12.5"},
            {"MeasureName": "disk", "MeasureValue": "7", "MeasureValueType": "BIGINT"},
            {"MeasureName": "mode", "MeasureValue": "eco", "MeasureValueType": "VARCHAR"},
        ],
    )
    now_ms = int(time.time() * 1000)
    await write.write_records(
        DatabaseName="fleet",
        TableName="recent",
        CommonAttributes={"Dimensions": [{"Name": "device", "Value": "d1"}]},
        Records=[
            {"MeasureName": "age", "MeasureValue": str(m), "Time": str(now_ms - m * 60_000)}
            for m in (1, 30, 90, 3000)
        ],
    )
    return await cloud.client("timestream-query")


@pytest_asyncio.fixture(loop_scope="module")
async def rows_of(planted):
    async def run(sql: str) -> list[tuple[str | None, ...]]:
        answer = await planted.query(QueryString=sql)
        return [tuple(d.get("ScalarValue") for d in row["Data"]) for row in answer["Rows"]]

    return run


def at(text: str) -> str:
    return f"2024-05-01 {text}.000000000"


QUERIES: list[tuple[str, list[tuple[str | None, ...]]]] = [
    # Aggregates
    ('SELECT count(*) FROM "fleet"."readings"', [("6",)]),
    ("SELECT count(state) FROM fleet.readings", [("4",)]),
    ("SELECT count(DISTINCT device) FROM fleet.readings", [("3",)]),
    ("SELECT sum(n), avg(n), min(n), max(n) FROM fleet.readings", [("21", "3.5", "1", "6")]),
    ("SELECT sum(speed), avg(speed) FROM fleet.readings WHERE site = 'north'", [("60.5", "20.166666666666668")]),
    ("SELECT min(time), max(time) FROM fleet.readings", [(at("12:00:00"), at("13:00:00"))]),
    ("SELECT sum(n) FROM fleet.readings WHERE device = 'nobody'", [(None,)]),
    ("SELECT count_if(speed > 10), bool_and(n > 0), bool_or(n > 6) FROM fleet.readings", [("3", "true", "false")]),
    ("SELECT max_by(device, speed), min_by(device, speed) FROM fleet.readings", [("d1", "d3")]),
    ("SELECT count(*) FILTER (WHERE state = 'ok') FROM fleet.readings", [("3",)]),
    ("SELECT stddev_pop(n), var_samp(n) FROM fleet.readings WHERE n IN (1, 3)", [("1.0", "2.0")]),
    ("SELECT approx_distinct(device) FROM fleet.readings", [("3",)]),
    ("SELECT approx_percentile(n, 0.5) FROM fleet.readings WHERE n < 6", [("3",)]),
    ("SELECT approx_percentile(speed, 1.0) FROM fleet.readings", [("30.0",)]),
    # Grouping
    ("SELECT device, count(*) FROM fleet.readings GROUP BY device ORDER BY device",
     [("d1", "3"), ("d2", "2"), ("d3", "1")]),
    ("SELECT site, sum(n) AS total FROM fleet.readings GROUP BY 1 ORDER BY total DESC",
     [("south", "15"), ("north", "6")]),
    ("SELECT device FROM fleet.readings GROUP BY device HAVING max(speed) > 12 ORDER BY 1", [("d1",), ("d2",)]),
    ("SELECT site, device, max(n) FROM fleet.readings GROUP BY site, device ORDER BY site, device DESC",
     [("north", "d1", "3"), ("south", "d3", "6"), ("south", "d2", "5")]),
    ("SELECT state, count(*) FROM fleet.readings GROUP BY state ORDER BY state",
     [("hot", "1"), ("ok", "3"), (None, "2")]),
    ("SELECT DISTINCT site FROM fleet.readings ORDER BY site", [("north",), ("south",)]),
    # Time
    ("SELECT bin(time, 1m) AS minute, count(*) FROM fleet.readings GROUP BY 1 ORDER BY 1",
     [(at("12:00:00"), "3"), (at("12:01:00"), "2"), (at("13:00:00"), "1")]),
    ("SELECT bin(time, 1h), avg(speed) FROM fleet.readings GROUP BY bin(time, 1h) ORDER BY 1",
     [(at("12:00:00"), "16.1"), (at("13:00:00"), "0.25")]),
    ("SELECT bin(time, 40s) FROM fleet.readings WHERE n = 5", [(at("12:01:20"),)]),
    ("SELECT n FROM fleet.readings WHERE time > from_milliseconds(1714564860000) ORDER BY n", [("5",), ("6",)]),
    ("SELECT n FROM fleet.readings WHERE time BETWEEN '2024-05-01 12:00:10' AND '2024-05-01 12:01:00' ORDER BY n",
     [("2",), ("3",)]),
    ("SELECT n FROM fleet.readings WHERE time >= TIMESTAMP '2024-05-01 12:01:30' ORDER BY n", [("5",), ("6",)]),
    ("SELECT time - 5m, time + 1ms FROM fleet.readings WHERE n = 1",
     [("2024-05-01 11:55:00.000000000", "2024-05-01 12:00:00.001000000")]),
    ("SELECT to_milliseconds(time), to_nanoseconds(time) FROM fleet.readings WHERE n = 2",
     [(str(START_MS + 30_000), str((START_MS + 30_000) * 10**6))]),
    ("SELECT date_trunc('hour', time), date_diff('second', min(time), max(time)) FROM fleet.readings WHERE site = 'south' GROUP BY 1 ORDER BY 1",
     [(at("12:00:00"), "90"), (at("13:00:00"), "0")]),
    ("SELECT year(time), month(time), day(time), hour(time), minute(time), second(time) FROM fleet.readings WHERE n = 5",
     [("2024", "5", "1", "12", "1", "30")]),
    ('SELECT count(*) FROM "fleet"."recent" WHERE time > ago(1h)', [("2",)]),
    ('SELECT count(*) FROM "fleet"."recent" WHERE time BETWEEN ago(2h) AND now() - 10m', [("2",)]),
    ('SELECT count(*) FROM "fleet"."recent" WHERE time < ago(1d)', [("1",)]),
    # Order and limits
    ("SELECT n FROM fleet.readings ORDER BY speed DESC LIMIT 2", [("3",), ("2",)]),
    ("SELECT n FROM fleet.readings ORDER BY n OFFSET 4", [("5",), ("6",)]),
    ("SELECT state, n FROM fleet.readings ORDER BY state DESC, n DESC LIMIT 5",
     [("ok", "4"), ("ok", "3"), ("ok", "1"), ("hot", "5"), (None, "6")]),
    # Expressions
    ("SELECT n, CASE WHEN speed >= 20 THEN 'fast' WHEN speed >= 10 THEN 'fair' ELSE 'slow' END FROM fleet.readings WHERE n > 2 ORDER BY n",
     [("3", "fast"), ("4", "slow"), ("5", "fair"), ("6", "slow")]),
    ("SELECT if(n > 5, 'late', 'early'), coalesce(state, 'none'), nullif(n, 6) FROM fleet.readings WHERE n = 6",
     [("late", "none", None)]),
    ("SELECT n / 2, n / 2.0, -n / 2, mod(n, 2), n % 3 FROM fleet.readings WHERE n = 5", [("2", "2.5", "-2", "1", "2")]),
    ("SELECT sum(n) / count(*), sum(speed) / count(*) FROM fleet.readings WHERE site = 'south'", [("5", "6.75")]),
    ("SELECT round(avg(speed), 2), floor(20.5), ceil(20.5), abs(-3), sqrt(16.0), power(2, 10) FROM fleet.readings",
     [("13.46", "20.0", "21.0", "3", "4.0", "1024.0")]),
    ("SELECT greatest(n, 4), least(n, 4) FROM fleet.readings WHERE n IN (3, 5) ORDER BY n", [("4", "3"), ("5", "4")]),
    ("SELECT greatest(state, 'a'), concat(state, '!') FROM fleet.readings WHERE n = 2", [(None, None)]),
    ("SELECT device || '/' || site, upper(site), length(site), substr(site, 1, 3) FROM fleet.readings WHERE n = 1",
     [("d1/north", "NORTH", "5", "nor")]),
    ("SELECT n FROM fleet.readings WHERE state LIKE 'h%' OR regexp_like(device, '^d[3-9]$') ORDER BY n", [("5",), ("6",)]),
    ("SELECT n FROM fleet.readings WHERE state IS NULL AND NOT device = 'd3'", [("2",)]),
    ("SELECT CAST(n AS varchar), CAST('42' AS bigint), CAST(n AS double) FROM fleet.readings WHERE n = 4",
     [("4", "42", "4.0")]),
    ("SELECT 1e10, 1.0e-5, 123456.75, 1e7, true, NULL, DATE '2024-05-01'",
     [("1.0E10", "1.0E-5", "123456.75", "1.0E7", "true", None, "2024-05-01")]),
    ('SELECT "on", count(*) FROM fleet.readings GROUP BY "on" ORDER BY 2, 1', [("false", "3"), ("true", "3")]),
    ("SELECT '5m', '1h -- ago(1d)' -- 5m is not a duration in a string", [("5m", "1h -- ago(1d)")]),
    # One measure in a record
    ("SELECT measure_name, measure_value::double FROM fleet.singles WHERE measure_name = 'cpu'", [("cpu", "12.5")]),
    ("SELECT max(measure_value::bigint), max(measure_value::varchar) FROM fleet.singles", [("7", "eco")]),
    ("SELECT s.measure_value::bigint FROM fleet.singles s WHERE s.host = 'h1' AND s.measure_name = 'disk'", [("7",)]),
    # CTEs, joins, subqueries, sets, windows
    ("WITH totals AS (SELECT device, sum(n) AS total FROM fleet.readings GROUP BY device) SELECT max(total) FROM totals",
     [("9",)]),
    ("WITH a AS (SELECT device, n FROM fleet.readings), b AS (SELECT device, max(n) AS m FROM a GROUP BY device) SELECT a.device, a.n FROM a JOIN b ON a.device = b.device AND a.n = b.m ORDER BY 1",
     [("d1", "3"), ("d2", "5"), ("d3", "6")]),
    ("SELECT x.n, y.n FROM fleet.readings x INNER JOIN fleet.readings y ON y.n = x.n + 4 ORDER BY 1", [("1", "5"), ("2", "6")]),
    ("SELECT x.n, y.n FROM fleet.readings x LEFT JOIN fleet.readings y ON y.n = x.n + 5 ORDER BY 1 LIMIT 2", [("1", "6"), ("2", None)]),
    ("SELECT n FROM fleet.readings WHERE speed > (SELECT avg(speed) FROM fleet.readings) ORDER BY n", [("2",), ("3",), ("5",)]),
    ("SELECT n FROM fleet.readings WHERE device IN (SELECT device FROM fleet.readings WHERE state = 'hot') ORDER BY n", [("4",), ("5",)]),
    ("SELECT x.n FROM fleet.readings x WHERE NOT EXISTS (SELECT 1 FROM fleet.readings y WHERE y.n > x.n)", [("6",)]),
    ("SELECT top.device FROM (SELECT device, count(*) AS c FROM fleet.readings GROUP BY device) top WHERE top.c = 2", [("d2",)]),
    ("SELECT device FROM fleet.readings WHERE n = 1 UNION ALL SELECT site FROM fleet.readings WHERE n = 4 ORDER BY 1", [("d1",), ("south",)]),
    ("SELECT n, lag(n) OVER (PARTITION BY device ORDER BY time), row_number() OVER (PARTITION BY device ORDER BY time) FROM fleet.readings WHERE n < 5 ORDER BY n",
     [("1", None, "1"), ("2", "1", "2"), ("3", "2", "3"), ("4", None, "1")]),
    # What there is
    ("SHOW DATABASES", [("fleet",)]),
    ('SHOW TABLES FROM "fleet"', [("empty",), ("readings",), ("recent",), ("singles",)]),
    ("SHOW TABLES FROM fleet LIKE 're%'", [("readings",), ("recent",)]),
    ("SHOW MEASURES FROM fleet.singles", [("cpu", "double", None), ("disk", "bigint", None), ("mode", "varchar", None)]),
    ("SHOW MEASURES FROM fleet.readings", [("reading", "multi", None)]),
    ("DESCRIBE fleet.readings",
     [("time", "timestamp", "TIMESTAMP"), ("measure_name", "varchar", "MEASURE_NAME"),
      ("device", "varchar", "DIMENSION"), ("site", "varchar", "DIMENSION"),
      ("speed", "double", "MEASURE_VALUE"), ("n", "bigint", "MEASURE_VALUE"),
      ("state", "varchar", "MEASURE_VALUE"), ("on", "boolean", "MEASURE_VALUE")]),
    ('SELECT count(*) FROM "fleet"."empty"', [("0",)]),
    ("SELECT * FROM fleet.readings WHERE n = 2",
     [(at("12:00:30"), "reading", "d1", "north", "20.5", "2", None, "true")]),
]  # fmt: skip


@pytest.mark.parametrize(("sql", "expected"), QUERIES)
async def test_a_query_answers_exactly(rows_of, sql, expected):
    assert await rows_of(sql) == expected


async def test_columns_have_names_and_scalar_types(planted):
    answer = await planted.query(
        QueryString="SELECT time, device, avg(speed), n AS number, n > 1 AS more FROM fleet.readings "
        "GROUP BY time, device, n ORDER BY n LIMIT 1"
    )

    assert [(c["Name"], c["Type"]["ScalarType"]) for c in answer["ColumnInfo"]] == [
        ("time", "TIMESTAMP"),
        ("device", "VARCHAR"),
        ("_col2", "DOUBLE"),
        ("number", "BIGINT"),
        ("more", "BOOLEAN"),
    ]


async def test_pages_hold_max_rows_and_cover_the_result_once(planted):
    sql = "SELECT n FROM fleet.readings ORDER BY n"
    pages, token = [], None
    while True:
        more = {"NextToken": token} if token else {}
        answer = await planted.query(QueryString=sql, MaxRows=4, **more)
        pages.append([row["Data"][0]["ScalarValue"] for row in answer["Rows"]])
        token = answer.get("NextToken")
        if token is None:
            break

    assert pages == [["1", "2", "3", "4"], ["5", "6"]]
    assert answer["QueryStatus"]["ProgressPercentage"] == 100.0


async def test_pages_are_of_the_moment_of_the_query(cloud, planted):
    write = await cloud.client("timestream-write")
    await write.create_table(
        DatabaseName="fleet",
        TableName="growing",
        MagneticStoreWriteProperties={"EnableMagneticStoreWrites": True},
    )

    async def grow(*numbers: int) -> None:
        await write.write_records(
            DatabaseName="fleet",
            TableName="growing",
            Records=[record("d1", "x", n, {"n": n}) for n in numbers],
        )

    sql = 'SELECT n FROM "fleet"."growing" ORDER BY n DESC'
    await grow(1, 2)
    first = await planted.query(QueryString=sql, MaxRows=1)
    await grow(3)
    second = await planted.query(QueryString=sql, MaxRows=1, NextToken=first["NextToken"])
    await write.delete_table(DatabaseName="fleet", TableName="growing")

    assert [row["Data"][0]["ScalarValue"] for row in (*first["Rows"], *second["Rows"])] == [
        "2",
        "1",
    ]
    assert "NextToken" not in second


async def test_a_token_of_another_query_is_refused(planted):
    answer = await planted.query(QueryString="SELECT n FROM fleet.readings", MaxRows=1)

    with pytest.raises(planted.exceptions.ValidationException, match="another QueryString"):
        await planted.query(
            QueryString="SELECT 1 FROM fleet.readings", NextToken=answer["NextToken"]
        )


async def test_a_cancelled_query_has_no_further_page(planted):
    sql = "SELECT n FROM fleet.readings"
    answer = await planted.query(QueryString=sql, MaxRows=1)
    await planted.cancel_query(QueryId=answer["QueryId"])

    with pytest.raises(planted.exceptions.ValidationException, match="NextToken"):
        await planted.query(QueryString=sql, NextToken=answer["NextToken"])


@pytest.mark.parametrize(
    ("sql", "message"),
    [
        ("DELETE FROM fleet.readings", "statement DELETE"),
        ("DROP TABLE fleet.readings", "statement DROP"),
        ("INSERT INTO fleet.readings SELECT * FROM fleet.readings", "statement INSERT"),
        ("EXPLAIN SELECT n FROM fleet.readings", "statement EXPLAIN"),
        ("SET threads = 1", "statement SET"),
        ("SELECT read_text('/etc/hosts')", "function read_text"),
        ("SELECT * FROM read_csv('/etc/hosts')", "table function READ_CSV"),
        ("SELECT * FROM '/etc/hosts'", "has no database"),
        ("SELECT * FROM UNNEST(ARRAY[1, 2])", "line 1:15: UNNEST without a name for each column"),
        (
            "SELECT count(*) FROM (SELECT ARRAY[1] AS l) CROSS JOIN UNNEST(l)",
            "line 1:56: UNNEST without names of columns takes a time series or an array of rows",
        ),
        ("SELECT CAST('1.5' AS bigint)", "Cannot cast '1.5' to bigint"),
        ("SELECT CAST('1_0' || '?' AS integer)", "Cannot cast '1_0?' to integer"),
        ("SELECT CAST('yes' AS boolean)", "Cannot cast 'yes' to boolean"),
        ("SELECT n FROM fleet.readings TABLESAMPLE BERNOULLI (10)", "TABLESAMPLE"),
        ("SELECT 1h,\n foo(2m, 3)", "line 2:2: function foo is not supported"),
        ("SELECT abs(1, 2)", "line 1:8: function abs does not take 2 arguments"),
        (
            "SELECT abs('x' || n) FROM fleet.readings",
            "line 1:8: Unexpected parameters (varchar) for function abs",
        ),
        ("SELECT now() AT TIME ZONE 'UTC'", "line 1:14: AT TIME ZONE"),
        ("SELECT n FROM fleet.readings WHERE n = @limit", "line 1:40: a parameter limit"),
        (
            "SELECT device, count(*) FROM fleet.readings",
            "line 1:8: 'device' must be an aggregate expression or appear in GROUP BY clause",
        ),
        (
            "SELECT date_trunc('eon', time) FROM fleet.readings",
            "'eon' is not a valid TIMESTAMP field",
        ),
        ("SELECT skewness(n) OVER () FROM fleet.readings", "OVER of skewness"),
        ("SELECT sequence(1, 10001)", "must not have more than 10000 entries"),
        ("SELECT ARRAY[1][2]", "Array subscript out of bounds: 2"),
        ("SELECT __double_text(1.0)", "function __double_text"),
        ("UNLOAD (SELECT 1) TO 's3://b'", "line 1:"),
        ("SELECT CAST(1 AS decimal(3, 1))", "type decimal(3, 1)"),
        ("SELECT measure_value FROM fleet.singles", "measure_value without ::type"),
        ("SELECT 1; SELECT 2", "exactly one statement"),
        ("SELEC 1", "line 1:7"),
        ("SELECT nothing FROM fleet.readings", "line 1:8: Column 'nothing' does not exist"),
        ("SELECT bin(now(), foo)", "line 1:19: Column 'foo' does not exist"),
        ('SELECT 1 FROM "fleet"."nothing"', "Table 'fleet.nothing' does not exist"),
        ('SELECT 1 FROM "nothing"."readings"', "Database 'nothing' does not exist"),
        ("SELECT 1 FROM readings", "has no database"),
        ("SELECT ago(1h, 2h, 3h) + bin(1)", "function bin does not take 1 arguments"),
        ("SELECT 1 / 0", "Division by zero"),
    ],
)
async def test_what_is_not_served_is_refused_by_name(planted, sql, message):
    with pytest.raises(planted.exceptions.ValidationException, match=re.escape(message)):
        await planted.query(QueryString=sql)


async def test_rows_of_a_page_are_bounded(planted):
    with pytest.raises(ClientError, match="less than or equal to 1000"):
        await planted.query(QueryString="SELECT 1", MaxRows=1001)
