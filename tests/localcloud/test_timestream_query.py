"""The query API around SQL: types, pages, tokens, prepared, cancelled and endless queries."""

# ruff: noqa: S608 - queries are put together of constants
from __future__ import annotations

import asyncio
from typing import Any

import duckdb
import pytest
import pytest_asyncio

from localcloud.http import AwsError
from localcloud.timestream.reading import Readers, Work
from localcloud.timestream.store import Store

pytestmark = pytest.mark.asyncio(loop_scope="module")

# Joins itself without a condition: 10^16 rows, which nobody waits for.
ENDLESS = (
    "SELECT count(*) FROM UNNEST(sequence(1, 10000)) AS a(x), UNNEST(sequence(1, 10000)) AS b(x), "
    "UNNEST(sequence(1, 10000)) AS c(x), UNNEST(sequence(1, 10000)) AS d(x) WHERE a.x + b.x + c.x = d.x"
)
FILLER = "array_join(repeat('x', 1000), '')"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def client(cloud):
    write = await cloud.client("timestream-write")
    await write.create_database(DatabaseName="bounds")
    await write.create_table(
        DatabaseName="bounds",
        TableName="readings",
        MagneticStoreWriteProperties={"EnableMagneticStoreWrites": True},
    )
    await write.write_records(
        DatabaseName="bounds",
        TableName="readings",
        CommonAttributes={
            "Dimensions": [{"Name": "device", "Value": "d1"}], "MeasureName": "speed",
        },
        Records=[{"MeasureValue": str(n), "Time": str(1_714_564_800_000 + n)} for n in range(5)],
    )  # fmt: skip
    return await cloud.client("timestream-query")


@pytest.fixture
def engine(cloud, monkeypatch):
    """The engine behind the API, whose patience and timeout a test may shorten."""
    engine = cloud.service("timestream")._queries
    monkeypatch.setattr(engine, "patience_s", engine.patience_s)
    monkeypatch.setattr(engine, "timeout_s", engine.timeout_s)
    return engine


async def works(client: Any) -> bool:
    answer = await client.query(QueryString="SELECT count(*) FROM bounds.readings")
    return answer["Rows"][0]["Data"][0] == {"ScalarValue": "5"}


async def test_columns_have_nested_types(client):
    answer = await client.query(
        QueryString="SELECT ARRAY[ARRAY[1.5]] AS a, CAST(ROW(1, 'x') AS ROW(k BIGINT, v VARCHAR)) AS r, "
        "create_time_series(time, measure_value::double) AS s, 1h AS d, INTERVAL '1' year AS y, "
        "current_time AS t, NULL AS u, zip(ARRAY[1], ARRAY[true]) AS z FROM bounds.readings WHERE "
        "measure_value::double < 1"
    )

    scalar = {
        kind: {"ScalarType": kind} for kind in ("BIGINT", "DOUBLE", "VARCHAR", "INTEGER", "BOOLEAN")
    }
    kinds = {column["Name"]: column["Type"] for column in answer["ColumnInfo"]}
    assert kinds == {
        "a": {"ArrayColumnInfo": {"Type": {"ArrayColumnInfo": {"Type": scalar["DOUBLE"]}}}},
        "r": {"RowColumnInfo": [{"Name": "k", "Type": scalar["BIGINT"]}, {"Name": "v", "Type": scalar["VARCHAR"]}]},
        "s": {"TimeSeriesMeasureValueColumnInfo": {"Type": scalar["DOUBLE"]}},
        "d": {"ScalarType": "INTERVAL_DAY_TO_SECOND"},
        "y": {"ScalarType": "INTERVAL_YEAR_TO_MONTH"},
        "t": {"ScalarType": "TIME"},
        "u": {"ScalarType": "UNKNOWN"},
        "z": {"ArrayColumnInfo": {"Type": {"RowColumnInfo": [{"Type": scalar["INTEGER"]}, {"Type": scalar["BOOLEAN"]}]}}},
    }  # fmt: skip
    assert answer["Rows"][0]["Data"][2] == {
        "TimeSeriesValue": [
            {"Time": "2024-05-01 12:00:00.000000000", "Value": {"ScalarValue": "0.0"}}
        ]
    }


