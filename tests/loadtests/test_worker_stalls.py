"""A worker that a busy machine keeps waiting: it is not lost."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING

from simulator import ledger
from simulator.events import read_events

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.loadtests.conftest import Cluster

# Longer than Locust itself would wait.
STALLED_S = 6.0


def test_a_worker_that_stands_still_for_some_seconds_keeps_its_slice(
    cluster: Callable[[int], Cluster],
) -> None:
    running = cluster(20)
    folder = running.folder

    def elapsed_s() -> float:
        told = [event["t"] for event in read_events(folder) if event["event"] == "progress"]
        return max(told, default=0.0)

    running.wait_until(lambda: len(list(folder.glob("ledger/released-*.jsonl"))) == 2)
    running.wait_until(lambda: elapsed_s() > 1)
    before_s = elapsed_s()
    running.workers[0].send_signal(signal.SIGSTOP)
    running.wait_until(lambda: elapsed_s() > before_s + STALLED_S)
    running.workers[0].send_signal(signal.SIGCONT)
    output, _ = running.master.communicate(timeout=150)
    assert running.master.returncode == 0, output
    assert "is lost" not in output
    table = ledger.read(folder)
    assert table.column("k").to_pylist() == list(range(1000))
    assert set(table.column("outcome").to_pylist()) == {"acked"}
