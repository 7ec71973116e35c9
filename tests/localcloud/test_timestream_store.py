from __future__ import annotations

import asyncio
import json
import re
import time
from itertools import count
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from localcloud.http import AwsError
from localcloud.timestream.catalog import Table
from localcloud.timestream.columns import take_apart
from localcloud.timestream.store import Store
from localcloud.timestream.write import write_call, write_records

BASE_MS = int(time.time() * 1000)
KINDS = {"a": "DOUBLE", "b": "BIGINT", "c": "VARCHAR", "d": "BOOLEAN", "e": "TIMESTAMP"}
TEXTS = {
    "a": ["1.5", "-2", "1e3", "x", "", "NaN", "-Infinity", "1_0", "\uff11"],
    "b": ["1", "-7", "9223372036854775807", "9223372036854775808", "1,2", "1.5", ""],
    "c": ["x", "", "y" * 513, "é" * 1025],
    "d": ["true", "FALSE", "1"],
    "e": ["0", "1767225600000", "9223372036855", "-1", " 1"],
}


def record(device: str, at: int, version: int, values: dict[str, str]) -> dict[str, Any]:
    return {
        "Dimensions": [{"Name": "device", "Value": device}],
        "Time": str(BASE_MS + at),
        "MeasureName": "m",
        "MeasureValueType": "MULTI",
        "MeasureValues": [{"Name": n, "Type": KINDS[n], "Value": v} for n, v in values.items()],
        "Version": version,
    }


class Held:
    """A table of a store, called without the API around it."""

    def __init__(self, store: Store | None = None, name: str = "t") -> None:
        self.store = store or Store()
        self.name = name
        self.store.create(name)
        self.table = Table("db", name, "arn", name, time.time())

    def write(self, *records: dict[str, Any]) -> list[dict[str, Any]]:
        return write_records(self.store, self.table, {"Records": list(records)}).rejected

    def rows(self) -> dict[tuple[str, int], tuple[Any, ...]]:
        """(a, b, c) by device and time."""

        async def read() -> Any:
            await self.store.flush([self.name])
            with self.store.reader() as reader:
                joined = f"{self.name} JOIN {self.name}_series USING (__series)"
                return reader.sql(f"SELECT * FROM {joined}").to_arrow_table()  # noqa: S608

        found = {}
        for row in asyncio.run(read()).to_pylist():
            at = round(row["time"].timestamp() * 1000) - BASE_MS
            key = (row["device"], at)
            assert key not in found
            found[key] = tuple(row.get(name) for name in KINDS)
        return found


VALUES = st.fixed_dictionaries(
    {"a": st.sampled_from(["1.5", "2.5"])},
    optional={"b": st.sampled_from(["1", "2"]), "c": st.sampled_from(["x", "y"])},
).flatmap(lambda values: st.permutations(list(values.items())).map(dict))
WRITES = st.tuples(
    st.sampled_from(["d1", "d2"]), st.integers(0, 2), st.integers(1, 3), VALUES, st.booleans()
)


def test_a_table_holds_the_highest_version_of_each_time_whenever_it_is_read():
    store, numbers = Store(), count()

    @settings(deadline=None, max_examples=60)
    @given(st.lists(WRITES, min_size=1, max_size=25))
    def hold(writes: list[tuple[str, int, int, dict[str, str], bool]]) -> None:
        held = Held(store, f"t{next(numbers)}")
        expected: dict[tuple[str, int], tuple[int, tuple[Any, ...]]] = {}
        for device, at, version, values, look in writes:
            read = {"a": float, "b": int, "c": str}
            row = tuple(read[name](values[name]) if name in values else None for name in KINDS)
            before = expected.get((device, at))
            rejected = held.write(record(device, at, version, values))
            if before is None or version > before[0]:
                assert rejected == []
                expected[device, at] = (version, row)
            else:
                assert bool(rejected) == (before != (version, row))
                assert all(why["ExistingVersion"] == before[0] for why in rejected)
            if look:
                assert held.rows() == {key: row for key, (_, row) in expected.items()}
        assert held.rows() == {key: row for key, (_, row) in expected.items()}
        assert store.tables[held.name].count() == len(expected)

    hold()
    store.close()


