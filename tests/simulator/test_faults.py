from __future__ import annotations

import json
from collections import Counter, defaultdict

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter

from fleetcast.errors import UsageError
from simulator import ledger
from simulator.batch import ACKED, batch_of
from simulator.codec import Encoder
from simulator.engine import drive
from simulator.faults import REASONS, AnyFault
from simulator.fleet import Fleet
from simulator.scenario import RunInfo
from simulator.schedule import Schedule
from simulator.transports.null import NullTransport
from stack.processor.readings import Refusal, check

SIGNALS = {
    "temperature": {"model": "normal", "mean": 4, "sigma": 1},
    "battery": {"model": "battery", "life": "10h"},
    "count": {"model": "counter", "step": 1},
}
CLASSES = [
    {"name": "chilled", "share": 0.5, "signals": SIGNALS},
    {"name": "plain", "share": 0.5, "signals": {"power": {"model": "constant", "value": 5}}},
]
WINDOW = {"start": "4s", "duration": "4s"}
# One of each kind; the run lasts 12 s, and 40 devices send once a second.
FAULTS = {
    "overheat": {"signal": "temperature", "offset": 80},
    "drift": {"signal": "temperature", "slope": 2},
    "stuck": {"signal": "temperature"},
    "spike": {"signal": "temperature", "height": 50},
    "noise": {"signal": "temperature", "sigma": 20},
    "battery_low": {"level": 2},
    "dropout": {},
    "silence": {},
    "reboot": {},
    "duplicate": {"copies": 3},
    "out_of_order": {"by": "3s"},
    "burst": {"hold": "2s"},
    "reconnect_storm": {"over": "0.5s"},
    "hot_key": {"key": "hot"},
    "late": {"by": "5m"},
    "clock_skew": {"offset": "-90s"},
    "corrupt": {},
    "wrong_type": {},
    "oversize": {"size_bytes": 3000},
    "forged_signature": {},
    "unknown_device": {},
}
VALUE_FAULTS = ["overheat", "drift", "stuck", "spike", "noise", "battery_low"]
PAYLOAD_FAULTS = ["corrupt", "wrong_type", "oversize", "forged_signature", "unknown_device"]


@pytest.fixture
def fleet_of(scenario_of, run_of):
    def make(*faults, part=None, **more):
        more.setdefault("rate", [{"shape": "constant", "rate": "40/s", "duration": "12s"}])
        more.setdefault("classes", CLASSES)
        scenario = scenario_of(devices=40, faults=list(faults), **more)
        return Fleet(scenario, run_of(scenario, part))

    return make


def fault(kind: str, **changes) -> dict:
    told = {"name": kind.replace("_", "-"), "kind": kind, "share": 0.5, **WINDOW, **FAULTS[kind]}
    return {name: value for name, value in (told | changes).items() if value is not None}


def table(fleet, size=64) -> list[dict]:
    """Every reading with all that is told of it."""
    encoder = Encoder(fleet, b"key")
    rows = []
    for block in fleet.blocks(size=size):
        payloads = encoder.encode(block)
        rows.extend(
            {
                "k": int(block.k[i]),
                "device": int(block.device_index[i]),
                "seq": int(block.seq[i]),
                "at": float(block.scheduled_s[i]),
                "ts": int(block.ts_ms[i]) - fleet.run.start_ms,
                "on": int(block.fault[i]),
                "sends": 1 if block.sends is None else int(block.sends[i]),
                "delay": 0.0 if block.delay_s is None else float(block.delay_s[i]),
                "key": None if block.partition_key is None else block.partition_key[i],
                "reason": REASONS[0 if block.refusal is None else int(block.refusal[i])],
                "values": {n: float(v[i]) for n, v in block.values.items()},
                "payload": payloads[i],
            }
            for i in range(len(block))
        )
    return rows


def refusal(payload: bytes) -> str:
    try:
        check(payload, b"key")
    except Refusal as refused:
        return refused.reason
    return ""


def test_every_kind_is_covered_here():
    mapping = TypeAdapter(AnyFault).json_schema()["discriminator"]["mapping"]
    assert set(mapping) == set(FAULTS)


@pytest.mark.parametrize("kind", sorted(FAULTS))
def test_a_fault_leaves_all_outside_its_window_as_it_was(fleet_of, kind):
    sick, well = table(fleet_of(fault(kind))), table(fleet_of())
    assert len(sick) == len(well) == 480
    touched = 0
    for one, other in zip(sick, well, strict=True):
        if not 4 <= one["at"] < 8:
            assert one["on"] == 0
            if kind != "reboot":
                # Those that a fault does not touch may be told their key, the usual one.
                one["key"] = other["key"] = None
                assert str(one) == str(other)
        touched += one["on"] > 0
    # Half of the devices, or of those that have the signal, four readings each; or as many by chance.
    assert touched == pytest.approx(40 if kind in VALUE_FAULTS else 80, abs=20)


