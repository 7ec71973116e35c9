"""The parts of a load run that need no cloud: statistics, ledgers on their way, shapes, checks."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from locust.stats import RequestStats

from fleetcast import scenarios
from fleetcast.errors import UsageError
from loadtests import ledgers
from loadtests.limits import Limits
from loadtests.shapes import shape_of
from loadtests.statistics import METHOD, NAME, Readings
from simulator.histogram import Histogram
from simulator.measure import NOTHING_YET, RunSummary
from simulator.scenario import load


@given(
    st.lists(
        st.tuples(
            st.lists(st.floats(0.0001, 300), max_size=30), st.integers(0, 5), st.integers(0, 5)
        ),
        min_size=1,
        max_size=6,
    )
)
def test_statistics_count_each_reading_once_with_its_time(told):
    stats = RequestStats()
    readings = Readings(stats)
    latency, before = Histogram(), Histogram()
    acked = failed = unknown = 0
    for seconds, more_failed, more_unknown in told:
        latency.record(np.array(seconds, dtype=np.float64))
        acked, failed, unknown = acked + len(seconds), failed + more_failed, unknown + more_unknown
        now = {"acked": acked, "failed": failed, "unknown": unknown, "bytes": 100 * acked}
        readings.add(type(NOTHING_YET)(**{**vars_of(NOTHING_YET), **now}), latency.since(before))
    entry = stats.get(NAME, METHOD)
    for one in (entry, stats.total):
        assert one.num_requests == acked + failed + unknown
        assert one.num_failures == failed + unknown
        assert one.num_none_requests == failed + unknown
        assert one.total_content_length == 100 * acked
        assert sum(one.num_reqs_per_sec.values()) == one.num_requests
    assert sum(error.occurrences for error in stats.errors.values()) == failed + unknown
    every = sorted(1000 * s for seconds, _, _ in told for s in seconds)
    if every:
        # Locust keeps two digits, and the histogram is true to one per cent.
        assert entry.max_response_time == pytest.approx(every[-1], rel=0.02, abs=1)
        assert entry.get_response_time_percentile(1.0) == pytest.approx(every[-1], rel=0.1, abs=1)


def vars_of(progress):
    return {name: getattr(progress, name) for name in progress.__dataclass_fields__}


def test_a_ledger_arrives_as_it_was_whatever_the_pieces(tmp_path, monkeypatch):
    monkeypatch.setattr(ledgers, "CHUNK", 10)
    own, theirs = tmp_path / "own", tmp_path / "theirs"
    (own / "ledger").mkdir(parents=True)
    theirs.mkdir()
    journal = own / "ledger" / "released-00000000-00000010.jsonl"
    sent = ledgers.Sent(own)
    content = b""
    for number in range(5):
        content += f"line {number} of a journal\n".encode()
        journal.write_bytes(content)
        if number == 3:
            (own / "ledger" / "part-00000000-00000010-000000.parquet").write_bytes(b"PAR1xPAR1")
        (own / "ledger" / "part-00000000-00000010-000001.tmp").write_bytes(b"half")
        for piece in sent.grown():
            ledgers.receive(theirs, piece)
    arrived = {path.name: path.read_bytes() for path in (theirs / "ledger").iterdir()}
    assert arrived == {
        journal.name: content,
        "part-00000000-00000010-000000.parquet": b"PAR1xPAR1",
    }
    assert list(sent.grown()) == []


@pytest.mark.parametrize(
    "message",
    [
        {"name": "../scenario.yaml", "offset": 0, "content": b"x"},
        {"name": "part-1.parquet", "offset": 0, "content": b"x"},
        {"name": "released-00000000-00000010.jsonl", "offset": 7, "content": b"x"},
        {"name": None, "offset": 0, "content": b"x"},
    ],
)
def test_what_is_no_piece_of_a_ledger_is_refused(tmp_path, message):
    with pytest.raises(ValueError, match=r"no file of a ledger|the next piece is for"):
        ledgers.receive(tmp_path, message)
    assert [path for path in tmp_path.rglob("*") if path.is_file() and path.stat().st_size] == []


def test_a_folder_is_shared_only_with_the_token_of_its_master(tmp_path):
    assert not ledgers.is_shared(tmp_path, "a")
    ledgers.mark(tmp_path, "a")
    assert ledgers.is_shared(tmp_path, "a")
    assert not ledgers.is_shared(tmp_path, "b")


def test_a_shape_follows_the_rate_and_ends_with_it(monkeypatch):
    profile = load(shapes_scenario()).profile
    shape = shape_of("cold-chain", readings_per_user=10)()
    for elapsed_s in np.linspace(0, profile.duration_s - 0.01, 20).tolist():
        monkeypatch.setattr(shape, "get_run_time", lambda at=elapsed_s: at)
        users, _ = shape.tick()
        assert (users - 1) * 10 < profile.rate_at(elapsed_s) <= users * 10
    monkeypatch.setattr(shape, "get_run_time", lambda: profile.duration_s)
    assert shape.tick() is None
    with pytest.raises(UsageError, match="give a positive number"):
        shape_of("cold-chain", readings_per_user=0)


def shapes_scenario():
    return scenarios.find("cold-chain")


def test_limits_take_the_place_of_what_the_scenario_expects():
    plan = load(shapes_scenario())
    limited = Limits(lost=7, rate_error_pct=3.5).applied_to(plan)
    assert (limited.expect.lost, limited.expect.rate_error_pct) == (7, 3.5)
    assert Limits().applied_to(plan).expect == plan.expect
    summary = RunSummary(
        run_id="r", complete=True, sent=1000, acked=980, failed=15, unknown=5, duration_s=10.0,
        target_rate=100.0, achieved_rate=99.0, rate_error_pct=-1.0, schedule_lag_ms={},
        latency_ms={"p99": 250.0},
    )  # fmt: skip
    checks = Limits(fail_ratio=0.02, p99_ms=249, rate_error_pct=0.5).checks(summary)
    assert [check.ok for check in checks] == [True, True, False, False]
