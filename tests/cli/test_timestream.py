from __future__ import annotations

import csv
import io
import json
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

NESTED = (
    "SELECT t.c AS n, t.c / 4.0 AS share, t.c > 1 AS more, nullif(t.c, 2) AS gap, 'a,\"b\"' AS says, "
    "ARRAY[t.c, 7] AS list, CAST(ROW(t.c, 'x') AS ROW(k BIGINT, v VARCHAR)) AS pair, "
    "from_nanoseconds(t.c) AS at FROM (VALUES 1, 2) AS t(c) ORDER BY 1"
)


@pytest.fixture(scope="module")
def query(fleetcast: Callable[..., Any]) -> Callable[..., Any]:
    assert fleetcast("cloud", "start").returncode == 0
    return lambda *arguments: fleetcast("timestream", "query", *arguments)


def test_a_table_has_names_rows_and_a_count(query: Callable[..., Any]) -> None:
    done = query(
        "SELECT t.c AS number, nullif(t.c, 2) AS gap, 'x' AS word FROM (VALUES 1, 2) AS t(c)"
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == (
        "number   gap  word\n"
        "------  ----  ----\n"
        "     1     1  x\n"
        "     2  NULL  x\n"
        "(2 rows)\n"
    )  # fmt: skip


def test_json_has_numbers_and_nested_values(query: Callable[..., Any]) -> None:
    lines = query(NESTED, "--format", "json").stdout.splitlines()
    assert [json.loads(line) for line in lines] == [
        {
            "n": n, "share": n / 4, "more": n > 1, "gap": None if n == 2 else n, "says": 'a,"b"',
            "list": [n, 7], "pair": {"k": n, "v": "x"},
            "at": f"1970-01-01 00:00:00.00000000{n}",
        }
        for n in (1, 2)
    ]  # fmt: skip


def test_csv_can_be_read_back(query: Callable[..., Any]) -> None:
    rows = list(csv.reader(io.StringIO(query(NESTED, "--format", "csv").stdout)))
    assert rows[0] == ["n", "share", "more", "gap", "says", "list", "pair", "at"]
    assert rows[2] == [
        "2", "0.5", "true", "", 'a,"b"', "[2, 7]", '{"k": 2, "v": "x"}',
        "1970-01-01 00:00:00.000000002",
    ]  # fmt: skip


def test_many_pages_come_whole_and_a_limit_ends_them(query: Callable[..., Any]) -> None:
    sql = (
        "SELECT u.n, array_join(repeat('x', 200), '') AS filler "
        "FROM UNNEST(sequence(1, 9000)) AS u(n) ORDER BY 1"
    )
    numbers = [json.loads(line)["n"] for line in query(sql, "--format", "json").stdout.splitlines()]
    assert numbers == list(range(1, 9001))
    assert query(sql, "--limit", "3").stdout.splitlines()[-1] == "(3 rows)"


def test_what_is_wrong_is_told_in_a_line(query: Callable[..., Any]) -> None:
    refused = query("SELECT foo(1)")
    assert refused.returncode == 2
    assert refused.stderr == (
        "fleetcast: the query was refused: line 1:8: function foo is not supported by the local "
        "Timestream\n"
    )
    assert query("SELECT 1", "--format", "xml").stderr == (
        "fleetcast: --format xml: give table, csv or json\n"
    )
    assert query(" ").returncode == 2
    away = query("SELECT 1", "--port", "1")
    assert away.returncode == 3
    assert "cannot be asked" in away.stderr
    assert len(away.stderr.splitlines()) == 1
