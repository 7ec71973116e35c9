"""A worker that a busy machine keeps waiting: it is not lost."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fleetcast import cloudctl
from simulator import ledger
from simulator.events import read_events

if TYPE_CHECKING:
    from collections.abc import Callable

LOCUSTFILE = Path(__file__).parents[2] / "loadtests" / "locustfile.py"
# Longer than Locust itself would wait.
STALLED_S = 6.0


def wait_until(check: Callable[[], Any]) -> None:
    give_up_s = time.monotonic() + 90
    while not check():
        assert time.monotonic() < give_up_s
        time.sleep(0.05)


def test_a_worker_that_stands_still_for_some_seconds_keeps_its_slice(tmp_path: Path) -> None:
    port = str(cloudctl.free_port())
    place = {
        **{name: value for name, value in os.environ.items() if not name.startswith("FLEETCAST")},
        "FLEETCAST_HOME": str(tmp_path / "home"),
        "FLEETCAST_RUNS": str(tmp_path / "runs"),
    }

    def started(*arguments: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", "locust", "-f", str(LOCUSTFILE), *arguments],
            env=place, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip

    master = started(
        "--master", "--master-bind-port", port, "--headless", "--expect-workers", "2",
        "--users", "2", "--spawn-rate", "100", "--scenario", "smoke", "--fleet-transport", "null",
        "--fleet-rate", "50/s", "--fleet-duration", "20s", "--fleet-run-id", "stalled",
    )  # fmt: skip
    workers = [started("--worker", "--master-port", port) for _ in range(2)]
    folder = tmp_path / "runs" / "stalled"

    def elapsed_s() -> float:
        told = [event["t"] for event in read_events(folder) if event["event"] == "progress"]
        return max(told, default=0.0)

    try:
        wait_until(lambda: len(list(folder.glob("ledger/released-*.jsonl"))) == 2)
        wait_until(lambda: elapsed_s() > 1)
        before_s = elapsed_s()
        workers[0].send_signal(signal.SIGSTOP)
        wait_until(lambda: elapsed_s() > before_s + STALLED_S)
        workers[0].send_signal(signal.SIGCONT)
        output, _ = master.communicate(timeout=150)
    finally:
        for process in (master, *workers):
            if process.poll() is None:
                process.send_signal(signal.SIGCONT)
                process.terminate()
            process.communicate()
    assert master.returncode == 0, output
    assert "is lost" not in output
    table = ledger.read(folder)
    assert table.column("k").to_pylist() == list(range(1000))
    assert set(table.column("outcome").to_pylist()) == {"acked"}
