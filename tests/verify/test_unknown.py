from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pyarrow.parquet as pq
import pytest

from fleetcast.verify import unknown, verify_run
from fleetcast.verify.readers import Patience

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.asyncio(loop_scope="module")


async def test_each_unknown_reading_is_named_with_where_it_landed(
    cloud: Any, make_run: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Patience, "of", lambda *_: Patience(0.5, 0.0, 0.05, 0))
    good = [k for k, refusal in enumerate(make_run().truth.refusal) if not refusal]
    both, row, line, neither = good[:4]
    run = make_run(dict.fromkeys((both, row, line, neither), "unknown"))
    rows = [r for r in run.truth.rows(range(12)) if not run.truth.refusal[r.k]]
    await cloud.write_rows(run, [r for r in rows if r.k not in (line, neither)])
    await cloud.put_object([p for k, p in run.payloads.items() if k not in (row, neither)])

    verdict = await verify_run(run.folder, cloud.outputs, cloud.target, progress=lambda _: None)
    assert verdict.unknown_landed == {"timeseries": 2, "archive": 2}
    assert "unknown     landed all the same: 2 in timeseries, 2 in archive" in verdict.lines()
    named = pq.read_table(run.folder / unknown.FILE_NAME).to_pylist()
    assert [(r["k"], r["timeseries"], r["archive"]) for r in named] == [
        (both, True, True),
        (row, True, False),
        (line, False, True),
        (neither, False, False),
    ]
    for entry in named:
        assert run.truth.number(entry["device"], entry["seq"]) == entry["k"]


async def test_a_store_that_nobody_looked_at_says_nothing(make_run: Callable[..., Any]) -> None:
    run = make_run({0: "unknown", 1: "unknown"})
    table = unknown.gather(run.truth, {1}, None)
    assert table.column_names == ["k", "device", "seq", "timeseries"]
    assert unknown.landed(table) == {"timeseries": 1}
    assert unknown.landed(unknown.gather(run.truth, None, None)) == {}


async def test_without_any_there_is_no_file_even_where_there_was_one(
    cloud: Any, make_run: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Patience, "of", lambda *_: Patience(0.0, 0.0, 0.05, 0))
    run = make_run()
    (run.folder / unknown.FILE_NAME).write_text("of an earlier verification")
    verdict = await verify_run(run.folder, cloud.outputs, cloud.target, progress=lambda _: None)
    assert verdict.unknown_landed == {}
    assert not (run.folder / unknown.FILE_NAME).exists()
