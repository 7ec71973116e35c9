from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from fleetcast import cloudctl
from simulator import ledger

if TYPE_CHECKING:
    from collections.abc import Iterator

LOCUSTFILE = Path(__file__).parents[2] / "loadtests" / "locustfile.py"
SCENARIOS = Path(__file__).parents[2] / "scenarios"


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """An environment with a stack `load` on a local cloud of its own."""
    folder = tmp_path_factory.mktemp("locust")
    port = cloudctl.free_port()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FLEETCAST_HOME", str(folder / "home"))
        patch.setenv("FLEETCAST_RUNS", str(folder / "runs"))
        patch.setenv("FLEETCAST_PORT", str(port))
        with cloudctl.running(port):
            subprocess.run(
                [sys.executable, "-m", "fleetcast", "deploy", "--env", "load"], check=True
            )
            yield dict(os.environ)


def locust(place: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "locust", "-f", str(LOCUSTFILE), "--headless", "--only-summary",
         "--spawn-rate", "100", "--fleet-env", "load", *arguments],
        env=place, capture_output=True, text=True, check=False, timeout=200,
    )  # fmt: skip


@pytest.mark.parametrize("processes", ["1", "2"])
def test_users_send_the_whole_fleet_and_the_run_is_verified(
    place: dict[str, str], processes: str, tmp_path: Path
) -> None:
    name = f"on-{processes}"
    # Whether this machine keeps the rate while other tests run is not what is tested.
    scenario = tmp_path / "unhurried.yaml"
    smoke = (SCENARIOS / "smoke.yaml").read_text()
    scenario.write_text(smoke.replace("expect:\n", "expect:\n  rate_error_pct: null\n"))
    more = [] if processes == "1" else ["--processes", processes]
    done = locust(
        place, "--users", "4", "--scenario", str(scenario), "--fleet-rate", "300/s",
        "--fleet-duration", "8s", "--fleet-run-id", name, *more,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    folder = Path(place["FLEETCAST_RUNS"]) / name
    verdict = json.loads((folder / "verdict.json").read_text())
    assert verdict["verdict"] == "pass"
    assert verdict["sent"] == verdict["acked"] == 2400
    assert verdict["landed"]["timeseries"]["unique"] == 2400
    assert verdict["landed"]["archive"]["unique"] == 2400
    assert len(list((folder / "ledger").glob("released-*.jsonl"))) == 4
    assert ledger.read(folder).column("k").to_pylist() == list(range(2400))
    statistics = next(line for line in done.stderr.splitlines() + done.stdout.splitlines()
                      if line.split()[:2] == ["Kinesis", "PutRecords"])  # fmt: skip
    assert "0(0.00%)" in statistics


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["--scenario", "nope"], "fleetcast: no scenario 'nope'"),
        (["--users", "101"], "fleetcast: --users 101 is more than the 100 devices: use fewer"),
        (["--users", "3", "--processes", "2"], "--users 3 on 2 workers: make it a multiple of 2"),
        (["--fleet-env", "none"], "fleetcast: no stack 'none' on target local"),
        (["--fleet-rate", "x"], "fleetcast: scenario smoke with these options: 'x' is not a rate"),
    ],
)
def test_wrong_options_end_the_test_with_one_line(
    place: dict[str, str], arguments: list[str], text: str
) -> None:
    done = locust(place, *arguments)
    assert done.returncode == 2
    assert text in done.stderr + done.stdout
    assert "Traceback" not in done.stderr + done.stdout