def texts_of(names: list[str]) -> st.SearchStrategy[dict[str, str]]:
    return st.fixed_dictionaries({name: st.sampled_from(TEXTS[name]) for name in names})


RECORDS = st.builds(
    lambda device, at, version, values, more: {**record(device, at, version, values), **more},
    st.sampled_from(["d1", "d2"]),
    st.integers(0, 5),
    st.integers(1, 2),
    st.sampled_from([["a", "b"], ["a", "c", "d"], ["e"]]).flatmap(texts_of),
    st.sampled_from([{}, {}, {}, {"TimeUnit": "MILLISECONDS"}, {"Time": "1"}, {"Time": "x"},
                     {"Version": 0}, {"MeasureName": ""}, {"Dimensions": []}]),
)  # fmt: skip


def test_a_call_is_taken_alike_beside_a_record_of_a_new_series_and_without_it():
    store, numbers = Store(), count()

    @settings(deadline=None, max_examples=100)
    @given(st.lists(st.lists(RECORDS, min_size=1, max_size=6), min_size=1, max_size=5))
    def hold(calls: list[list[dict[str, Any]]]) -> None:
        held, beside = Held(store, f"t{next(numbers)}"), Held(store, f"t{next(numbers)}")
        for number, records in enumerate(calls):
            new = record(f"new{number}", 0, 1, {"a": "1"})
            assert told(held.write(*records)) == told(beside.write(*records, new))
        expected = {key: row for key, row in beside.rows().items() if "new" not in key[0]}
        assert held.rows() == expected

    hold()
    store.close()