async def test_a_page_has_at_most_a_megabyte_and_all_pages_every_row_once(client):
    sql = f"SELECT u.n, {FILLER} AS filler FROM UNNEST(sequence(1, 3500)) AS u(n) ORDER BY 1"
    numbers: list[int] = []
    pages, token = 0, None
    while True:
        answer = await client.query(QueryString=sql, **({"NextToken": token} if token else {}))
        sizes = [sum(len(datum["ScalarValue"]) for datum in row["Data"]) for row in answer["Rows"]]
        assert sum(sizes) <= 1_000_000
        numbers += [int(row["Data"][0]["ScalarValue"]) for row in answer["Rows"]]
        pages += 1
        token = answer.get("NextToken")
        if not token:
            break

    assert numbers == list(range(1, 3501))
    assert pages == 4
    assert answer["QueryStatus"]["ProgressPercentage"] == 100.0


async def test_a_client_token_gives_the_same_run_and_no_other_query(client):
    token = "t" * 32
    first = await client.query(QueryString="SELECT random()", ClientToken=token)
    again = await client.query(QueryString="SELECT random()", ClientToken=token)
    other = await client.query(QueryString="SELECT random()", ClientToken="u" * 32)

    assert again["QueryId"] == first["QueryId"] != other["QueryId"]
    assert again["Rows"] == first["Rows"] != other["Rows"]
    with pytest.raises(client.exceptions.ConflictException, match="another QueryString"):
        await client.query(QueryString="SELECT 1", ClientToken=token)


async def test_a_query_that_takes_long_is_answered_without_rows_and_can_be_cancelled(
    client, engine
):
    engine.patience_s = 0.05
    first = await client.query(QueryString=ENDLESS)
    assert first["Rows"] == []
    assert first["QueryStatus"]["ProgressPercentage"] == 0.0
    run = engine._runs[first["QueryId"]]

    cancelled = await client.cancel_query(QueryId=first["QueryId"])

    assert cancelled["CancellationMessage"].endswith("has been cancelled.")
    await asyncio.wait({run.task}, timeout=60)
    assert "was cancelled" in str(run.task.exception())
    with pytest.raises(client.exceptions.ValidationException, match="NextToken"):
        await client.query(QueryString=ENDLESS, NextToken=first["NextToken"])
    with pytest.raises(client.exceptions.ValidationException, match="not running"):
        await client.cancel_query(QueryId=first["QueryId"])
    engine.patience_s = 20.0
    assert await works(client)


async def test_the_pages_of_a_query_that_took_long_follow(client, engine):
    sql = (
        "SELECT count(*) FROM UNNEST(sequence(1, 10000)) AS a(x), UNNEST(sequence(1, 10000)) AS b(x) "
        "WHERE a.x * b.x = 7"
    )
    engine.patience_s = 0.0
    answer = await client.query(QueryString=sql)
    assert answer["Rows"] == []
    engine.patience_s = 60.0

    last = await client.query(QueryString=sql, NextToken=answer["NextToken"])

    assert last["QueryId"] == answer["QueryId"]
    assert [row["Data"] for row in last["Rows"]] == [[{"ScalarValue": "2"}]]


async def test_an_endless_query_ends_and_others_are_answered_meanwhile(client, engine):
    engine.timeout_s = 0.5
    endless = asyncio.create_task(client.query(QueryString=ENDLESS))
    assert await works(client)

    with pytest.raises(client.exceptions.QueryExecutionException, match=r"longer than 0\.5 s"):
        await endless
    assert await works(client)


async def test_a_result_without_bounds_is_refused(client, monkeypatch):
    monkeypatch.setattr("localcloud.timestream.reading.RESULT_BYTES", 1_000_000)
    sql = f"SELECT {FILLER} FROM UNNEST(sequence(1, 10000)) AS u(n)"

    with pytest.raises(client.exceptions.ValidationException, match="exceeds 1 MB"):
        await client.query(QueryString=sql)
    assert await works(client)


