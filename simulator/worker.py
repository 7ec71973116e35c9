"""A process that drives a slice of a run; started by `simulator.workers`, never by hand.

It takes one line of JSON from standard input, tells its progress and its summary in lines of JSON
on standard output, and ends early, with its books closed, on SIGTERM or when its input ends. Where
it is asked for, progress comes with the latencies since the one before.
"""

from __future__ import annotations

import asyncio
import base64
import json
import signal
import sys
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fleetcast.errors import FleetcastError
from fleetcast.target import Target
from simulator.engine import drive_part
from simulator.histogram import Histogram
from simulator.memory import suit_sending
from simulator.scenario import load_run
from simulator.sending import Sending

if TYPE_CHECKING:
    from simulator.measure import Book, Progress, RunSummary


def _tell(told: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(told) + "\n")
    sys.stdout.flush()


class _Telling:
    """Tells progress, and the latencies of what came to an end since it did last."""

    def __init__(self, *, latencies: bool) -> None:
        self._book: Book | None = None
        self._told = Histogram() if latencies else None

    def begin(self, book: Book) -> None:
        """The books of the slice are open."""
        self._book = book

    def progress(self, now: Progress) -> None:
        """Tells it."""
        told: dict[str, Any] = {"progress": asdict(now)}
        if self._told is not None and self._book is not None:
            told["latencies"] = self._book.latency.since(self._told).to_json()
        _tell(told)


def _tell_summary(summary: RunSummary, book: Book) -> None:
    _tell(
        {
            "summary": asdict(summary),
            "lag": book.lag.to_json(),
            "latency": book.latency.to_json(),
        }
    )


async def work(order: dict[str, Any]) -> None:
    """Drives the slice that was ordered."""
    task = asyncio.current_task()
    if task is None:
        raise RuntimeError("not in a task")
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, task.cancel)
    # The other end closes when the process that started this one is gone.
    loop.add_reader(sys.stdin.fileno(), task.cancel)
    run_dir = Path(order["run_dir"])
    scenario, run = load_run(run_dir)
    first, last = order["slice"]
    target = None if order["target"] is None else Target(**order["target"])
    make = Sending.from_json(order["sending"]).make(target, order["stream"])
    telling = _Telling(latencies=order.get("latencies", False))
    key = None if order["key"] is None else base64.b64decode(order["key"])
    await drive_part(
        scenario,
        replace(run, devices_slice=(first, last)),
        key,
        run_dir,
        make,
        None,
        progress=telling.progress,
        begun=telling.begin,
        ended=_tell_summary,
    )


def main() -> int:
    """Runs the worker; 0 if its slice was driven to its end."""
    order = json.loads(sys.stdin.readline())
    suit_sending()
    try:
        asyncio.run(work(order))
    except FleetcastError as error:
        _tell({"error": str(error)})
        return int(error.exit_code)
    except asyncio.CancelledError:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