def told(rejected: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Rejections without the times of the window, which is another at each call."""
    return [{**one, "Reason": re.sub(r"\[\d+, \d+\)", "", one["Reason"])} for one in rejected]


def test_what_records_share_stands_beside_them_as_well_as_in_them():
    held, apart = Held(), Held()
    common = {"MeasureName": "m", "MeasureValueType": "MULTI", "Version": 4, "TimeUnit": "SECONDS",
              "Dimensions": [{"Name": "site", "Value": "s"}]}  # fmt: skip
    for second in (BASE_MS // 1000, BASE_MS // 1000 + 1):
        records = [
            {"Dimensions": [{"Name": "device", "Value": device}], "Time": str(second),
             "MeasureValues": [{"Name": "a", "Type": "DOUBLE", "Value": "1"}]}
            for device in ("d1", "d2")
        ]  # fmt: skip
        write_records(held.store, held.table, {"Records": records, "CommonAttributes": common})
        for one in records:
            dimensions = [*common["Dimensions"], *one["Dimensions"]]
            apart.write({**common, **one, "Dimensions": dimensions})

    assert held.rows() == apart.rows()
    assert len(held.rows()) == 4
    for one in (held, apart):
        assert list(one.store.tables["t"].versions) == [4, 4, 4, 4]
        one.store.close()


def test_a_version_that_is_no_long_leaves_nothing_behind():
    held = Held()
    held.write(record("d1", 0, 1, {"a": "1"}))
    with pytest.raises(AwsError, match="is not a long"):
        held.write(record("d1", 1, 1, {"a": "1"}), record("d1", 2, 2**63, {"a": "1"}))

    assert held.store.rows() == 1
    held.store.close()


def test_a_call_that_is_malformed_anywhere_leaves_nothing_behind():
    held = Held()
    good = record("d1", 0, 1, {"a": "1"})
    with pytest.raises(AwsError, match="TimeUnit 'EONS' is unknown"):
        held.write(good, {**good, "TimeUnit": "EONS"})

    assert held.store.rows() == 0
    held.write(good)
    assert held.rows() == {("d1", 0): (1.0, None, None, None, None)}
    held.store.close()


def test_a_rejected_record_adds_no_column():
    held = Held()
    held.write(record("d1", 0, 5, {"a": "1"}))
    assert held.write(record("d1", 0, 4, {"a": "1", "c": "x"}))

    assert "c" not in held.store.tables["t"].columns
    held.store.close()


@pytest.mark.parametrize("read_first", [False, True])
def test_records_older_than_the_retention_are_deleted(read_first):
    held = Held()
    for at in range(10):
        held.write(record("d1", at, 1, {"a": str(at)}), record("d2", at, 1, {"a": str(at)}))
    if read_first:
        assert len(held.rows()) == 20

    asyncio.run(held.store.expire("t", (BASE_MS + 7) * 1_000_000))

    assert sorted(at for _, at in held.rows()) == [7, 7, 8, 8, 9, 9]
    assert held.store.rows() == 6
    assert held.store.tables["t"].oldest_ns == (BASE_MS + 7) * 1_000_000

    held.write(record("d1", 2, 1, {"a": "2"}))
    asyncio.run(held.store.expire("t", (BASE_MS + 9) * 1_000_000))

    assert sorted(at for _, at in held.rows()) == [9, 9]
    held.store.close()


SPARE = st.builds(
    lambda device, at, values: {
        name: one
        for name, one in record(device, at, 1, values).items()
        if name in {"Dimensions", "Time", "MeasureValues"}
    },
    st.sampled_from(["d1", "d1", "d2", "d2", ""]),
    st.integers(0, 99),
    st.sampled_from([{"a": "1.5"}, {"a": "2"}, {"b": "7", "a": "1.5"}, {"c": "x"}, {"a": "x"}]),
)
COMMON = st.fixed_dictionaries(
    {
        "MeasureValueType": st.sampled_from(["MULTI", "MULTI", "MULTI", "DOUBLE"]),
        "MeasureName": st.sampled_from(["m", "m", "m", ""]),
    },
    optional={
        "Dimensions": st.sampled_from([[], [{"Name": "run", "Value": "r"}], None]),
        "Version": st.sampled_from([1, 2, 0]),
        "TimeUnit": st.sampled_from(["MILLISECONDS", "MICROSECONDS"]),
        "Time": st.just("1"),
    },
)
CALLS = st.lists(st.lists(SPARE, min_size=1, max_size=3), min_size=1, max_size=8)


def test_a_call_that_is_taken_apart_is_stored_like_one_that_is_parsed():
    store, numbers, apart = Store(), count(), []

    def outcome(held: Held, body: dict[str, Any], *, as_text: bool) -> Any:
        text = json.dumps(body, separators=(",", ":"), ensure_ascii=False).encode()
        call = take_apart(text) if as_text else None
        try:
            done = write_call(held.store, held.table, call) if call is not None else None
            if done is not None:
                apart.append(done)
            done = done or write_records(held.store, held.table, json.loads(text))
        except (AwsError, KeyError) as error:
            return str(error)
        return done.memory, done.magnetic, told(done.rejected)

    @settings(deadline=None, max_examples=100)
    @given(COMMON, CALLS)
    def hold(common: dict[str, Any], calls: list[list[dict[str, Any]]]) -> None:
        held, beside = Held(store, f"t{next(numbers)}"), Held(store, f"t{next(numbers)}")
        for records in calls:
            body = {"DatabaseName": "db", "CommonAttributes": common, "Records": records}
            assert outcome(held, body, as_text=True) == outcome(beside, body, as_text=False)
        assert held.rows() == beside.rows()
        tables = [store.tables[one.name] for one in (held, beside)]
        assert tables[0].versions == tables[1].versions
        assert tables[0].fingerprints == tables[1].fingerprints

    hold()
    assert apart
    store.close()
