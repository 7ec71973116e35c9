from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from fleetcast import cloudctl
from simulator import ledger

if TYPE_CHECKING:
    from collections.abc import Iterator


def belonging_to(port: str) -> list[str]:
    """Command lines of processes that are this port's cloud, or functions of it."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            words = (folder / "cmdline").read_bytes().split(b"\0")
            environment = (folder / "environ").read_bytes().split(b"\0")
        except OSError:
            continue
        is_cloud = b"localcloud" in words and port.encode() in words
        if is_cloud or f"AWS_ENDPOINT_URL=http://127.0.0.1:{port}".encode() in environment:
            found.append(b" ".join(words).decode())
    return found


@pytest.fixture
def interruptible() -> Iterator[None]:
    """Processes that are started can be interrupted, even where the tests run in the background.

    A shell makes what it starts there ignore SIGINT, and their children inherit that.
    """
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("interruptible")
@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="processes are found in /proc")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda n: n.name)
def test_an_interrupted_demo_leaves_a_readable_ledger_and_no_process(
    tmp_path: Path, number: signal.Signals
) -> None:
    port = str(cloudctl.free_port())
    place = {
        **os.environ,
        "FLEETCAST_HOME": str(tmp_path / "home"),
        "FLEETCAST_RUNS": str(tmp_path / "runs"),
        "FLEETCAST_PORT": port,
    }
    demo = subprocess.Popen(
        [sys.executable, "-m", "fleetcast", "demo"],
        env=place, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        give_up_s = time.monotonic() + 120
        while not list(tmp_path.glob("runs/*/ledger/part-*.parquet")):
            assert demo.poll() is None, demo.communicate()
            assert time.monotonic() < give_up_s
            time.sleep(0.1)
        assert len(belonging_to(port)) >= 2
        demo.send_signal(number)
        _, error = demo.communicate(timeout=120)
    finally:
        demo.kill()
    assert demo.returncode == 130
    assert error.splitlines()[-1] == "fleetcast: interrupted"
    assert belonging_to(port) == []

    run = next((tmp_path / "runs").iterdir())
    table = ledger.read(run)
    outcomes = set(table.column("outcome").to_pylist())
    assert 20_000 < table.num_rows < 66_400
    assert "acked" in outcomes
    numbers = table.column("k").to_pylist()
    assert numbers == list(range(len(numbers)))
