"""The end of a master, as when its machine is gone."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING

from simulator import ledger

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.loadtests.conftest import Cluster


def test_workers_end_with_their_books_closed_when_the_master_dies(
    cluster: Callable[[int], Cluster],
) -> None:
    running = cluster(600)
    journals = running.folder.glob
    # Both have released readings.
    running.wait_until(
        lambda: sum(one.stat().st_size > 200 for one in journals("ledger/released-*.jsonl")) == 2
    )
    running.master.send_signal(signal.SIGKILL)
    told = [worker.communicate(timeout=150)[0] for worker in running.workers]
    assert all("heartbeat from master" in text for text in told), told
    # Nothing is left that still sends.
    sizes = [path.stat().st_size for path in sorted(journals("ledger/*"))]
    table = ledger.read(running.folder)
    assert set(table.column("outcome").to_pylist()) == {"acked"}
    numbers = table.column("k").to_pylist()
    assert len(set(numbers)) == len(numbers) > 0
    assert len(numbers) < 30_000
    assert [path.stat().st_size for path in sorted(journals("ledger/*"))] == sizes