@settings(deadline=None, max_examples=40)
@given(
    kinds=st.lists(st.sampled_from(sorted(FAULTS)), min_size=1, max_size=4, unique=True),
    size=st.integers(1, 40),
    cut=st.integers(0, 40),
    first=st.integers(0, 300),
)
def test_faults_do_not_depend_on_blocks_slices_or_where_one_begins(
    scenario_of, run_of, kinds, size, cut, first
):
    if {"late", "clock_skew"} <= set(kinds):
        kinds = [kind for kind in kinds if kind != "late"]
    scenario = scenario_of(
        devices=40,
        classes=CLASSES,
        rate=[{"shape": "constant", "rate": "40/s", "duration": "12s"}],
        faults=[fault(kind, every="5s") for kind in kinds],
    )
    whole = table(Fleet(scenario, run_of(scenario)))
    for row in whole:
        row["key"] = None if row["key"] != "hot" else "hot"
    parts = []
    for part in ((0, cut), (cut, 40)):
        parts += table(Fleet(scenario, run_of(scenario, part)), size)
    for row in parts:
        row["key"] = None if row["key"] != "hot" else "hot"
    assert sorted(map(str, parts)) == sorted(map(str, whole))
    fleet = Fleet(scenario, run_of(scenario))
    told = [int(k) for block in fleet.blocks(first, None, size) for k in block.fault]
    assert told == [row["on"] for row in whole[first:]]


@pytest.mark.parametrize("kind", sorted(FAULTS))
def test_the_processor_takes_or_refuses_as_it_is_expected_to(fleet_of, kind):
    rows = table(fleet_of(fault(kind, share=0.8)))
    payloads = [row["payload"] for row in rows]
    assert len(set(payloads)) == len(payloads)
    assert not any(b"\n" in payload for payload in payloads)
    reasons = Counter(row["reason"] for row in rows)
    for row in rows:
        assert refusal(row["payload"]) == row["reason"]
    assert (len(reasons) > 1) == (kind in PAYLOAD_FAULTS)


def test_values_are_off_as_the_faults_say(fleet_of):
    well = table(fleet_of())
    for kind in VALUE_FAULTS:
        name = "battery" if kind == "battery_low" else "temperature"
        held: dict[int, float] = {}
        for row, sound in zip(table(fleet_of(fault(kind))), well, strict=True):
            got, true = row["values"][name], sound["values"][name]
            others = {n: v for n, v in row["values"].items() if n != name}
            assert str(others) == str({n: v for n, v in sound["values"].items() if n != name})
            if not row["on"]:
                assert str(got) == str(true)
                continue
            match kind:
                case "overheat":
                    assert got == pytest.approx(true + 80, abs=0.011)
                case "drift":
                    assert got == pytest.approx(true + 2 * (row["at"] - 4), abs=0.011)
                case "stuck":
                    assert got == held.setdefault(row["device"], true)
                case "spike":
                    assert abs(got - true) == pytest.approx(50, abs=0.011)
                case "battery_low":
                    assert got == 2
        assert kind != "stuck" or len(held) == 10


def test_a_spike_goes_where_it_is_told_and_noise_has_its_spread(fleet_of):
    for direction, sign in (("up", {1}), ("down", {-1}), ("both", {1, -1})):
        rows = table(fleet_of(fault("spike", direction=direction)))
        signs = {np.sign(r["values"]["temperature"] - 4) for r in rows if r["on"]}
        assert signs == sign
    long = [{"shape": "constant", "rate": "400/s", "duration": "60s"}]
    noisy = fault("noise", start="0s", duration="60s", share=1)
    rows = table(fleet_of(noisy, rate=long))
    values = np.array([r["values"]["temperature"] for r in rows if r["on"]])
    assert values.std() == pytest.approx(np.hypot(20, 1), rel=0.03)


