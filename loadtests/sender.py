"""One slice of a fleet, driven by a process of the simulator's own, as a Locust user watches it.

Locust's processes run under gevent, the simulator under asyncio, as fast as one process can. So a user
starts a worker of the simulator and listens to it.
"""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import gevent

if TYPE_CHECKING:
    from collections.abc import Callable

# A worker that is asked to end waits this long for what is on its way, and closes its books.
END_S = 15.0


def drive(
    order: dict[str, Any], devices: tuple[int, int], heard: Callable[[dict[str, Any]], None]
) -> str:
    """Drives a slice to its end; ended early, by a greenlet's kill, its books are closed as well.

    Args:
        order: As `simulator.workers.order_for` makes it.
        devices: The slice.
        heard: Is told each line of the worker.

    Returns:
        What went wrong; empty where nothing did.
    """
    process = subprocess.Popen(
        [sys.executable, "-m", "simulator.worker"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    if process.stdin is None or process.stdout is None or process.stderr is None:
        raise RuntimeError("a worker without pipes")
    complaint = gevent.spawn(process.stderr.read)
    problem = ""
    try:
        with contextlib.suppress(BrokenPipeError):
            whole = {**order, "slice": list(devices), "latencies": True}
            process.stdin.write(json.dumps(whole).encode() + b"\n")
            process.stdin.flush()
        for line in process.stdout:
            told = json.loads(line)
            problem = told.get("error", problem)
            heard(told)
    except BaseException:
        process.terminate()
        with gevent.Timeout(END_S, exception=False):
            for line in process.stdout:
                heard(json.loads(line))
        raise
    finally:
        with contextlib.suppress(BrokenPipeError):
            process.stdin.close()
        try:
            code = process.wait(END_S)
        except subprocess.TimeoutExpired:
            process.kill()
            code = process.wait()
    last = complaint.get().decode(errors="replace").strip().rpartition("\n")[2]
    return problem or (f"a worker ended with code {code}: {last or 'no output'}" if code else "")
