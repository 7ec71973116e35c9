"""docs/timestream-sql.md is true: each row of its tables is run, or refused by name."""

# ruff: noqa: S608 - the queries of the corpus are put together of constants
from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from localcloud.timestream import times
from localcloud.timestream.functions import FUNCTIONS as SERVED
from tests.localcloud.timestream_corpus import SCALARS, Series

pytestmark = pytest.mark.asyncio(loop_scope="module")

PAGE = (Path(__file__).parents[2] / "docs" / "timestream-sql.md").read_text(encoding="utf-8")
STATEMENTS, FUNCTIONS = PAGE.split("## Types")
ROW = re.compile(r"^\| `((?:\\\||[^`])+)` \| (yes|no) \|", re.MULTILINE)


def rows_of(part: str, answer: str) -> list[str]:
    return [name.replace("\\|", "|") for name, told in ROW.findall(part) if told == answer]


T = "(VALUES (1, 'a'), (2, 'a'), (3, 'b')) AS t(n, k)"
# What stands for each construct of the first table, with its rows by hand.
CONSTRUCTS: dict[str, list[tuple[str, list[tuple[Any, ...]]]]] = {
    "SELECT": [
        (f"SELECT DISTINCT k FROM {T} ORDER BY k DESC", [("b",), ("a",)]),
        (f"SELECT k, sum(n) FROM {T} WHERE n < 4 GROUP BY k HAVING count(*) > 1", [("a", "3")]),
        (f"SELECT n FROM {T} ORDER BY n OFFSET 1 LIMIT 1", [("2",)]),
        (f"SELECT n FROM {T} ORDER BY n DESC FETCH FIRST 2 ROWS ONLY", [("3",), ("2",)]),
    ],
    "WITH": [(f"WITH a AS (SELECT n FROM {T}), b AS (SELECT max(n) AS m FROM a) SELECT m FROM b", [("3",)])],
    "JOIN": [
        (f"SELECT t.n, u.w FROM {T} JOIN (VALUES ('b', 9)) AS u(k, w) ON t.k = u.k", [("3", "9")]),
        (f"SELECT t.n, u.w FROM {T} LEFT JOIN (VALUES ('b', 9)) AS u(k, w) ON t.k = u.k ORDER BY 1",
         [("1", None), ("2", None), ("3", "9")]),
        (f"SELECT t.n, u.w FROM {T} RIGHT JOIN (VALUES ('c', 9)) AS u(k, w) ON t.k = u.k", [(None, "9")]),
        (f"SELECT count(*) FROM {T} FULL JOIN (VALUES ('c', 9)) AS u(k, w) ON t.k = u.k", [("4",)]),
        (f"SELECT count(*) FROM {T} CROSS JOIN (VALUES 1, 2) AS u(w)", [("6",)]),
    ],
    "UNION": [
        ("SELECT 1 UNION SELECT 1 UNION ALL SELECT 2 ORDER BY 1", [("1",), ("2",)]),
        ("SELECT 1 INTERSECT SELECT 2", []),
        (f"SELECT k FROM {T} EXCEPT SELECT 'a'", [("b",)]),
    ],
    "OVER": [
        (f"SELECT n, sum(n) OVER (ORDER BY n ROWS BETWEEN 1 PRECEDING AND CURRENT ROW) FROM {T} ORDER BY 1",
         [("1", "1"), ("2", "3"), ("3", "5")]),
        (f"SELECT max(n) OVER w FROM {T} WINDOW w AS (PARTITION BY k) ORDER BY n", [("2",), ("2",), ("3",)]),
        ("SELECT last_value(c) IGNORE NULLS OVER (ORDER BY n) FROM (VALUES (1, 5), (2, NULL)) AS t(n, c)",
         [("5",), ("5",)]),
    ],
    "FILTER": [(f"SELECT sum(n) FILTER (WHERE k = 'a'), count(*) FROM {T}", [("3", "3")])],
    "GROUPING SETS": [
        (f"SELECT k, sum(n) FROM {T} GROUP BY GROUPING SETS ((k), ()) ORDER BY 2, 1", [("a", "3"), ("b", "3"), (None, "6")]),
        (f"SELECT k, sum(n) FROM {T} WHERE k = 'a' GROUP BY ROLLUP (k) ORDER BY 1", [("a", "3"), (None, "3")]),
        (f"SELECT count(*) FROM (SELECT k FROM {T} GROUP BY CUBE (k, n)) AS c", [("9",)]),
    ],
    "VALUES": [("VALUES (1, 'a'), (2, 'b')", [("1", "a"), ("2", "b")])],
    "UNNEST": [
        ("SELECT u.x FROM UNNEST(ARRAY[3, 4]) AS u(x)", [("3",), ("4",)]),
        (("SELECT v.n, u.x, u.o FROM (VALUES (1, ARRAY['p', 'q']), (2, ARRAY['r'])) AS v(n, l) "
         "CROSS JOIN UNNEST(v.l) WITH ORDINALITY AS u(x, o) ORDER BY 1, 3"),
         [("1", "p", "1"), ("1", "q", "2"), ("2", "r", "1")]),
        ("SELECT u.x, u.y FROM UNNEST(ARRAY[1, 2], ARRAY['p']) AS u(x, y)", [("1", "p"), ("2", None)]),
        (("WITH a AS (SELECT create_time_series(t, x) AS s FROM (VALUES (from_milliseconds(1), 1.5), "
          "(from_milliseconds(2), 2.5)) AS v(t, x)) SELECT to_milliseconds(time), round(value) FROM a "
          "CROSS JOIN UNNEST(s) AS u WHERE u.value < 2"), [("1", "2.0")]),
        ("SELECT u.x, u.y FROM UNNEST(ARRAY[ROW(1, 'p'), ROW(2, 'q')]) AS u(x, y)", [("1", "p"), ("2", "q")]),
        (("WITH s AS (SELECT k, create_time_series(from_nanoseconds(n), n) AS ts "
         f"FROM {T} GROUP BY k) SELECT s.k, u.time, u.value FROM s CROSS JOIN UNNEST(s.ts) AS u(time, value) "
         "WHERE u.value > 1 ORDER BY 3"),
         [("a", "1970-01-01 00:00:00.000000002", "2"), ("b", "1970-01-01 00:00:00.000000003", "3")]),
    ],
    "SHOW DATABASES": [("SHOW DATABASES LIKE 'pl%'", [("plant",)])],
    "SHOW TABLES": [('SHOW TABLES FROM "plant" LIKE \'%dings\'', [("readings",)])],
    "SHOW MEASURES": [
        ('SHOW MEASURES FROM "plant"."readings"',
         [("speed", "double", [("device", "varchar")]), ("state", "multi", [("device", "varchar"), ("site", "varchar")])]),
    ],
    "DESCRIBE": [
        ("DESCRIBE plant.readings",
         [("time", "timestamp", "TIMESTAMP"), ("measure_name", "varchar", "MEASURE_NAME"),
          ("device", "varchar", "DIMENSION"), ("measure_value::double", "double", "MEASURE_VALUE"),
          ("site", "varchar", "DIMENSION"), ("ok", "boolean", "MEASURE_VALUE")]),
    ],
}  # fmt: skip
REFUSED = {
    "INSERT": "INSERT INTO plant.readings SELECT 1",
    "EXPLAIN": "EXPLAIN SELECT 1",
    "TABLESAMPLE": "SELECT * FROM plant.readings TABLESAMPLE BERNOULLI (10)",
    "AT TIME ZONE": "SELECT now() AT TIME ZONE 'UTC'",
}


