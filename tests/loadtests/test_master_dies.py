"""The end of a master, as when its machine is gone."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from fleetcast import cloudctl
from simulator import ledger

LOCUSTFILE = Path(__file__).parents[2] / "loadtests" / "locustfile.py"


def test_workers_end_with_their_books_closed_when_the_master_dies(tmp_path: Path) -> None:
    port = str(cloudctl.free_port())
    place = {
        **{name: value for name, value in os.environ.items() if not name.startswith("FLEETCAST")},
        "FLEETCAST_HOME": str(tmp_path / "home"),
        "FLEETCAST_RUNS": str(tmp_path / "runs"),
    }

    def started(*arguments: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", "locust", "-f", str(LOCUSTFILE), *arguments],
            env=place, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip

    master = started(
        "--master", "--master-bind-port", port, "--headless", "--expect-workers", "2",
        "--users", "2", "--spawn-rate", "100", "--scenario", "smoke", "--fleet-transport", "null",
        "--fleet-rate", "50/s", "--fleet-duration", "600s", "--fleet-run-id", "orphans",
    )  # fmt: skip
    workers = [started("--worker", "--master-port", port) for _ in range(2)]
    try:
        folder = tmp_path / "runs" / "orphans"
        give_up_s = time.monotonic() + 90
        # Both have released readings.
        while sum(one.stat().st_size > 200 for one in folder.glob("ledger/released-*.jsonl")) < 2:
            assert time.monotonic() < give_up_s
            assert master.poll() is None
            time.sleep(0.1)
        master.send_signal(signal.SIGKILL)
        told = [worker.communicate(timeout=150)[1] for worker in workers]
    finally:
        for process in (master, *workers):
            if process.poll() is None:
                process.kill()
        master.communicate()
    assert all("heartbeat from master" in text for text in told), told
    # Nothing is left that still sends.
    sizes = [path.stat().st_size for path in sorted(folder.glob("ledger/*"))]
    table = ledger.read(folder)
    assert set(table.column("outcome").to_pylist()) == {"acked"}
    numbers = table.column("k").to_pylist()
    assert len(set(numbers)) == len(numbers) > 0
    assert len(numbers) < 30_000
    assert [path.stat().st_size for path in sorted(folder.glob("ledger/*"))] == sizes
