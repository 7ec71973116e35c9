from __future__ import annotations

import gzip
import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleetcast.errors import UsageError
from fleetcast.verify.archive import gunzip
from fleetcast.verify.check import judge
from fleetcast.verify.truth import MODULUS, SEQ_MODULUS, Truth, checksums
from fleetcast.verify.verdict import (
    AlarmOutcome,
    Clock,
    Landed,
    Order,
    Rate,
    Refused,
    SlowDevice,
    Verdict,
    read_verdict,
)
from simulator import ledger
from simulator.scenario import Expectations

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

LAG = {"p50": 1.0, "p99": 2.0, "max": 3.0}
ALARM = {"name": "critical-readings", "fires_within": "10s", "recovers_within": "10s"}


def failing(expect: dict[str, Any] | None = None, **found: Any) -> list[str]:
    """Names of the checks that do not hold, of a run that is perfect but for `found`."""
    perfect: dict[str, Any] = {
        "complete": True,
        "failed": 0,
        "landed": {"timeseries": Landed(unique=10), "archive": Landed(unique=10)},
        "refused": Refused(),
        "unreadable": {},
        "latency_ms": {"p50": 1.0, "p95": 2.0, "p99": 900.0, "max": 1000.0},
        "rate": Rate(100.0, 99.5, -0.5, LAG),
        "alarms": [],
        "probed": True,
        "archive_latency_ms": {"p50": 10.0, "p95": 20.0, "p99": 9000.0, "max": 9000.0},
        "order": {"stream": Order(compared=10, out_of_order=2, devices=1)},
    }
    checks = judge(Expectations.model_validate(expect or {}), **{**perfect, **found})
    return [check.name for check in checks if not check.ok]


def test_a_perfect_run_holds_every_check() -> None:
    assert failing() == []


@pytest.mark.parametrize("defect", ["lost", "duplicated", "phantom", "corrupted", "late"])
@pytest.mark.parametrize("store", ["timeseries", "archive"])
def test_one_reading_amiss_fails_exactly_its_check(store: str, defect: str) -> None:
    landed = {"timeseries": Landed(unique=10), "archive": Landed(unique=10)}
    landed[store] = Landed(unique=10, **{defect: 1})
    assert failing(landed=landed) == [f"{store}.{defect}"]


def test_what_the_scenario_allows_is_allowed() -> None:
    landed = {"timeseries": Landed(lost=2, duplicated=3)}
    assert failing({"lost": 2, "duplicated": 3}, landed=landed) == []
    assert failing({"lost": 1, "duplicated": 2}, landed=landed) == [
        "timeseries.lost",
        "timeseries.duplicated",
    ]


@pytest.mark.parametrize("defect", ["missing", "wrong_reason", "unexpected"])
def test_refusals_must_be_the_expected_ones(defect: str) -> None:
    assert failing(refused=Refused(expected=5, quarantined=5, **{defect: 1})) == ["refused"]


def test_a_refusal_told_twice_is_no_failure() -> None:
    assert failing(refused=Refused(expected=5, quarantined=5, repeated=2)) == []


def test_failed_readings_and_a_run_that_was_stopped_fail() -> None:
    assert failing(failed=1, complete=False) == ["complete", "failed"]
    assert failing({"failed": 1}, failed=1) == []


@pytest.mark.parametrize(("error_pct", "fails"), [(1.0, 0), (-1.0, 0), (1.01, 1), (-1.01, 1)])
def test_the_rate_is_held_within_its_error_either_way(error_pct: float, fails: int) -> None:
    rate = Rate(100.0, 100.0 + error_pct, error_pct, LAG)
    assert failing(rate=rate) == ["rate"] * fails
    assert failing({"rate_error_pct": None}, rate=rate) == []


def test_landing_latency_is_judged_where_it_is_asked_and_nothing_landed_fails() -> None:
    assert failing({"landing_latency_p99": "900ms"}) == []
    assert failing({"landing_latency_p99": "899ms"}) == ["landing_latency"]
    assert failing({"landing_latency_p99": "1h"}, latency_ms={}) == ["landing_latency"]
    assert failing({"landing_latency_p50": "1ms", "landing_latency_p95": "2ms"}) == []
    assert failing({"landing_latency_p50": "0s", "landing_latency_p95": "1ms"}) == [
        "landing_latency_p50",
        "landing_latency_p95",
    ]


def test_the_archive_and_the_order_are_judged_where_they_are_asked_for() -> None:
    assert failing({"archive_latency_p99": "9s", "out_of_order": 2}) == []
    assert failing({"archive_latency_p95": "19ms", "archive_latency_p99": "8s"}) == [
        "archive_latency_p95",
        "archive_latency",
    ]
    assert failing({"archive_latency_p50": "1h"}, archive_latency_ms={}) == ["archive_latency_p50"]
    assert failing({"out_of_order": 1}) == ["out_of_order"]
    # A transport that tells no sequence numbers leaves the order open, which is not what is asked.
    assert failing({"out_of_order": 10}, order={"sent": Order(10, 0, 0)}) == ["out_of_order"]