def _query(expression: str) -> str:
    """The statement for an expression of the corpus; a window function's rows become an array."""
    what, _, source = expression.partition("|(")
    if "OVER (ORDER BY t.c)" in what:
        return f"SELECT array_agg(w.x ORDER BY w.c, w.x) FROM (SELECT t.c, {what} AS x FROM ({source}) AS w"
    return f"SELECT {what} FROM ({source}" if source else f"SELECT {what}"


def plain(datum: dict[str, Any]) -> Any:
    if datum.get("NullValue"):
        return None
    if "ArrayValue" in datum:
        return [plain(one) for one in datum["ArrayValue"]]
    if "RowValue" in datum:
        return tuple(plain(one) for one in datum["RowValue"]["Data"])
    if "TimeSeriesValue" in datum:
        return Series([(one["Time"], plain(one["Value"])) for one in datum["TimeSeriesValue"]])
    return datum["ScalarValue"]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def client(cloud):
    write = await cloud.client("timestream-write")
    await write.create_database(DatabaseName="plant")
    await write.create_table(
        DatabaseName="plant",
        TableName="readings",
        MagneticStoreWriteProperties={"EnableMagneticStoreWrites": True},
    )
    device = {"Name": "device", "Value": "d1"}
    await write.write_records(
        DatabaseName="plant",
        TableName="readings",
        CommonAttributes={"Time": "1714564800000"},
        Records=[
            {"Dimensions": [device], "MeasureName": "speed", "MeasureValue": "1.5"},
            {
                "Dimensions": [device, {"Name": "site", "Value": "s"}],
                "MeasureName": "state",
                "MeasureValueType": "MULTI",
                "MeasureValues": [{"Name": "ok", "Type": "BOOLEAN", "Value": "true"}],
            },
        ],
    )
    return await cloud.client("timestream-query")


