"""Records that DuckDB does not take at first: kept, told, and there once each in the end."""

from __future__ import annotations

import asyncio
import time
from itertools import count
from typing import Any

import duckdb
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from localcloud.timestream import store as stores
from localcloud.timestream.store import NotFlushedError, Store
from tests.localcloud.test_timestream_store import BASE_MS, Held, record

STATEMENTS = ["BEGIN", "CREATE", "ALTER", "INSERT", "DELETE", "COMMIT"]


class Failing:
    """A connection whose statements fail as they are told to, before they are run."""

    def __init__(self, connection: duckdb.DuckDBPyConnection) -> None:
        self._connection = connection
        self.word: str | None = None
        self.failed = 0

    def execute(self, sql: str) -> Any:
        if self.word is not None and sql.startswith(self.word):
            self.failed += 1
            raise duckdb.OutOfMemoryException("Out of Memory Error: could not allocate")
        return self._connection.execute(sql)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._connection, name)


def failing(store: Store) -> Failing:
    wrapped = Failing(store._connection)
    store._connection = wrapped  # type: ignore[assignment]
    return wrapped


@pytest.mark.parametrize("word", STATEMENTS)
def test_records_that_a_flush_failed_for_are_there_once_each_after_the_next(word):
    held = Held()
    connection = failing(held.store)
    if word in {"DELETE", "ALTER"}:
        held.write(record("d1", 0, 1, {"a": "1"}), record("d1", 1, 1, {"a": "1"}))
        held.rows()
    connection.word = word
    held.write(record("d1", 0, 2, {"a": "2", "b": "7"}), record("d2", 0, 1, {"a": "3"}))
    with pytest.raises(NotFlushedError, match="2 rows wait for DuckDB: Out of Memory Error"):
        held.rows()
    # What takes the place of a row that waits, and a new series, wait behind it.
    held.write(record("d2", 0, 2, {"a": "4"}), record("d3", 0, 1, {"a": "5", "c": "x"}))
    with pytest.raises(NotFlushedError, match="4 rows wait"):
        held.rows()
    connection.word = None

    expected = {
        ("d1", 0): (2.0, 7, None, None, None),
        ("d2", 0): (4.0, None, None, None, None),
        ("d3", 0): (5.0, None, "x", None, None),
    }
    if word in {"DELETE", "ALTER"}:
        expected["d1", 1] = (1.0, None, None, None, None)
    assert held.rows() == expected
    assert (connection.failed, held.store.failures) == (2, 2)
    assert held.store.tables["t"].unflushed() == 0
    assert held.store.tables["t"].failure == ""
    held.store.close()


STEPS = st.tuples(
    st.sampled_from(["d1", "d2"]), st.integers(0, 2), st.integers(1, 3),
    st.sampled_from([{"a": "1.5"}, {"a": "2.5", "b": "1"}]),
    st.none() | st.sampled_from(["look", "expire", *STATEMENTS]),
)  # fmt: skip


def test_a_table_holds_the_highest_version_of_each_time_whatever_flush_fails():
    store, numbers = Store(), count()
    connection = failing(store)

    @settings(deadline=None, max_examples=80)
    @given(st.lists(STEPS, min_size=1, max_size=20))
    def hold(steps: list[tuple[str, int, int, dict[str, str], str | None]]) -> None:
        held = Held(store, f"t{next(numbers)}")
        expected: dict[tuple[str, int], tuple[int, float]] = {}
        for device, at, version, values, then in steps:
            held.write(record(device, at, version, values))
            if version > expected.get((device, at), (0, 0.0))[0]:
                expected[device, at] = (version, float(values["a"]))
            if then in STATEMENTS:
                connection.word, before = then, connection.failed
                try:
                    held.rows()
                except NotFlushedError:
                    assert connection.failed > before
                connection.word = None
            elif then == "expire":
                asyncio.run(store.expire(held.name, (BASE_MS + 1) * 1_000_000))
                expected = {key: row for key, row in expected.items() if key[1] >= 1}
            elif then == "look":
                told = {key: row[0] for key, row in held.rows().items()}
                assert told == {key: value for key, (_, value) in expected.items()}
        told = {key: row[0] for key, row in held.rows().items()}
        assert told == {key: value for key, (_, value) in expected.items()}

    hold()
    store.close()


def test_records_of_a_flush_that_is_cancelled_before_it_begins_are_there_after_the_next():
    held = Held()
    held.write(record("d1", 0, 1, {"a": "1"}))

    async def cancelled() -> None:
        held.store._thread.submit(time.sleep, 0.3)
        flush = asyncio.create_task(held.store.flush(["t"]))
        await asyncio.sleep(0.05)
        flush.cancel()
        with pytest.raises(asyncio.CancelledError):
            await flush

    asyncio.run(cancelled())

    assert held.rows() == {("d1", 0): (1.0, None, None, None, None)}
    held.store.close()


def test_a_table_that_is_dropped_while_its_records_wait_leaves_nothing_to_another():
    held = Held()
    connection = failing(held.store)
    held.write(record("d1", 0, 1, {"a": "1"}))
    connection.word = "COMMIT"
    with pytest.raises(NotFlushedError):
        held.rows()
    connection.word = None
    held.store.drop("t")
    again = Held(held.store)
    again.write(record("d2", 0, 1, {"a": "2"}))

    assert again.rows() == {("d2", 0): (2.0, None, None, None, None)}
    held.store.close()


@pytest.mark.asyncio(loop_scope="module")
async def test_the_api_acknowledges_keeps_and_tells_what_duckdb_does_not_take(
    cloud, name, monkeypatch
):
    write, query = await cloud.client("timestream-write"), await cloud.client("timestream-query")
    await write.create_database(DatabaseName=name)
    await write.create_table(DatabaseName=name, TableName="readings")
    where = {"DatabaseName": name, "TableName": "readings"}
    sql = f'SELECT count(*), sum(a) FROM "{name}"."readings"'  # noqa: S608
    service = cloud.service("timestream")
    monkeypatch.setattr(stores, "FLUSH_ROWS", 10)
    monkeypatch.setattr(stores, "MAX_WAITING_ROWS", 30)
    connection = Failing(service._store._connection)
    connection.word = "INSERT"
    monkeypatch.setattr(service._store, "_connection", connection)
    failed = service.status()["flushes_failed"]

    for first in (0, 15):
        records = [record("d1", at, 1, {"a": "1"}) for at in range(first, first + 15)]
        answer = await write.write_records(**where, Records=records)
        assert answer["RecordsIngested"]["Total"] == 15
    with pytest.raises(query.exceptions.InternalServerException, match="30 rows wait for DuckDB"):
        await query.query(QueryString=sql)
    with pytest.raises(write.exceptions.InternalServerException, match="30 rows wait for DuckDB"):
        await write.write_records(**where, Records=[record("d1", 99, 1, {"a": "1"})])
    told = service.status()
    assert told["waiting"][f"{name}.readings"] == {
        "rows": 30, "why": "Out of Memory Error: could not allocate",
    }  # fmt: skip
    assert told["flushes_failed"] == failed + 4
    connection.word = None
    await write.write_records(**where, Records=[record("d1", 99, 1, {"a": "1"})])

    row = (await query.query(QueryString=sql))["Rows"][0]["Data"]
    assert [datum["ScalarValue"] for datum in row] == ["31", "31.0"]
    assert f"{name}.readings" not in service.status()["waiting"]