def test_a_stuck_sensor_holds_another_value_in_each_window_or_the_one_it_is_told(fleet_of):
    rows = table(fleet_of(fault("stuck", start="0s", duration="2s", every="4s", share=1)))
    seen = defaultdict(set)
    for row in rows:
        if row["on"]:
            seen[row["device"], int(row["at"] // 4)].add(row["values"]["temperature"])
    assert all(len(values) == 1 for values in seen.values())
    assert len(seen) == 60
    assert len({min(values) for values in seen.values()}) > 40
    told = table(fleet_of(fault("stuck", value=7)))
    assert {row["values"]["temperature"] for row in told if row["on"]} == {7}


def test_what_is_silent_or_dropped_is_not_sent_and_keeps_its_seq(fleet_of):
    silent = table(fleet_of(fault("silence")))
    quiet = {row["device"] for row in silent if not row["sends"]}
    assert len(quiet) == 20
    for row in silent:
        assert row["sends"] == (0 if row["device"] in quiet and 4 <= row["at"] < 8 else 1)
        assert row["seq"] == row["k"] // 40
    dropped = [row for row in table(fleet_of(fault("dropout"))) if not row["sends"]]
    assert len(dropped) == pytest.approx(80, abs=20)
    assert len({row["device"] for row in dropped}) > 25


def test_a_reboot_sets_counters_back_and_the_seq_goes_on(fleet_of):
    rows = [r for r in table(fleet_of(fault("reboot"))) if not np.isnan(r["values"]["count"])]
    rebooted = {row["device"] for row in rows if not row["sends"]}
    assert rebooted
    for row in rows:
        count = row["values"]["count"]
        booted = row["device"] in rebooted and row["at"] >= 8
        assert count == (row["seq"] - 7 if booted else row["seq"] + 1)
    often = fault("reboot", start="1s", duration="1s", every="3s", share=1)
    counts = [
        r["values"]["count"] for r in table(fleet_of(often)) if r["device"] == rows[0]["device"]
    ]
    # Down in seconds 1, 4, 7 and 10; up again, and at 1, in seconds 2, 5, 8 and 11.
    assert [counts[second] for second in (2, 5, 8, 11)] == [1, 1, 1, 1]


def test_what_is_left_out_stays_so_whatever_else_would_send_it(fleet_of):
    everything = {"share": 1}
    for order in (("silence", "duplicate"), ("duplicate", "silence")):
        rows = table(fleet_of(*(fault(kind, **everything) for kind in order)))
        assert {row["sends"] for row in rows if 4 <= row["at"] < 8} == {0}


def test_readings_are_held_back_as_long_as_the_faults_say(fleet_of):
    shuffled = table(fleet_of(fault("out_of_order", share=1)))
    late = [row["delay"] for row in shuffled if 4 <= row["at"] < 8]
    assert 0 <= min(late) < 0.3
    assert 2.7 < max(late) < 3
    released = [row["at"] + row["delay"] for row in shuffled]
    assert released != sorted(released)
    for row in table(fleet_of(fault("burst", share=1))):
        expected = {4: 6, 5: 6, 6: 8, 7: 8}.get(int(row["at"]), row["at"])
        assert row["at"] + row["delay"] == pytest.approx(expected)
    back = {}
    for row in table(fleet_of(fault("reconnect_storm", share=1))):
        if 4 <= row["at"] < 8:
            when = row["at"] + row["delay"]
            assert 8 <= when < 8.5
            assert back.setdefault(row["device"], when) == pytest.approx(when)
    assert len({round(when, 6) for when in back.values()}) > 35


def test_nothing_is_held_back_beyond_the_end_of_the_run(fleet_of):
    rows = table(fleet_of(fault("out_of_order", by="1h", share=1, start="0s", duration="12s")))
    assert max(row["at"] + row["delay"] for row in rows) == pytest.approx(12)


def test_a_hot_key_is_on_its_readings_alone(fleet_of):
    fleet = fleet_of(fault("hot_key", key="one shard"))
    for row in table(fleet):
        if row["on"]:
            assert row["key"] == "one shard"
        else:
            assert row["key"] in {None, fleet.device_ids[row["device"]]}


@pytest.mark.parametrize(
    ("kind", "changes", "shift_s", "rejected"),
    [
        ("late", {"by": "5m"}, -300, False),
        ("late", {"by": "3d"}, -3 * 86400, True),
        ("clock_skew", {"offset": "90s"}, 90, False),
        ("clock_skew", {"offset": "-2m"}, -120, False),
        ("clock_skew", {"offset": "20m"}, 1200, True),
    ],
)
def test_timestamps_are_moved_and_what_timestream_rejects_is_known(
    fleet_of, kind, changes, shift_s, rejected
):
    for row in table(fleet_of(fault(kind, **changes))):
        expected = row["at"] * 1000 + (shift_s * 1000 if row["on"] else 0)
        assert row["ts"] == pytest.approx(expected, abs=2.01)
        assert row["reason"] == ("timestream_rejected" if row["on"] and rejected else "")
        if not refusal(row["payload"]):
            assert json.loads(row["payload"])["ts"] == row["ts"] + 1_700_000_000_000


@settings(deadline=None, max_examples=60)
@given(shift_ms=st.integers(-9000, 9000).filter(bool), rate=st.sampled_from([40, 333, 4000, 20000]))
def test_no_device_has_two_readings_of_one_time(scenario_of, run_of, shift_ms, rate):
    scenario = scenario_of(
        devices=40,
        classes=CLASSES,
        rate=[{"shape": "constant", "rate": rate, "duration": 400 / rate * 3}],
        faults=[
            {
                "name": "skewed",
                "kind": "clock_skew",
                "offset": shift_ms / 1000,
                "share": 0.7,
                "start": 100 / rate,
                "duration": 500 / rate,
            }
        ],
    )
    fleet = Fleet(scenario, run_of(scenario))
    seen = set()
    for block in fleet.blocks():
        seen |= set(zip(block.device_index.tolist(), block.ts_ms.tolist(), strict=True))
    assert len(seen) == fleet.total


def test_the_memory_stores_retention_decides_what_is_too_late(fleet_of):
    for hours, reason in ((1, "timestream_rejected"), (48, "")):
        rows = table(fleet_of(fault("late", by="2h"), expect={"memory_hours": hours}))
        assert {row["reason"] for row in rows if row["on"]} == {reason}


def test_a_broken_payload_is_refused_for_that_before_its_time_is_looked_at(fleet_of):
    both = [fault("late", by="3d", share=1), fault("corrupt", share=1, kinds=["truncated"])]
    for order in (both, both[::-1]):
        rows = table(fleet_of(*order))
        assert {row["reason"] for row in rows if 4 <= row["at"] < 8} == {"not_json"}


def test_each_way_of_a_wrong_type_and_the_rest_are_refused_for_it(fleet_of):
    for field in ("device", "seq", "signal", "signals", "site", "ts"):
        rows = table(fleet_of(fault("wrong_type", fields=[field], share=1)))
        assert {row["reason"] for row in rows if row["on"]} == {"wrong_type"}
        for row in rows:
            assert refusal(row["payload"]) == row["reason"]
    big = [r["payload"] for r in table(fleet_of(fault("oversize", size_bytes=200_000))) if r["on"]]
    assert all(200_000 <= len(payload) < 201_000 for payload in big)
    ghosts = [r["payload"] for r in table(fleet_of(fault("unknown_device"))) if r["on"]]
    assert all(json.loads(p)["device"].startswith("ghost-0000") for p in ghosts)


def test_faults_are_on_the_classes_and_devices_that_they_name(fleet_of):
    fleet = fleet_of()
    chilled = set(np.flatnonzero(fleet.class_of == 0).tolist())
    cases = [
        ({"classes": ["chilled"], "share": None}, chilled),
        ({"devices": [3, "dev-000007", "10-12"], "share": None}, {3, 7, 10, 11, 12}),
        ({"devices": ["0-39"], "classes": ["plain"], "share": None}, set(range(40)) - chilled),
    ]
    for chosen, expected in cases:
        rows = table(fleet_of(fault("silence", **chosen)))
        assert {row["device"] for row in rows if row["on"]} == expected
    half = table(fleet_of(fault("silence", classes=["chilled"], share=0.5)))
    devices = {row["device"] for row in half if row["on"]}
    assert len(devices) == 10
    assert devices <= chilled


def test_a_share_is_of_devices_or_of_readings_as_it_is_told(fleet_of):
    whole = table(fleet_of(fault("corrupt", of="devices", kinds=["truncated"])))
    broken = Counter(row["device"] for row in whole if row["on"])
    assert len(broken) == 20
    assert set(broken.values()) == {4}
    single = table(fleet_of(fault("silence", of="readings")))
    assert len({row["device"] for row in single if not row["sends"]}) > 25


def test_a_window_comes_again(fleet_of):
    rows = table(fleet_of(fault("silence", start="1s", duration="1s", every="3s", share=1)))
    seconds = {int(row["at"]) for row in rows if row["on"]}
    assert seconds == {1, 4, 7, 10}
    stretched = fleet_of(fault("silence", every="5s")).scenario.with_overrides(duration="24s")
    assert (stretched.faults[0].every, stretched.faults[0].end_s) == (10, float("inf"))


def test_what_a_transport_cannot_express_is_refused_by_name(fleet_of):
    scenario = fleet_of(fault("hot_key")).scenario
    run = RunInfo("r", 1, "local", "t", "mqtt", (0, 40))
    with pytest.raises(UsageError, match="fault hot-key: over mqtt"):
        Fleet(scenario, run)


@pytest.mark.parametrize("kind", sorted(FAULTS))
def test_a_fault_is_written_as_it_is_read(kind):
    adapter = TypeAdapter(AnyFault)
    told = adapter.validate_python(fault(kind, every="9s", devices=[1, "3-4"]))
    assert adapter.validate_python(told.model_dump(mode="json")) == told


@pytest.mark.asyncio
async def test_the_engine_sends_as_often_and_as_late_as_it_is_told(tmp_path, fleet_of):
    short = {"start": "0.2s", "duration": "0.5s"}
    faults = [
        fault("silence", share=0.25, **short),
        fault("duplicate", classes=["plain"], share=1, **short),
        fault("out_of_order", by="0.4s", share=1, **short),
        fault("hot_key", share=0.5, **short),
    ]
    rate = [{"shape": "constant", "rate": "400/s", "duration": "1s"}]
    fleet = fleet_of(*faults, rate=rate)
    rows = {row["k"]: row for row in table(fleet)}
    sent: list = []

    class Listening(NullTransport):
        def send(self, batch):
            told = batch.rows[["k", "scheduled_ns"]].tolist()
            sent.extend(zip(told, batch.payloads, batch.keys, strict=True))
            super().send(batch)

    fleet.scenario.save(tmp_path / "scenario.yaml", fleet.run)
    summary = await drive(
        fleet.scenario, fleet.run, b"key", tmp_path, Listening, progress=lambda _: None
    )
    expected = sum(row["sends"] for row in rows.values())
    assert (summary.sent, summary.acked, summary.complete) == (expected, expected, True)
    assert summary.target_rate == pytest.approx(expected)
    copies = Counter(k for (k, _), _, _ in sent)
    assert copies == Counter({k: row["sends"] for k, row in rows.items() if row["sends"]})
    for (k, due_ns), payload, key in sent:
        row = rows[k]
        assert payload == row["payload"]
        assert key == (row["key"] or fleet.device_ids[row["device"]])
        expected_ns = fleet.run.start_ms * 1_000_000 + (row["at"] + row["delay"]) * 1e9
        assert abs(due_ns - expected_ns) < 1000
    told = ledger.read(tmp_path)
    assert Counter(told.column("k").to_pylist()) == copies
    assert set(told.column("outcome").to_pylist()) == {"acked"}


def test_copies_that_were_released_and_are_in_no_part_are_unknown(tmp_path, fleet_of):
    fleet = fleet_of(fault("duplicate", share=0.5), fault("dropout", share=0.2))
    fleet.scenario.save(tmp_path / "scenario.yaml", fleet.run)
    rows = table(fleet)
    first = next(row for row in rows if row["sends"] == 3)
    with ledger.LedgerWriter(tmp_path, fleet) as writer:
        writer.release(300)
        block = next(fleet.blocks(first["k"], first["k"] + 1))
        done = batch_of(fleet, block, [first["payload"]])
        done.rows["outcome"], done.rows["attempts"] = ACKED, 1
        writer.record(done)
    told = ledger.read(tmp_path)
    found = Counter(told.column("k").to_pylist())
    assert found == Counter({r["k"]: r["sends"] for r in rows[:300] if r["sends"]})
    mine = [r["outcome"] for r in told.to_pylist() if r["k"] == first["k"]]
    assert sorted(mine) == ["acked", "unknown", "unknown"]


@pytest.mark.parametrize("kind", ["out_of_order", "burst", "reconnect_storm", "silence"])
def test_each_reading_leaves_in_the_moment_that_it_is_released(fleet_of, kind):
    fleet = fleet_of(fault(kind, share=0.6))
    schedule = Schedule(fleet, Encoder(fleet, b"key"), 64)
    seen = []
    for tick in range(1300):
        schedule.refill(200, 200)
        now_ns = fleet.run.start_ms * 1_000_000 + tick * 10_000_000
        for batch in schedule.take(now_ns):
            assert (batch.rows["scheduled_ns"] <= now_ns).all()
            assert (batch.rows["scheduled_ns"] > now_ns - 10_000_000).all()
            seen += batch.rows["k"].tolist()
    assert schedule.ended
    assert sorted(seen) == [row["k"] for row in table(fleet) if row["sends"]]
