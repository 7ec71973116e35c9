"""Latency, order and clocks: as pure functions, and of runs whose landing is planted."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleetcast.verify import landing, verify_run
from fleetcast.verify.archive import ArchivePlace, ArchiveReader
from fleetcast.verify.landing import Landings
from fleetcast.verify.quantiles import by_group, named
from fleetcast.verify.readers import Patience
from fleetcast.verify.timeseries import TimeSeriesReader
from fleetcast.verify.verdict import Clock, Order

if TYPE_CHECKING:
    from collections.abc import Callable

    from fleetcast.verify.truth import TrueRow

planted = pytest.mark.asyncio(loop_scope="module")


def landings(devices: list[int], **columns: Any) -> Landings:
    """Readings in the order of their numbers; what is not given is known of none."""
    count = len(devices)
    given: dict[str, Any] = {"k": range(count), "device": devices}
    seen: dict[int, int] = {}
    given["seq"] = [seen.update({d: seen.get(d, -1) + 1}) or seen[d] for d in devices]
    for name in ("event", "due", "sent", "acked", "arrived", "row", "object"):
        given[name] = np.array(columns.get(name, [np.nan] * count), dtype=np.float64)
    given["overtaken"] = columns.get("overtaken", [False] * count)
    given["shard"] = columns.get("shard", [-1] * count)
    given["place"] = columns.get("place", [-1] * count)
    arrays = {name: np.array(value) for name, value in given.items()}
    return Landings(**arrays, shards=columns.get("shards", []))


@given(
    st.lists(st.tuples(st.integers(0, 3), st.integers(0, 9), st.integers(0, 5)), max_size=40).map(
        lambda rows: list({(g, s): (g, s, p) for g, s, p in rows}.values())
    )
)
def test_a_reading_is_out_of_order_where_a_later_one_was_there_before_it(
    rows: list[tuple[int, int, int]],
) -> None:
    expected = [any(g == h and t > s and q < p for h, t, q in rows) for g, s, p in rows]
    columns = np.array(rows, dtype=np.int64).reshape(-1, 3).T
    found = landing.out_of_order(columns[0], columns[1], columns[2].astype(np.float64))
    assert found.tolist() == expected


@given(
    st.lists(st.tuples(st.integers(0, 3), st.floats(-9, 9)), max_size=30),
    st.sampled_from([0.5, 0.95, 1.0]),
)
def test_percentiles_of_groups_are_those_of_each_alone(
    rows: list[tuple[int, float]], share: float
) -> None:
    groups = np.array([g for g, _ in rows], dtype=np.int64)
    values = np.array([v for _, v in rows])
    found = by_group(values, groups, 4, share)
    for group in range(4):
        mine = values[groups == group]
        if len(mine):
            assert found[group] == np.quantile(mine, share, method="inverted_cdf")
        else:
            assert np.isnan(found[group])


def test_percentiles_of_nothing_are_none() -> None:
    assert named(np.array([np.nan])) == {}
    assert named(np.array([3.0, 1.0, np.nan])) == {"p50": 1.0, "p95": 3.0, "p99": 3.0, "max": 3.0}


def test_the_order_is_told_for_each_place_and_what_is_not_known_is_left_out() -> None:
    found = landing.orders(
        landings(
            [0, 1, 0, 1, 0],
            sent=[1, 2, 3, 4, 5],
            # Device 0's second reading was taken after its third; device 1 changed its shard.
            place=[1, 9, 5, 2, 4],
            shard=[0, 0, 0, 1, 0],
            shards=["a", "b"],
            row=[7, 7, 6, np.nan, 7],
        )
    )
    assert found == {
        "sent": Order(5, 0, 0),
        "stream": Order(5, 1, 1),
        "timeseries": Order(4, 1, 1),
    }


def test_an_object_is_in_order_by_its_lines_and_objects_by_their_seconds() -> None:
    shared = landings(
        [0, 0, 0, 1], object=[2000, 1000, 2000, 1000], overtaken=[False, False, False, True]
    )
    assert landing.orders(shared) == {"archive": Order(4, 2, 2)}


def test_clocks_are_bounded_by_readings_that_both_have_seen() -> None:
    devices = [0, 1, 2, 3] * 100
    sent = np.arange(400.0) * 10
    offset = np.where(np.array(devices) < 2, 0.0, 3000.0)
    run = landings(devices, sent=sent, acked=sent + 8, arrived=sent + 3 + offset)
    near, far = landing.clocks(run, [(0, 2), (2, 4)], acked_after=True)
    assert near == Clock(0, 2, 200, -5.0, 3.0, 0.0)
    assert far == Clock(2, 4, 200, 2995.0, 3003.0, 2999.0)
    # From a broker's acknowledgement nothing follows: only a clock that is ahead can be told.
    assert [clock.corrected_ms for clock in landing.clocks(run, [(0, 4)], acked_after=False)] == [0]
    ahead = landings(devices, sent=sent, acked=sent + 8, arrived=sent + 3 - 3000)
    (told,) = landing.clocks(ahead, [(0, 4)], acked_after=False)
    assert (told.low_ms, told.corrected_ms) == (None, -2997.0)
    assert landing.clocks(landings([0]), [(0, 1)], acked_after=True) == []


def test_latency_counts_on_the_streams_clock() -> None:
    run = landings([0, 2], event=[0, 0], acked=[10, 10], row=[100, 3100], object=[1000, 4000])
    clocks = [Clock(0, 2, 1, -1.0, 1.0, 0.0), Clock(2, 4, 1, 2999.0, 3001.0, 3000.0)]
    found = landing.latencies(run, clocks)
    assert set(found["timeseries"]["from_event"].values()) == {100.0}
    assert set(found["timeseries"]["from_ack"].values()) == {90.0}
    assert set(found["archive"]["from_ack"].values()) == {990.0}


def test_the_slowest_devices_are_named_with_where_the_time_went() -> None:
    run = landings(
        [0, 1, 2, 1],
        due=[0, 0, 0, 0],
        acked=[5, 5, 400, 6],
        row=[50, 20, 900, 21],
        object=[1000, 2000, np.nan, 3000],
        shard=[0, 0, 1, 0],
        shards=["a", "b"],
    )
    worst, second = landing.slowest(run, [], ["x", "y", "z"], most=2)
    assert (worst.device, worst.readings, worst.shard) == ("z", 1, "b")
    assert (worst.acked_p95_ms, worst.row_p95_ms, worst.object_p95_ms) == (400.0, 900.0, None)
    assert second.device == "x"
    assert [slow.device for slow in landing.slowest(run, [], ["x", "y", "z"])] == ["z", "x", "y"]


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Patience, "of", lambda *_: Patience(0.5, 0.0, 0.05, 0))


async def land(cloud: Any, run: Any, *, ahead_ms: int = 0) -> None:
    """Each reading's row is written 40 ms after it arrived, which is in the middle of its sending.

    Args:
        cloud: Where.
        run: Whose readings.
        ahead_ms: How far the target's clock is ahead of the simulator's.
    """

    def arrived_ms(row: TrueRow) -> int:
        # `make_run` has readings acknowledged a millisecond after they are due and sent.
        due_s = run.truth.fleet.due_s(np.array([row.k]))[0]
        return int(run.info.start_ms + round(due_s * 1000) + ahead_ms)

    rows = [row for row in run.truth.rows(range(12)) if not run.truth.refusal[row.k]]
    await cloud.write_rows(
        run, rows, arrived_ms=arrived_ms, processed_ms=lambda row: arrived_ms(row) + 40
    )
    await cloud.put_object(run.payloads.values())


@planted
@pytest.mark.usefixtures("impatient")
async def test_a_verdict_has_latencies_of_both_stores_and_keeps_them_for_each_reading(
    cloud: Any, make_run: Callable[..., Any]
) -> None:
    run = make_run()
    await land(cloud, run)
    verdict = await verify_run(run.folder, cloud.outputs, cloud.target, progress=lambda _: None)
    assert verdict.timed == verdict.acked == 120
    assert verdict.latency_ms["timeseries"]["from_event"] == pytest.approx(
        verdict.landing_latency_ms, abs=2
    )
    assert verdict.latency_ms["timeseries"]["from_ack"]["p50"] == pytest.approx(39, abs=1.5)
    assert verdict.latency_ms["archive"]["from_ack"]["p50"] > 0
    assert verdict.latency_ms["archive"]["from_ack"] != verdict.latency_ms["archive"]["from_event"]
    assert len(verdict.slowest) == landing.SLOWEST
    assert verdict.slowest[0].row_p95_ms == pytest.approx(40, abs=1.5)
    assert {name: order.out_of_order for name, order in verdict.order.items()} == dict.fromkeys(
        ("sent", "stream", "timeseries", "archive"), 0
    )
    (clock,) = verdict.clocks
    assert clock.corrected_ms == 0
    kept = landing.read(run.folder)
    assert len(kept["k"]) == 120
    assert np.isfinite(kept["row_from_ack"]).sum() == verdict.landed["timeseries"].unique
    assert kept["at_s"].max() < 2


@planted
@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("ahead_ms", [-60_000, 60_000])
async def test_a_simulator_whose_clock_is_off_gets_the_same_verdict_and_is_told(
    cloud: Any, make_run: Callable[..., Any], ahead_ms: int
) -> None:
    """The archive's objects are written now, and the run by another clock is a minute off."""
    run = make_run(start_ms=landing_start_ms(ahead_ms))
    await land(cloud, run, ahead_ms=ahead_ms)
    verdict = await verify_run(run.folder, cloud.outputs, cloud.target, progress=lambda _: None)
    (clock,) = verdict.clocks
    assert clock.corrected_ms == pytest.approx(ahead_ms, abs=2)
    assert any("corrected by" in note for note in verdict.notes)
    assert verdict.landing_latency_ms["p99"] == pytest.approx(40, abs=2)
    # What the impatient deadline makes of a slow machine is not what is asked here.
    wrong = {check.name for check in verdict.checks if not check.ok} - {"refused", "archive.late"}
    assert wrong == set()


