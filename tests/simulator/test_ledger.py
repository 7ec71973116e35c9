from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections import Counter
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fleetcast.errors import TargetError, UsageError
from simulator import batch as batch_numbers
from simulator import ledger
from simulator.batch import Batch, batch_of
from simulator.codec import Encoder
from simulator.columns import of_maybe, of_words
from simulator.fleet import Fleet
from simulator.ledger import ACKED, FAILED, UNKNOWN, LedgerWriter

# Takes its run from a folder and drives it; even readings land, odd ones never get an answer.
DRIVER = """
import asyncio, dataclasses, sys, time
from pathlib import Path
import numpy as np
from simulator import ledger
from simulator.batch import ACKED
from simulator.columns import of_maybe, of_words
from simulator.engine import drive
from simulator.scenario import load_run
from simulator.transports import Traffic

ledger.PART_ROWS, ledger.PART_S = 40, 0

class Half:
    in_flight = backlog = 0
    def __init__(self, done):
        self.done, self.traffic = done, Traffic()
    async def __aenter__(self):
        return self
    async def __aexit__(self, *_):
        pass
    def send(self, batch):
        landed = batch.take(np.flatnonzero(batch.rows["k"] % 2 == 0))
        landed.rows["outcome"], landed.rows["attempts"] = ACKED, 1
        landed.rows["sent_ns"] = landed.rows["acked_ns"] = time.time_ns()
        landed.shards = of_words(["s-0"] * len(landed))
        landed.sequence_numbers = of_maybe([str(k) for k in landed.rows["k"]])
        self.done(landed)
    async def drain(self):
        await asyncio.Event().wait()
    async def abandon(self, grace_s):
        pass

folder = Path(sys.argv[1])
scenario, run = load_run(folder)
asyncio.run(drive(scenario, run, b"key", folder, Half, progress=lambda _: None))
"""


def readings_of(scenario, run, count: int) -> Batch:
    """The first readings of a run, not sent yet."""
    fleet = Fleet(scenario, run)
    encoder = Encoder(fleet, b"key")
    made = Batch.joined(
        [batch_of(fleet, block, encoder.encode(block)) for block in fleet.blocks(0, count)]
    )
    assert len(made) == count
    return made


def ack(batch: Batch) -> Batch:
    rows = batch.rows
    rows["outcome"], rows["attempts"] = batch_numbers.ACKED, 1
    rows["sent_ns"], rows["acked_ns"] = rows["scheduled_ns"] + 1, rows["scheduled_ns"] + 2
    batch.shards = of_words(["shardId-000000000001"] * len(batch))
    batch.sequence_numbers = of_maybe([f"49{k:054d}" for k in rows["k"]])
    return batch


def planned(scenario, run, count: int) -> list[dict]:
    """What the ledger must have of the first readings of a run before they are sent."""
    fleet = Fleet(scenario, run)
    faults = ["", *(fault.name for fault in scenario.faults)]
    return [
        {
            "k": int(row["k"]),
            "device": fleet.device_ids[row["device"]],
            "seq": int(row["seq"]),
            "event_time_ns": int(row["ts_ms"]) * 1_000_000,
            "scheduled_ns": int(row["scheduled_ns"]),
            "fault": faults[row["fault"]],
        }
        for row in readings_of(scenario, run, count).rows
    ]


def writing(folder, scenario, run) -> LedgerWriter:
    return LedgerWriter(folder, Fleet(scenario, run))


@pytest.fixture
def started(tmp_path, scenario_of, run_of):
    scenario = scenario_of(
        faults=[{"name": "broken", "kind": "corrupt", "share": 0.3, "duration": "5s"}]
    )
    run = run_of(scenario)
    scenario.save(tmp_path / "scenario.yaml", run)
    return tmp_path, scenario, run