def test_an_alarm_that_did_not_do_as_asked_fails() -> None:
    silent = AlarmOutcome(
        "critical-readings", expected=True, fired_after_s=None, recovered_after_s=None, ok=False
    )
    assert failing({"alarms": [ALARM]}, alarms=[silent]) == ["alarm.critical-readings"]
    assert failing(alarms=[AlarmOutcome("x", False, 1.0, None, True)]) == []  # noqa: FBT003


def test_an_unreadable_object_fails_and_is_named() -> None:
    assert failing(unreadable={"readings/x.gz": "not GZIP"}) == ["archive.readable"]


def test_a_verdict_is_read_as_it_was_written(tmp_path: Path) -> None:
    verdict = Verdict(
        run_id="r", verdict="fail", target="local", environment="t", scenario="s", devices=3,
        complete=True, sent=3, acked=2, failed=1, unknown=0,
        landed={"timeseries": Landed(unique=2), "archive": Landed(unique=2, lost=1)},
        refused=Refused(expected=1), landing_latency_ms={}, rate=Rate(1.0, 1.0, 0.0, LAG),
        alarms=[AlarmOutcome("a", expected=True, fired_after_s=None, recovered_after_s=None,
                             ok=False)],
        checks=[], notes=["n"],
        timed=2, latency_ms={"archive": {"from_ack": {"p50": 1.0}}},
        slowest=[SlowDevice("dev-1", 2, None, 1.0, 2.0, 3.0, None)],
        order={"sent": Order(2, 1, 1)}, clocks=[Clock(0, 3, 2, None, 1.0, 0.0)],
    )  # fmt: skip
    verdict.save(tmp_path)
    assert read_verdict(tmp_path) == verdict
    # Verdicts of before there were times are read, too.
    old = json.loads((tmp_path / "verdict.json").read_text())
    for name in ("timed", "latency_ms", "slowest", "order", "clocks"):
        del old[name]
    (tmp_path / "old").mkdir()
    (tmp_path / "old" / "verdict.json").write_text(json.dumps(old))
    assert read_verdict(tmp_path / "old").latency_ms == {}
    told = json.loads((tmp_path / "verdict.json").read_text())
    assert set(told["landed"]["archive"]) == {
        "unique", "duplicated", "lost", "phantom", "corrupted", "late"
    }  # fmt: skip


def test_a_missing_or_damaged_verdict_is_told_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="has no verdict: run fleetcast verify"):
        read_verdict(tmp_path)
    (tmp_path / "verdict.json").write_text('{"run_id": 1')
    with pytest.raises(UsageError, match="is no verdict"):
        read_verdict(tmp_path)


@given(st.lists(st.binary(max_size=200), max_size=5))
def test_gunzip_joins_members(parts: list[bytes]) -> None:
    assert gunzip(b"".join(map(gzip.compress, parts))) == b"".join(parts)


@given(
    seq=st.integers(0, 2**40),
    ts=st.integers(0, 2**42),
    value=st.floats(-1e6, 1e6).map(lambda v: round(v, 3)),
)
def test_the_checksum_is_what_its_formula_says(seq: int, ts: int, value: float) -> None:
    def remainder(number: int) -> int:
        return number - MODULUS * int(number / MODULUS)

    expected = ts % MODULUS + 3 * (MODULUS + remainder(round(value * 1000)))
    found = checksums(
        np.array([seq]),
        np.array([ts]),
        [(np.array([value]), 3), (np.array([np.nan]), 2)],
    )
    assert found.tolist() == [expected * (seq % SEQ_MODULUS + 1)]


def test_a_ledger_of_another_scenario_is_refused(make_run: Callable[..., Any]) -> None:
    run = make_run()
    scenario = run.truth.scenario
    fewer = scenario.with_overrides(devices=7)
    with pytest.raises(UsageError, match=r"not one of scenario planted: it has readings with"):
        Truth(fewer, run.info, run.truth.history, b"key")
    shorter = scenario.with_overrides(duration="1s")
    with pytest.raises(UsageError, match=r"it has reading 119 of 60"):
        Truth(shorter, run.info, run.truth.history, b"key")


def test_a_reading_that_is_twice_in_the_ledger_is_refused(make_run: Callable[..., Any]) -> None:
    run = make_run()
    part = next((run.folder / ledger.FOLDER).glob("part-*.parquet"))
    part.with_name("part-00000000-00000012-000009.parquet").write_bytes(part.read_bytes())
    with pytest.raises(UsageError, match="it has 2 rows of reading 0, to be sent 1 times"):
        Truth.of_run(run.folder, b"key")