def landing_start_ms(ahead_ms: int) -> int:
    """When a run began by the simulator's clock that began four seconds ago by the target's."""
    return int(time.time() * 1000) - 4000 - ahead_ms


@planted
async def test_lines_that_passed_others_of_their_device_are_counted(
    cloud: Any, make_run: Callable[..., Any]
) -> None:
    run = make_run()
    lines = [run.payloads[k] for k in sorted(run.payloads)]
    # Twelve devices take turns: the first of a device is put behind its second.
    moved = lines.pop(0)
    lines.insert(12, moved)
    await cloud.put_object([*lines, lines[5]])
    client, outputs = cloud.clients["timestream-query"], cloud.outputs
    deadline_ms = run.info.start_ms + 60_000
    archive = ArchiveReader(
        cloud.clients["s3"], ArchivePlace.of_stack(outputs), run.truth, deadline_ms
    )
    await archive.poll()
    series = TimeSeriesReader(client, outputs, run.info.id, deadline_ms)
    found = landing.orders(await landing.gather(run.folder, run.truth, series, archive))
    assert found["archive"] == Order(len(lines), 1, 1)
    assert "timeseries" not in found


@planted
@pytest.mark.usefixtures("impatient")
async def test_of_very_many_readings_some_devices_are_timed_in_whole(
    cloud: Any, make_run: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(landing, "MOST", 50)
    run = make_run()
    await land(cloud, run)
    verdict = await verify_run(run.folder, cloud.outputs, cloud.target, progress=lambda _: None)
    assert verdict.timed == 120 * 4 // 12
    assert {slow.device for slow in verdict.slowest} == {
        run.truth.fleet.device_ids[device] for device in (0, 3, 6, 9)
    }
    assert all(slow.readings == 10 for slow in verdict.slowest)


@planted
@pytest.mark.usefixtures("impatient")
async def test_a_run_of_which_nothing_was_taken_has_no_times(
    cloud: Any, make_run: Callable[..., Any]
) -> None:
    run = make_run(dict.fromkeys(range(120), "failed"))
    verdict = await verify_run(run.folder, cloud.outputs, cloud.target, progress=lambda _: None)
    assert (verdict.timed, verdict.slowest, verdict.order, verdict.clocks) == (0, [], {}, [])
    assert verdict.latency_ms == {"timeseries": {}, "archive": {}}
    kept = landing.read(run.folder)
    assert all(len(column) == 0 for column in kept.values())
