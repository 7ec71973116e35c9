from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from localcloud.http import AwsError
from localcloud.timestream.catalog import Table
from localcloud.timestream.store import Store
from localcloud.timestream.write import write_records

BASE_MS = int(time.time() * 1000)
KINDS = {"a": "DOUBLE", "b": "BIGINT", "c": "VARCHAR"}


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
    """A store with one table, called without the API around it."""

    def __init__(self) -> None:
        self.store = Store()
        self.store.create("t")
        self.table = Table("db", "t", "arn", "t", time.time())

    def write(self, *records: dict[str, Any]) -> list[dict[str, Any]]:
        return write_records(self.store, self.table, {"Records": list(records)}).rejected

    def rows(self) -> dict[tuple[str, int], tuple[Any, ...]]:
        """(a, b, c) by device and time."""

        async def read() -> Any:
            await self.store.flush(["t"])
            with self.store.reader() as reader:
                return reader.sql('SELECT * FROM "t"').to_arrow_table()

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


@settings(deadline=None, max_examples=60)
@given(st.lists(WRITES, min_size=1, max_size=25))
def test_a_table_holds_the_highest_version_of_each_time_whenever_it_is_read(writes):
    held = Held()
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
    assert held.store.rows() == len(expected)
    held.store.close()


def test_a_call_that_is_malformed_anywhere_leaves_nothing_behind():
    held = Held()
    good = record("d1", 0, 1, {"a": "1"})
    with pytest.raises(AwsError, match="TimeUnit 'EONS' is unknown"):
        held.write(good, {**good, "TimeUnit": "EONS"})

    assert held.store.rows() == 0
    held.write(good)
    assert held.rows() == {("d1", 0): (1.0, None, None)}
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
    held.store.close()
