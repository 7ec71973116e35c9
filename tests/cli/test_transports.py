from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from rich.console import Console

from fleetcast.cli.progress import drawn, one_line
from simulator import ledger
from simulator.measure import Progress
from stack.processor.readings import check

OPTIONS = ["--duration", "1s", "--rate", "100/s"]


def folder_of(place: dict[str, str], name: str) -> Path:
    return Path(place["FLEETCAST_RUNS"]) / name


@pytest.fixture
def signed(place, monkeypatch) -> bytes:
    monkeypatch.setitem(place, "FLEETCAST_SIGNING_KEY", "of the environment")
    return b"of the environment"


def test_readings_go_to_a_file_without_a_stack_signed_with_the_key_given(
    fleetcast, place, signed, tmp_path
):
    out = tmp_path / "out.jsonl"
    done = fleetcast("simulate", "smoke", *OPTIONS, "--transport", "file", "--output", str(out),
                     "--run-id", "to-file")  # fmt: skip
    assert done.returncode == 0, done.stderr
    lines = out.read_bytes().splitlines()
    assert len({check(line, signed).device for line in lines}) == len(lines) == 100
    assert ledger.read(folder_of(place, "to-file")).num_rows == 100
    assert "verify" not in done.stdout
    verified = fleetcast("verify", "to-file")
    assert verified.returncode == 2
    assert "run to-file went to transport file, not to a stack" in verified.stderr


def test_standard_output_has_readings_and_nothing_else(fleetcast, place):
    done = fleetcast("simulate", "smoke", *OPTIONS, "--transport", "stdout", "--run-id", "out")
    assert done.returncode == 0, done.stderr
    readings = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(readings) == 100
    assert {reading["run"] for reading in readings} == {"out"}
    assert not any("sig" in reading for reading in readings)
    assert "acked 100, failed 0" in done.stderr


def test_a_reader_that_leaves_early_does_not_break_the_run(place):
    done = subprocess.run(  # noqa: S602 - the shell makes the pipe
        f"{sys.executable} -m fleetcast simulate smoke --duration 1s --rate 100/s --transport stdout "
        "--run-id gone --json | head -n 1",
        shell=True, env=place, capture_output=True, text=True, check=False, timeout=200,
    )  # fmt: skip
    assert len(done.stdout.splitlines()) == 1
    assert "Traceback" not in done.stderr
    summary = json.loads(done.stderr.splitlines()[-1])
    assert summary["sent"] == 100
    assert summary["acked"] + summary["unknown"] == 100


def test_machines_are_told_lines_of_json_and_a_summary(fleetcast, place):
    done = fleetcast(
        "simulate", "smoke", *OPTIONS, "--transport", "null", "--run-id", "j", "--json"
    )
    assert done.returncode == 0, done.stderr
    summary = json.loads(done.stdout)
    assert (summary["acked"], summary["complete"]) == (100, True)
    assert set(summary["latency_ms"]) == {"p50", "p90", "p99", "p99.9", "max"}
    lines = [json.loads(line) for line in done.stderr.splitlines() if line.startswith("{")]
    assert lines[-1]["event"] == "progress"
    assert (lines[-1]["sent"], lines[-1]["backlog"]) == (100, 0)


def test_workers_share_a_run_to_nowhere(fleetcast, place):
    done = fleetcast("simulate", "smoke", *OPTIONS, "--transport", "null", "--run-id", "two",
                     "--workers", "2")  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "acked 100, failed 0, unknown 0" in done.stdout
    assert ledger.read(folder_of(place, "two")).column("k").to_pylist() == list(range(100))


NOW = Progress(
    elapsed_s=3.0, duration_s=10.0, total=1000, released=320, sent=300, acked=290, failed=7,
    unknown=3, in_flight=15, backlog=5, rate_per_s=88.0, target_rate_per_s=100.0, lag_p99_ms=12.3,
    latency_p99_ms=45.6, retries=9, throttled=8, errors=2, bytes=1_500_000, window=24,
    shards={"shardId-000000000000": 0.25, "shardId-000000000012": 0.75},
)  # fmt: skip


def text_of(now: Progress) -> str:
    console = Console(width=120, record=True, file=open("/dev/null", "w"))  # noqa: SIM115, PTH123
    console.print(drawn(now))
    return console.export_text()


def test_the_live_view_shows_the_rate_and_what_stands_in_its_way():
    text = text_of(NOW)
    for part in (
        "3.0/10 s", "300/1,000 sent", "88 of 100 /s", "acked 290", "failed 7", "unknown 3",
        "in flight 15", "backlog 5", "window 24", "1.5 MB", "lag p99 12.3 ms",
        "latency p99 45.6 ms", "throttled 8", "sent again 9", "errors 2", "0 25.0%", "12 75.0%",
    ):  # fmt: skip
        assert part in text
    assert "throttled 8  errors 2" in one_line(NOW)


def test_many_shards_are_told_by_their_extremes():
    from dataclasses import replace  # noqa: PLC0415

    shards = {f"shardId-{n:012d}": (n + 1) / 5050 for n in range(100)}
    text = text_of(replace(NOW, shards=shards))
    assert "100 shards, from 0 with 0.02% to 99 with 1.98%" in text
