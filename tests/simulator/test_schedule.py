from __future__ import annotations

from collections import Counter
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from simulator import ledger
from simulator.batch import ACKED, FAILED, UNKNOWN, Batch
from simulator.codec import Encoder
from simulator.fleet import Fleet
from simulator.ledger import LedgerWriter
from simulator.measure import Book
from simulator.schedule import Schedule

LATE_S = 1.5


class Faulty(Fleet):
    """A fleet whose readings with k % 10 of 1 are never sent, 2 sent thrice, 3 late, 4 rekeyed."""

    def blocks(self, *args, **more):
        for block in super().blocks(*args, **more):
            of_ten = block.k % 10
            yield replace(
                block,
                sends=np.where(of_ten == 1, 0, np.where(of_ten == 2, 3, 1)).astype(np.int8),
                delay_s=np.where(of_ten == 3, LATE_S, 0.0),
                partition_key=[
                    "hot" if n == 4 else self.device_ids[d]
                    for n, d in zip(of_ten.tolist(), block.device_index.tolist(), strict=True)
                ],
            )


@pytest.fixture
def faulty(scenario_of, run_of):
    scenario = scenario_of()
    run = run_of(scenario)
    fleet = Faulty(scenario, run)
    return SimpleNamespace(
        scenario=scenario, run=run, fleet=fleet, start_ns=run.start_ms * 1_000_000,
        schedule=Schedule(fleet, Encoder(fleet, b"key"), 64),
    )  # fmt: skip


def taken(faulty, at_s: float) -> Batch:
    faulty.schedule.refill(10_000, 10_000)
    return Batch.joined(faulty.schedule.take(faulty.start_ns + round(at_s * 1e9)))


def test_readings_leave_when_they_are_due_as_often_as_their_device_sends_them(faulty):
    first = taken(faulty, 0.995)
    numbers = Counter(first.rows["k"].tolist())
    assert numbers == {k: 3 if k % 10 == 2 else 1 for k in range(100) if k % 10 not in {1, 3}}
    copies = np.flatnonzero(first.rows["k"] == 2)
    assert copies.tolist() == list(range(copies[0], copies[0] + 3))
    assert len({first.payloads[place] for place in copies}) == 1
    assert (faulty.schedule.released, faulty.schedule.withheld) == (100, 10)
    keys = dict(zip(first.rows["k"].tolist(), first.keys, strict=True))
    assert {k for k, key in keys.items() if key == "hot"} == set(range(4, 100, 10))


def test_what_is_late_leaves_later_and_its_lag_counts_from_then(faulty):
    taken(faulty, 0.995)
    assert faulty.schedule.next_ns == faulty.start_ns + 1_000_000_000
    later = taken(faulty, 1.0 + LATE_S)
    late = later.rows[later.rows["k"] < 100]
    assert late["k"].tolist() == list(range(3, 100, 10))
    assert ((late["scheduled_ns"] - late["due_ns"]) == round(LATE_S * 1e9)).all()
    assert not faulty.schedule.ended
    rest = taken(faulty, 10.0)
    assert faulty.schedule.ended
    assert faulty.schedule.next_ns is None
    late = rest.rows["k"][rest.rows["k"] % 10 == 3]
    assert sorted(late.tolist()) == list(range(103, 500, 10))


class Late(Fleet):
    """A fleet of whose readings every other is late."""

    def blocks(self, *args, **more):
        for block in super().blocks(*args, **more):
            yield replace(block, delay_s=np.where(block.k % 2, LATE_S, 0.0))


def test_what_comes_after_a_late_reading_does_not_wait_for_it(faulty):
    schedule = Schedule(Late(faulty.scenario, faulty.run), Encoder(faulty.fleet, b"key"), 64)
    schedule.refill(10_000, 10_000)
    seen: set[int] = set()
    for tick in range(100):
        for batch in schedule.take(faulty.start_ns + tick * 10_000_000):
            seen.update(batch.rows["k"].tolist())
        # A reading is due every 10 ms.
        assert seen == set(range(0, tick + 1, 2))


def test_all_of_it_is_every_reading_but_those_that_are_never_sent(faulty):
    everything = taken(faulty, 100.0)
    numbers = Counter(everything.rows["k"].tolist())
    assert numbers == {k: 3 if k % 10 == 2 else 1 for k in range(500) if k % 10 != 1}


def test_each_copy_of_a_reading_has_a_row_with_its_own_outcome(faulty, tmp_path):
    faulty.scenario.save(tmp_path / "scenario.yaml", faulty.run)
    everything = taken(faulty, 100.0)
    copies = everything.take(np.flatnonzero(everything.rows["k"] == 2))
    copies.rows["outcome"] = [ACKED, FAILED, UNKNOWN]
    with LedgerWriter(tmp_path, faulty.fleet) as writer:
        writer.release(3)
        book = Book(writer)
        book.done(copies)
        assert (book.sent, book.acked, book.failed, book.unknown) == (3, 1, 1, 1)
    rows = [row for row in ledger.read(tmp_path).to_pylist() if row["k"] == 2]
    assert {row["outcome"] for row in rows} == {"acked", "failed", "unknown"}
    assert len({row["scheduled_ns"] for row in rows}) == 1


def test_a_fleet_that_withholds_and_delays_has_these_out_of_its_ledger(
    faulty, tmp_path, monkeypatch
):
    monkeypatch.setattr(ledger, "Fleet", Faulty)
    faulty.scenario.save(tmp_path / "scenario.yaml", faulty.run)
    with LedgerWriter(tmp_path, faulty.fleet) as writer:
        writer.release(100, faulty.start_ns + round(0.995e9))
    told = ledger.read(tmp_path).column("k").to_pylist()
    assert told == [
        k for k in range(100) for _ in range(3 if k % 10 == 2 else 1) if k % 10 not in {1, 3}
    ]