@pytest.mark.parametrize("kinds", ["repeated", "repeated each none", "none", "each none each"])
def test_where_readings_landed_comes_back_however_it_was_told(started, kinds):
    folder, scenario, run = started
    told = []
    whole = ack(readings_of(scenario, run, 100))
    with writing(folder, scenario, run) as writer:
        writer.release(100)
        for number, kind in enumerate(kinds.split()):
            batch = whole.part(20 * number, 20 * number + 20)
            numbers = [str(1000 * number + place // 5) for place in range(20)]
            batch.shards = of_words([f"s-{number}", "s-9"] * 10)
            if kind == "repeated":
                some = of_maybe(numbers[::5])
                batch.sequence_numbers = some.repeated(np.repeat(np.arange(4), 5))
            else:
                batch.sequence_numbers = of_maybe(numbers)
            if kind == "none":
                batch.shards = batch.sequence_numbers = None
            told += (
                [(None, None)] * 20 if kind == "none" else zip(batch.shards, numbers, strict=True)
            )
            writer.record(batch)
    table = ledger.read(folder)
    assert table.schema == ledger.SCHEMA
    rows = zip(table["shard"].to_pylist(), table["sequence_number"].to_pylist(), strict=True)
    assert list(rows)[: len(told)] == told


def test_rows_come_back_as_they_were_written(started):
    folder, scenario, run = started
    batch = ack(readings_of(scenario, run, 100))
    batch.rows["outcome"][3], batch.rows["acked_ns"][3] = batch_numbers.FAILED, 0
    batch.shards = batch.shards.replaced({3: None})
    batch.sequence_numbers = batch.sequence_numbers.replaced({3: None})
    with writing(folder, scenario, run) as writer:
        writer.release(100)
        writer.record(batch)
    table = ledger.read(folder)
    assert table.schema == ledger.SCHEMA
    expected = [
        {
            **row,
            "run": "run-1",
            "sent_ns": row["scheduled_ns"] + 1,
            "acked_ns": row["scheduled_ns"] + 2,
            "attempts": 1,
            "outcome": ACKED,
            "shard": "shardId-000000000001",
            "sequence_number": f"49{row['k']:054d}",
        }
        for row in planned(scenario, run, 100)
    ]
    expected[3].update(outcome=FAILED, acked_ns=None, shard=None, sequence_number=None)
    assert table.to_pylist() == [
        {name: row[name] for name in ledger.SCHEMA.names} for row in expected
    ]
    assert "broken" in table.column("fault").to_pylist()


def test_rows_come_back_in_the_order_of_the_readings(started):
    folder, scenario, run = started
    batch = ack(readings_of(scenario, run, 60))
    with writing(folder, scenario, run) as writer:
        writer.release(60)
        writer.record(batch.part(40, 60))
        writer.flush()
        writer.record(batch.part(20, 40))
        writer.record(batch.part(0, 20))
    table = ledger.read(folder)
    assert table.column("k").to_pylist() == list(range(60))
    numbers = [int(number) for number in table.column("sequence_number").to_pylist()]
    assert numbers == sorted(numbers)


def test_a_part_is_written_when_it_is_full_and_at_the_end(started, monkeypatch):
    monkeypatch.setattr(ledger, "PART_ROWS", 10)
    monkeypatch.setattr(ledger, "PART_S", 0)
    folder, scenario, run = started
    batch = ack(readings_of(scenario, run, 25))
    parts = folder / "ledger"
    with writing(folder, scenario, run) as writer:
        writer.release(25)
        for place in range(25):
            writer.record(batch.part(place, place + 1))
        give_up_s = time.monotonic() + 60
        while len(list(parts.glob("part-*.parquet"))) < 2 and time.monotonic() < give_up_s:
            time.sleep(0.001)
        assert [part.name for part in sorted(parts.glob("part-*"))] == [
            "part-00000000-00000050-000000.parquet",
            "part-00000000-00000050-000001.parquet",
        ]
    sizes = [pq.read_metadata(part).num_rows for part in sorted(parts.glob("part-*.parquet"))]
    assert sizes == [10, 10, 5]
    assert ledger.read(folder).num_rows == 25


def test_parts_are_larger_where_they_would_follow_each_other_at_once(started, monkeypatch):
    monkeypatch.setattr(ledger, "PART_ROWS", 5)
    monkeypatch.setattr(ledger, "MOST_PART_ROWS", 20)
    now_s = 1000.0
    monkeypatch.setattr(ledger.time, "monotonic", lambda: now_s)
    folder, scenario, run = started
    batch = ack(readings_of(scenario, run, 50))
    with writing(folder, scenario, run) as writer:
        writer.release(50)
        # One at once, one of as many as a part may have, and one when its time has come.
        for place in range(33):
            writer.record(batch.part(place, place + 1))
        now_s += ledger.PART_S
        for place in range(33, 36):
            writer.record(batch.part(place, place + 1))
    parts = sorted((folder / "ledger").glob("part-*.parquet"))
    assert [pq.read_metadata(part).num_rows for part in parts] == [5, 20, 9, 2]


def test_a_part_that_cannot_be_written_is_told(started, monkeypatch):
    folder, scenario, run = started
    monkeypatch.setattr(ledger, "PART_ROWS", 10)
    monkeypatch.setattr(ledger, "PART_S", 0)
    writer = writing(folder, scenario, run)
    monkeypatch.setattr(writer, "_folder", folder / "gone")
    writer.record(ack(readings_of(scenario, run, 25)))
    with pytest.raises(
        TargetError, match=r"the ledger in .*gone cannot be written: .*No such file"
    ):
        writer.close()


def test_the_journal_tells_what_is_released_before_it_is_sent(started):
    folder, scenario, run = started
    writer = writing(folder, scenario, run)
    journal = folder / "ledger" / "released-00000000-00000050.jsonl"
    assert [json.loads(line) for line in journal.read_text().splitlines()] == [{"slice": [0, 50]}]
    writer.release(7)
    writer.release(19, 5)
    told = [json.loads(line) for line in journal.read_text().splitlines()]
    assert told == [{"slice": [0, 50]}, {"released": 7}, {"released": 19, "until_ns": 5}]
    writer.close()


def test_a_run_that_released_nothing_has_an_empty_ledger(started):
    folder, scenario, run = started
    writing(folder, scenario, run).close()
    table = ledger.read(folder)
    assert table.num_rows == 0
    assert table.schema == ledger.SCHEMA


def test_what_was_released_and_is_in_no_part_is_unknown(started):
    folder, scenario, run = started
    batch = readings_of(scenario, run, 60)
    with writing(folder, scenario, run) as writer:
        writer.release(80)
        writer.record(ack(batch.take(np.flatnonzero(batch.rows["k"] % 3))))
    told = ledger.read(folder).to_pylist()
    assert [row["k"] for row in told] == list(range(80))
    for row, plan in zip(told, planned(scenario, run, 80), strict=True):
        landed = plan["k"] < 60 and plan["k"] % 3 != 0
        assert row["outcome"] == (ACKED if landed else UNKNOWN)
        assert row["attempts"] == (1 if landed else 0)
        assert {name: row[name] for name in plan} == plan
        if not landed:
            assert row["run"] == run.id
            assert row["sent_ns"] is row["acked_ns"] is row["sequence_number"] is None


def test_what_is_held_back_at_the_end_was_not_released(started):
    folder, scenario, run = started
    plan = planned(scenario, run, 30)
    with writing(folder, scenario, run) as writer:
        writer.release(30, plan[19]["scheduled_ns"])
    told = ledger.read(folder).to_pylist()
    assert [row["k"] for row in told] == list(range(20))
    assert {row["outcome"] for row in told} == {UNKNOWN}


def test_a_line_of_the_journal_that_was_cut_off_is_left_out(started):
    folder, scenario, run = started
    with writing(folder, scenario, run) as writer:
        writer.release(12)
    journal = folder / "ledger" / "released-00000000-00000050.jsonl"
    with journal.open("a") as file:
        file.write('{"released": 4')
    assert Counter(ledger.read(folder).column("outcome").to_pylist()) == {UNKNOWN: 12}


def test_a_part_that_was_never_finished_is_left_out(started):
    folder, scenario, run = started
    with writing(folder, scenario, run) as writer:
        writer.release(12)
    (folder / "ledger" / "part-00000000-00000050-000000.tmp").write_bytes(b"PAR1half")
    assert Counter(ledger.read(folder).column("outcome").to_pylist()) == {UNKNOWN: 12}


def test_the_slices_of_several_processes_make_one_ledger(started, run_of):
    folder, scenario, _ = started
    first, second = run_of(scenario, (0, 20)), run_of(scenario, (20, 50))
    one = ack(readings_of(scenario, first, 200))
    with writing(folder, scenario, first) as writer:
        writer.release(200)
        writer.record(one)
    with writing(folder, scenario, second) as writer:
        writer.release(30)
    told = ledger.read(folder).to_pylist()
    assert [row["k"] for row in told if row["outcome"] == ACKED] == one.rows["k"].tolist()
    lost = [row for row in told if row["outcome"] == UNKNOWN]
    assert [(row["k"], row["device"]) for row in lost] == [
        (plan["k"], plan["device"]) for plan in planned(scenario, second, 30)
    ]
    assert len(told) == 230
    assert ledger.slices(folder) == [(0, 20), (20, 50)]


def test_a_folder_without_a_ledger_is_refused(tmp_path):
    with pytest.raises(UsageError) as caught:
        ledger.read(tmp_path)
    assert str(caught.value) == f"no ledger in {tmp_path}: was the run ever started?"


@pytest.fixture
def written(started):
    folder, scenario, run = started
    with writing(folder, scenario, run) as writer:
        writer.release(100)
        writer.record(ack(readings_of(scenario, run, 100)))
    return folder, folder / "ledger" / "part-00000000-00000050-000000.parquet"


@pytest.fixture
def intact(written):
    folder, part = written
    return SimpleNamespace(part=part.read_bytes(), table=ledger.read(folder))


def test_a_damaged_part_is_refused_by_name(written):
    folder, part = written
    whole = part.read_bytes()
    for damaged in (b"", b"PAR1", whole[: len(whole) // 2], whole[:-9] + b"\xff" + whole[-8:]):
        part.write_bytes(damaged)
        with pytest.raises(UsageError) as caught:
            ledger.read(folder)
        assert str(caught.value).startswith(f"{part} is no readable part of a ledger: ")


@pytest.mark.parametrize(
    "other",
    [
        {"k": pa.array(["zero", "one"])},
        {"k": pa.array([[0], [1]])},
        {"unlike": pa.array([1, 2])},
        {"k": pa.array([0, 1], pa.int64())},
    ],
)
def test_a_part_with_other_columns_is_refused_by_name(written, other):
    folder, part = written
    pq.write_table(pa.table(other), part)
    with pytest.raises(UsageError) as caught:
        ledger.read(folder)
    assert str(caught.value).startswith(f"{part} is no readable part of a ledger: ")


@settings(
    deadline=None, max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
def test_a_flipped_bit_is_never_taken_for_a_reading(written, intact, data):
    folder, part = written
    damaged = bytearray(intact.part)
    damaged[data.draw(st.integers(0, len(damaged) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    part.write_bytes(damaged)
    try:
        told = ledger.read(folder)
    except UsageError as error:
        complaint = str(error)
    else:
        assert told.equals(intact.table)
        return
    assert complaint.startswith(f"{part} is no readable part of a ledger: ")


def test_a_killed_process_leaves_a_ledger_in_which_what_was_on_its_way_is_unknown(
    tmp_path, scenario_of, run_of
):
    scenario = scenario_of(rate=[{"shape": "constant", "rate": "1000/s", "duration": "10m"}])
    run = run_of(scenario, start_ms=int(time.time() * 1000))
    scenario.save(tmp_path / "scenario.yaml", run)
    folder = tmp_path / "ledger"
    child = subprocess.Popen([sys.executable, "-c", DRIVER, str(tmp_path)])
    try:
        while len(list(folder.glob("part-*.parquet"))) < 5:
            assert child.poll() is None, "the run ended by itself"
            time.sleep(0.01)
    finally:
        child.send_signal(signal.SIGKILL)
        child.wait()
    assert child.returncode == -signal.SIGKILL

    journal = (folder / "released-00000000-00000050.jsonl").read_text().splitlines()
    released = json.loads(journal[-1])["released"]
    parts = [pq.read_table(part) for part in folder.glob("part-*.parquet")]
    landed = {k for part in parts for k in part.column("k").to_pylist()}
    told = ledger.read(tmp_path).to_pylist()
    assert len(landed) >= 200
    assert all(k % 2 == 0 for k in landed)
    assert [row["k"] for row in told] == list(range(released))
    assert {row["k"] for row in told if row["outcome"] == ACKED} == landed
    assert {row["k"] for row in told if row["outcome"] == UNKNOWN} == (
        set(range(released)) - landed
    )
    plan = planned(scenario, run, released)
    assert [{name: row[name] for name in plan[0]} for row in told] == plan
