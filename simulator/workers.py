"""One run in several processes: each drives a slice of the devices, this one puts it together.

Every worker has the same schedule and its own devices, so that the readings are those of one
process, bit for bit. They share the run's folder, in which each writes its own ledger. The signing
key goes to them through a pipe, never through arguments or the environment.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import sys
import time
from dataclasses import asdict, fields, replace
from typing import TYPE_CHECKING, Any

from fleetcast.errors import TargetError
from simulator.events import EventLog
from simulator.histogram import Histogram
from simulator.measure import NOTHING_YET, Progress, RunSummary, milliseconds
from simulator.telling import Teller

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from fleetcast.target import Target
    from simulator.scenario import RunInfo, Scenario
    from simulator.sending import Sending

TICK_S = 0.1
LONGEST_LINE = 4 * 1024 * 1024
_SUMMED = (
    "total", "released", "sent", "acked", "failed", "unknown", "in_flight", "backlog",
    "rate_per_s", "target_rate_per_s", "retries", "throttled", "errors", "bytes", "window",
)  # fmt: skip


async def drive_with_workers(  # noqa: PLR0917 - all that a run is
    scenario: Scenario,
    run: RunInfo,
    key: bytes | None,
    run_dir: Path,
    target: Target | None,
    stream: str,
    sending: Sending,
    *,
    progress: Callable[[Progress], None],
) -> RunSummary:
    """Drives a run in `sending.workers` processes; see `engine.drive`.

    Raises:
        TargetError: a worker could not go on; the others were ended, and their books closed.
    """
    events = EventLog(run_dir)
    parts = [
        _Worker(replace(run, devices_slice=part))
        for part in slices(scenario.fleet.devices, sending.workers)
    ]
    order = order_for(run_dir, key, target, stream, sending)
    teller = Teller(scenario, run.start_ms, events, progress)
    started = [asyncio.create_task(part.run(order)) for part in parts]
    complete = False
    try:
        total = scenario.profile.total
        events.add("run_started", run=run.id, start_ms=run.start_ms, total=total)
        waiting = set(started)
        while waiting:
            done, waiting = await asyncio.wait(
                waiting, timeout=TICK_S, return_when=asyncio.FIRST_EXCEPTION
            )
            for task in done:
                task.result()
            teller.tell(time.time() - run.start_ms / 1000, lambda _: combined(parts))
        complete = all(part.summary and part.summary["complete"] for part in parts)
    finally:
        for part in parts:
            part.end()
        await asyncio.gather(*started, return_exceptions=True)
        summary = together(run, parts, complete=complete)
        events.add("run_ended", **asdict(summary))
        teller.last(combined(parts))
    return summary


class Told:
    """What a worker has told of its slice.

    Attributes:
        progress: Where it is; None before it has begun.
        summary: What it came to; None before it has ended.
        lag: Times from when readings should have left until they were sent, at the end.
        latency: Times until they were acknowledged.
    """

    def __init__(self) -> None:
        self.progress: Progress | None = None
        self.summary: dict[str, Any] | None = None
        self.lag = Histogram()
        self.latency = Histogram()

    def hear(self, told: dict[str, Any]) -> None:
        """Takes what a line says."""
        if "progress" in told:
            self.progress = Progress(**told["progress"])
        if "summary" in told:
            self.summary = told["summary"]
            self.lag = Histogram.from_json(told["lag"])
            self.latency = Histogram.from_json(told["latency"])


class _Worker(Told):
    """A process that drives a slice."""

    def __init__(self, run: RunInfo) -> None:
        super().__init__()
        self.run_info = run
        self._process: asyncio.subprocess.Process | None = None
        self._ended = False

    async def run(self, order: dict[str, Any]) -> None:
        """Runs it to its end.

        Raises:
            TargetError: it did not come to a summary.
        """
        self._process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "simulator.worker",
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            start_new_session=True,
            limit=LONGEST_LINE,
        )
        process = self._process
        if process.stdin is None or process.stdout is None or process.stderr is None:
            raise RuntimeError("a worker without pipes")
        if self._ended:
            self.end()
        complaint = asyncio.create_task(process.stderr.read())
        error = ""
        with contextlib.suppress(ConnectionError):
            whole = {**order, "slice": list(self.run_info.devices_slice)}
            process.stdin.write(json.dumps(whole).encode() + b"\n")
            await process.stdin.drain()
        async for line in process.stdout:
            told = json.loads(line)
            error = told.get("error", error)
            self.hear(told)
        await process.wait()
        if self.summary is None:
            last = (await complaint).decode(errors="replace").strip().rpartition("\n")[2]
            raise TargetError(
                error or f"a worker ended with code {process.returncode}: {last or 'no output'}"
            )

    def end(self) -> None:
        """Asks it to end, if it runs."""
        self._ended = True
        if self._process is not None and self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                self._process.terminate()


def order_for(
    run_dir: Path, key: bytes | None, target: Target | None, stream: str, sending: Sending
) -> dict[str, Any]:
    """What a worker is told first, but for its slice of the devices."""
    return {
        "run_dir": str(run_dir),
        "key": None if key is None else base64.b64encode(key).decode(),
        "target": None if target is None else asdict(target),
        "stream": stream,
        "sending": sending.to_json(),
    }


def slices(devices: int, count: int) -> list[tuple[int, int]]:
    """Devices [first, last) of about equally many, in `count` parts."""
    return [(devices * n // count, devices * (n + 1) // count) for n in range(count)]


def combined(parts: Sequence[Told]) -> Progress:
    """The progress of all workers as one; percentiles are those of the slowest."""
    told = [part.progress for part in parts if part.progress is not None]
    if not told:
        return NOTHING_YET
    sums = {name: sum(getattr(now, name) for now in told) for name in _SUMMED}
    return replace(
        NOTHING_YET,
        **sums,
        elapsed_s=max(now.elapsed_s for now in told),
        duration_s=max(now.duration_s for now in told),
        lag_p99_ms=max(now.lag_p99_ms for now in told),
        latency_p99_ms=max(now.latency_p99_ms for now in told),
        shards=_shares([(now.acked, now.shards) for now in told]),
    )


def _shares(told: Sequence[tuple[int, dict[str, float]]]) -> dict[str, float]:
    """Shards' shares of what all workers' readings were, of (readings, shares) of each."""
    counts: dict[str, float] = {}
    for acked, shares in told:
        for shard, share in shares.items():
            counts[shard] = counts.get(shard, 0.0) + acked * share
    total = sum(counts.values()) or 1.0
    return {shard: round(count / total, 4) for shard, count in sorted(counts.items())}


def together(run: RunInfo, parts: Sequence[Told], *, complete: bool) -> RunSummary:
    """The summaries of all workers as one."""
    told = [part.summary for part in parts if part.summary is not None]
    lag, latency = Histogram(), Histogram()
    for part in parts:
        lag.merge(part.lag)
        latency.merge(part.latency)
    numbers = {
        field.name: sum(summary[field.name] for summary in told)
        for field in fields(RunSummary)
        if field.type == "int"
    }
    duration_s = max((summary["duration_s"] for summary in told), default=0.0)
    target = sum(summary["target_rate"] for summary in told)
    achieved = numbers["sent"] / duration_s if duration_s else 0.0
    return RunSummary(
        run_id=run.id,
        complete=complete,
        duration_s=duration_s,
        target_rate=round(target, 3),
        achieved_rate=round(achieved, 3),
        rate_error_pct=round((achieved / target - 1) * 100, 4) if target else 0.0,
        schedule_lag_ms=milliseconds(lag),
        latency_ms=milliseconds(latency),
        last_error=next((s["last_error"] for s in told if s["last_error"]), ""),
        shards=_shares([(summary["acked"], summary["shards"]) for summary in told]),
        **numbers,
    )