async def test_a_query_has_no_more_than_its_memory(monkeypatch):
    monkeypatch.setattr("localcloud.timestream.store.MEMORY_LIMIT", "64MB")
    store = Store()
    readers = Readers(store)
    try:
        greedy = (
            "SELECT len(list(x)) FROM (SELECT repeat('x', 99) || i AS x FROM range(5000000) r(i))"
        )
        with pytest.raises(AwsError, match="memory"):
            await readers.run(greedy, [], "", 60.0, Work())
        assert (await readers.run("SELECT 7 AS n", [], "", 60.0, Work())).to_pylist() == [{"n": 7}]
    finally:
        readers.close()
        store.close()


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT * FROM read_csv('/etc/hosts')",
        "SELECT * FROM read_text('/etc/hosts')",
        "SELECT * FROM read_parquet('http://127.0.0.1:1/x.parquet')",
        "SELECT * FROM glob('/etc/*')",
        "SELECT * FROM '/etc/hosts'",
        'SELECT * FROM "/etc/hosts"',
        'SELECT * FROM "bounds"."/etc/hosts"',
        "SELECT read_blob('/etc/hosts')",
        "SELECT getenv('HOME')",
        "SELECT current_setting('memory_limit')",
        "SELECT * FROM duckdb_settings()",
        "SELECT * FROM information_schema.tables",
        "SELECT * FROM table_1",
        "SELECT query('SELECT 1')",
        "SELECT * FROM query('SELECT 1')",
        "COPY bounds.readings TO '/tmp/stolen.csv'",
        "ATTACH '/tmp/stolen.db'",
        "INSTALL httpfs",
        "LOAD httpfs",
        "PRAGMA database_list",
        "SET enable_external_access = true",
        "CALL pragma_version()",
        "SELECT 1; DROP TABLE table_1",
        "SELECT device FROM bounds.readings WHERE device = 'x'; DELETE FROM table_1; --",
    ],
)
async def test_no_query_reaches_files_network_or_the_engine(client, sql):
    with pytest.raises(client.exceptions.ValidationException):
        await client.query(QueryString=sql)
    assert await works(client)


async def test_duckdb_itself_refuses_files_and_keeps_its_settings(cloud):
    with cloud.service("timestream")._store.reader() as reader:
        for sql in (
            "SELECT * FROM read_text('/etc/hosts')", "COPY (SELECT 1) TO '/tmp/stolen.csv'",
            "ATTACH '/tmp/stolen.db' AS stolen", "SET enable_external_access = true",
            "SET memory_limit = '1TB'", "INSTALL httpfs",
        ):  # fmt: skip
            with pytest.raises(duckdb.Error):
                reader.execute(sql)


@pytest.mark.parametrize(
    "text", ["x' OR '1'='1", 'x"; DROP TABLE table_1', "x\\' --", "; SELECT 1", "/* */ '' ''"]
)
async def test_quotes_stay_text(client, text):
    quoted = "'" + text.replace("'", "''") + "'"
    answer = await client.query(
        QueryString=f"SELECT {quoted}, (SELECT count(*) FROM bounds.readings WHERE device = {quoted})"
    )
    assert answer["Rows"][0]["Data"] == [{"ScalarValue": text}, {"ScalarValue": "0"}]


async def test_a_prepared_query_tells_columns_and_parameters_and_is_not_run(client):
    sql = (
        "SELECT device, measure_value::double AS speed, avg(measure_value::double) AS mean, "
        "create_time_series(time, measure_value::double) AS points FROM bounds.readings "
        "WHERE time < @scheduled_runtime AND device = ? AND measure_value::double < @limit "
        "GROUP BY device, measure_value::double"
    )
    answer = await client.prepare_query(QueryString=sql, ValidateOnly=True)

    assert answer["QueryString"] == sql
    assert [(one["Name"], one["Type"], one["Aliased"]) for one in answer["Columns"]] == [
        ("device", {"ScalarType": "VARCHAR"}, False),
        ("speed", {"ScalarType": "DOUBLE"}, True),
        ("mean", {"ScalarType": "DOUBLE"}, True),
        ("points", {"TimeSeriesMeasureValueColumnInfo": {"Type": {"ScalarType": "DOUBLE"}}}, True),
    ]
    first = answer["Columns"][0]
    assert (first["DatabaseName"], first["TableName"]) == ("bounds", "readings")
    assert [(one["Name"], one["Type"]["ScalarType"]) for one in answer["Parameters"]] == [
        ("@scheduled_runtime", "TIMESTAMP"), ("?", "UNKNOWN"), ("@limit", "UNKNOWN"),
    ]  # fmt: skip


async def test_a_query_that_cannot_run_is_not_prepared(client):
    with pytest.raises(client.exceptions.ValidationException, match="Column 'nothing'"):
        await client.prepare_query(
            QueryString="SELECT nothing FROM bounds.readings", ValidateOnly=True
        )
    with pytest.raises(client.exceptions.ValidationException, match="ValidateOnly"):
        await client.prepare_query(QueryString="SELECT 1", ValidateOnly=False)


async def test_insights_tell_what_came_out(client):
    answer = await client.query(
        QueryString="SELECT time FROM bounds.readings",
        QueryInsights={"Mode": "ENABLED_WITH_RATE_CONTROL"},
    )
    assert answer["QueryInsightsResponse"]["OutputRows"] == 5
