"""Locust as processes of its own: a master and two workers.

Locust patches the process that imports it; this one is not to be patched.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from fleetcast import cloudctl

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

VARIABLE = "LOCUST_SKIP_MONKEY_PATCH"

os.environ[VARIABLE] = "1"
import locust  # noqa: E402, F401

del os.environ[VARIABLE]

LOCUSTFILE = Path(__file__).parents[2] / "loadtests" / "locustfile.py"


@dataclass(frozen=True)
class Cluster:
    """A master and its workers, that drive scenario smoke to nowhere, 50 readings a second."""

    master: subprocess.Popen[str]
    workers: list[subprocess.Popen[str]]
    folder: Path

    def wait_until(self, check: Callable[[], Any]) -> None:
        give_up_s = time.monotonic() + 90
        while not check():
            assert time.monotonic() < give_up_s
            assert self.master.poll() is None, self.master.communicate()
            time.sleep(0.05)


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Callable[[int], Cluster]]:
    """Starts a cluster for so many seconds of the scenario."""
    processes: list[subprocess.Popen[str]] = []
    place = {
        **{name: value for name, value in os.environ.items() if not name.startswith("FLEETCAST")},
        "FLEETCAST_HOME": str(tmp_path / "home"),
        "FLEETCAST_RUNS": str(tmp_path / "runs"),
    }

    def started(*arguments: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-m", "locust", "-f", str(LOCUSTFILE), *arguments],
            env=place, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip
        processes.append(process)
        return process

    def start(duration_s: int) -> Cluster:
        port = str(cloudctl.free_port())
        master = started(
            "--master", "--master-bind-port", port, "--headless", "--expect-workers", "2",
            "--users", "2", "--spawn-rate", "100", "--scenario", "smoke",
            "--fleet-transport", "null", "--fleet-rate", "50/s",
            "--fleet-duration", f"{duration_s}s", "--fleet-run-id", "run",
        )  # fmt: skip
        workers = [started("--worker", "--master-port", port) for _ in range(2)]
        return Cluster(master, workers, tmp_path / "runs" / "run")

    yield start
    for process in processes:
        if process.poll() is None:
            process.send_signal(signal.SIGCONT)
            process.kill()
        process.communicate()