async def asked(client: Any, sql: str) -> list[tuple[Any, ...]]:
    answer = await client.query(QueryString=sql)
    return [tuple(plain(datum) for datum in row["Data"]) for row in answer["Rows"]]


CASES = [(name, case, must) for name, cases in SCALARS.items() for case, must in cases]


@pytest.mark.parametrize(("name", "case", "must"), CASES)
async def test_a_function_answers_what_was_worked_out(client, name, case, must):
    [[got]] = await asked(client, _query(case))

    if isinstance(must, float):
        assert math.isclose(float(got), must, rel_tol=1e-12, abs_tol=1e-9), name
    else:
        assert (type(got), got) == (type(must), must)


@pytest.mark.parametrize(("sql", "must"), [case for cases in CONSTRUCTS.values() for case in cases])
async def test_a_construct_answers_what_was_worked_out(client, sql, must):
    assert await asked(client, sql) == must


@pytest.mark.parametrize("construct", rows_of(STATEMENTS, "no"))
async def test_a_construct_that_is_not_served_is_refused_by_name(client, construct):
    with pytest.raises(client.exceptions.ValidationException, match=rf"line 1:\d+: .*{construct}"):
        await client.query(QueryString=REFUSED[construct])


@pytest.mark.parametrize("function", rows_of(FUNCTIONS, "no"))
async def test_a_function_that_is_not_served_is_refused_by_name(client, function):
    with pytest.raises(
        client.exceptions.ValidationException, match=f"line 1:11: function {function} is not"
    ):
        await client.query(QueryString=f"SELECT 1, {function}('a')")


async def test_every_row_of_the_page_is_covered_and_every_case_calls_what_it_names():
    assert rows_of(FUNCTIONS, "yes") == list(SCALARS)
    # What UNLOAD writes is looked at in a file of its own.
    assert rows_of(STATEMENTS, "yes") == [*CONSTRUCTS, "UNLOAD"]
    assert set(rows_of(STATEMENTS, "no")) == set(REFUSED)
    assert len({_query(case) for _, case, _ in CASES}) >= 120
    for name, case, _ in CASES:
        words = name.replace("is ", "is .*").split() if name.isidentifier() else []
        assert all(re.search(rf"\b{word}\b", case, re.IGNORECASE) for word in words), case


async def test_every_function_that_is_served_is_on_the_page():
    assert {*SERVED, *times.NAMES} - set(rows_of(FUNCTIONS, "yes")) == set()
