from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fleetcast.verify import timeseries
from fleetcast.verify.exceptions import MOST, Exceptions
from fleetcast.verify.timeseries import TimeSeriesReader
from fleetcast.verify.verdict import Landed

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.asyncio(loop_scope="module")

HOUR_MS = 3_600_000


async def look(cloud: Any, run: Any, *, deadline_ms: int | None = None, kept: Any = ()) -> Landed:
    deadline = int(time.time() * 1000) + HOUR_MS if deadline_ms is None else deadline_ms
    quarantined = np.zeros(len(run.truth.outcome), dtype=np.bool_)
    quarantined[list(kept)] = True
    reader = TimeSeriesReader(
        cloud.clients["timestream-query"], cloud.outputs, run.info.id, deadline
    )
    return await timeseries.reconcile(run.truth, quarantined, reader)


def good_rows(run: Any) -> list[Any]:
    """What the processor would write: all but what is to be refused."""
    return [r for r in run.truth.rows(range(12)) if not run.truth.refusal[r.k]]


async def test_everything_as_it_was_sent_is_found_by_totals_alone(
    cloud: Any, make_run: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    run = make_run()
    rows = good_rows(run)
    assert 90 < len(rows) < 120
    await cloud.write_rows(run, rows)
    reader = TimeSeriesReader(
        cloud.clients["timestream-query"], cloud.outputs, run.info.id, HOUR_MS
    )

    def never(*_: Any) -> Any:
        raise AssertionError("rows were read although every device agrees")

    monkeypatch.setattr(reader, "rows", never)
    none = np.zeros(len(run.truth.outcome), dtype=np.bool_)
    landed = await timeseries.reconcile(run.truth, none, reader)
    assert landed == Landed(unique=len(rows), late=len(rows))


async def test_nothing_landed_is_all_lost(cloud: Any, make_run: Callable[..., Any]) -> None:
    run = make_run()
    assert await look(cloud, run) == Landed(lost=len(good_rows(run)))


async def test_all_is_lost_where_nothing_was_ever_written(
    cloud: Any, make_run: Callable[..., Any]
) -> None:
    """The table has no columns of its own yet, so that rows cannot be asked for by run."""
    run = make_run()
    await cloud.clients["timestream-write"].create_table(
        DatabaseName="fleet", TableName="unwritten"
    )
    outputs = replace(cloud.outputs, timeseries_table="unwritten")
    reader = TimeSeriesReader(cloud.clients["timestream-query"], outputs, run.info.id, HOUR_MS)
    none = np.zeros(len(run.truth.outcome), dtype=np.bool_)
    found = Exceptions()
    landed = await timeseries.reconcile(run.truth, none, reader, found)
    assert landed == Landed(lost=len(good_rows(run)))
    named = found.resolved(run.truth, run.folder)
    assert len(named) == min(MOST, landed.lost)
    assert {(one.store, one.kind, one.outcome) for one in named} == {
        ("timeseries", "lost", "acked")
    }


async def test_a_swap_of_two_values_of_one_device_is_found(
    cloud: Any, make_run: Callable[..., Any]
) -> None:
    run = make_run()
    rows = good_rows(run)
    first = next(r for r in rows if "speed" in r.signals)
    second = next(r for r in rows if r.device == first.device and r.k != first.k)
    assert first.signals != second.signals
    rest = [r for r in rows if r.k not in (first.k, second.k)]
    await cloud.write_rows(run, rest)
    await cloud.write_rows(run, [first], signals=second.signals)
    await cloud.write_rows(run, [second], signals=first.signals)
    assert await look(cloud, run) == Landed(unique=len(rows), corrupted=2)


@pytest.mark.parametrize(
    "change",
    [
        {"site": "site-999"},
        {"kind": "other"},
        {"signals": {}},
        {"extra": {"humidity": 1.0}},
    ],
    ids=lambda change: next(iter(change)),
)
async def test_any_other_content_is_corrupted(
    cloud: Any, make_run: Callable[..., Any], change: dict[str, Any]
) -> None:
    run = make_run()
    rows = good_rows(run)
    await cloud.write_rows(run, rows[1:])
    await cloud.write_rows(run, rows[:1], **change)
    assert await look(cloud, run) == Landed(unique=len(rows), corrupted=1)


async def test_a_value_off_by_its_last_decimal_is_corrupted(
    cloud: Any, make_run: Callable[..., Any]
) -> None:
    run = make_run()
    rows = good_rows(run)
    row = next(r for r in rows if "speed" in r.signals)
    await cloud.write_rows(run, [r for r in rows if r.k != row.k])
    off = {"speed": round(row.signals["speed"] + 0.0001, 4)}
    await cloud.write_rows(run, [row], signals=off)
    assert await look(cloud, run) == Landed(unique=len(rows), corrupted=1)


async def test_a_reading_at_another_time_is_a_corrupted_copy(
    cloud: Any, make_run: Callable[..., Any]
) -> None:
    run = make_run()
    rows = good_rows(run)
    await cloud.write_rows(run, rows)
    await cloud.write_rows(run, rows[:1], ts_ms=rows[0].ts_ms + 1)
    assert await look(cloud, run) == Landed(unique=len(rows), duplicated=1, corrupted=1)


async def test_what_was_never_sent_is_phantom(cloud: Any, make_run: Callable[..., Any]) -> None:
    run = make_run()
    rows = good_rows(run)
    await cloud.write_rows(run, rows)
    await cloud.write_rows(run, rows[:1], device="dev-000099")
    await cloud.write_rows(run, rows[1:2], device="somebody")
    await cloud.write_rows(run, rows[2:3], seq=5000, ts_ms=rows[2].ts_ms + 7)
    assert await look(cloud, run) == Landed(unique=len(rows), phantom=3)


async def test_what_had_to_be_refused_is_phantom(cloud: Any, make_run: Callable[..., Any]) -> None:
    run = make_run()
    everything = list(run.truth.rows(range(12)))
    bad = int((run.truth.refusal > 0).sum())
    assert bad > 3
    await cloud.write_rows(run, everything)
    assert await look(cloud, run) == Landed(unique=len(everything) - bad, phantom=bad)


async def test_what_lies_in_quarantine_is_not_lost(
    cloud: Any, make_run: Callable[..., Any]
) -> None:
    run = make_run()
    rows = good_rows(run)
    await cloud.write_rows(run, rows[1:])
    assert await look(cloud, run, kept=[rows[0].k]) == Landed(unique=len(rows) - 1)


async def test_unknown_readings_may_land_or_not_and_failed_ones_must_not(
    cloud: Any, make_run: Callable[..., Any]
) -> None:
    numbers = [r.k for r in good_rows(make_run())][:4]
    landed_unknown, absent_unknown, landed_failed, absent_failed = numbers
    run = make_run(
        {
            landed_unknown: "unknown",
            absent_unknown: "unknown",
            landed_failed: "failed",
            absent_failed: "failed",
        }
    )
    rows = good_rows(run)
    await cloud.write_rows(run, [r for r in rows if r.k not in (absent_unknown, absent_failed)])
    assert await look(cloud, run) == Landed(unique=len(rows) - 3, phantom=1)


async def test_rows_written_after_the_deadline_are_late(
    cloud: Any, make_run: Callable[..., Any]
) -> None:
    run = make_run()
    rows = good_rows(run)
    now_ms = int(time.time() * 1000)
    await cloud.write_rows(run, rows[2:], processed_ms=now_ms)
    await cloud.write_rows(run, rows[:2], processed_ms=now_ms + 1)
    assert await look(cloud, run, deadline_ms=now_ms) == Landed(unique=len(rows), late=2)


async def test_another_run_does_not_count(cloud: Any, make_run: Callable[..., Any]) -> None:
    run, other = make_run(), make_run()
    await cloud.write_rows(other, good_rows(other))
    assert await look(cloud, run) == Landed(lost=len(good_rows(run)))


@settings(
    max_examples=25,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(data=st.data())
async def test_planted_defects_are_counted_exactly(
    cloud: Any, make_run: Callable[..., Any], data: st.DataObject
) -> None:
    run = make_run()
    rows = good_rows(run)
    numbers = st.sets(st.sampled_from(range(len(rows))), max_size=12)
    lost = data.draw(numbers, "lost")
    changed = data.draw(numbers, "corrupted") - lost
    doubled = data.draw(numbers, "duplicated") - lost - changed
    strangers = data.draw(st.integers(0, 5), "phantom")
    sound = [r for i, r in enumerate(rows) if i not in lost | changed]
    await cloud.write_rows(run, sound)
    await cloud.write_rows(
        run,
        [replace(rows[i], signals={n: v + 1 for n, v in rows[i].signals.items()}) for i in changed],
    )
    # A copy at the very same time replaces its original; another instant makes it a second row.
    await cloud.write_rows(run, [replace(rows[i], ts_ms=rows[i].ts_ms + 1) for i in doubled])
    await cloud.write_rows(
        run, [replace(rows[i], seq=9000 + i, ts_ms=rows[i].ts_ms + 2) for i in range(strangers)]
    )
    assert await look(cloud, run) == Landed(
        unique=len(rows) - len(lost),
        lost=len(lost),
        duplicated=len(doubled),
        corrupted=len(changed) + len(doubled),
        phantom=strangers,
    )
