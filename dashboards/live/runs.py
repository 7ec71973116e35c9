"""Runs of this machine: how far they are, what their verdicts were, and their reports."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

from dashboards.live.clients import ApiProblem
from fleetcast.errors import UsageError
from fleetcast.home import runs_dir
from simulator.events import FILE_NAME
from simulator.scenario import validate_run_id

if TYPE_CHECKING:
    from pathlib import Path

REPORT = "report.html"
MAX_RUNS = 200
TAIL_BYTES = 64 * 1024
# A run tells its progress every second; after this it is taken for dead.
SILENT_S = 15.0


def read_runs() -> dict[str, Any]:
    """The newest runs first, with their progress or their end.

    Returns:
        `folder`, `count` of all, and `runs` of the newest (id, state, started_ms, progress,
        verdict, report).
    """
    folder = runs_dir()
    found = [path.parent for path in folder.glob("*/scenario.yaml")]
    found.sort(key=lambda path: (path.stat().st_mtime, path.name), reverse=True)
    return {
        "folder": str(folder),
        "count": len(found),
        "runs": [_run(path) for path in found[:MAX_RUNS]],
    }


def report_path(run_id: str) -> Path:
    """Where the report of a run is.

    Raises:
        ApiProblem: the id names no run, or the run has no report.
    """
    try:
        validate_run_id(run_id)
    except UsageError as error:
        raise ApiProblem(str(error), status=404) from error
    path = runs_dir() / run_id / REPORT
    if not path.is_file():
        raise ApiProblem(f"run {run_id} has no report: run fleetcast verify {run_id}", status=404)
    return path


def _run(path: Path) -> dict[str, Any]:
    events = _tail(path / FILE_NAME)
    progress: dict[str, Any] = next(
        (e for e in reversed(events) if e.get("event") == "progress"), {}
    )
    ended = next((e for e in reversed(events) if e.get("event") == "run_ended"), None)
    started = next((e for e in events if e.get("event") == "run_started"), None) or _first(path)
    last_ms = int(events[-1].get("t_ms", 0)) if events else 0
    if ended is not None:
        state = "ended"
    elif time.time() - max(last_ms / 1000, (path / "scenario.yaml").stat().st_mtime) < SILENT_S:
        state = "running"
    else:
        state = "broken off"
    verdict = _verdict(path)
    counted = ended or progress
    return {
        "id": path.name,
        "state": state,
        "started_ms": started.get("start_ms"),
        "total": started.get("total"),
        "sent": counted.get("sent", 0),
        "acked": counted.get("acked", 0),
        "failed": counted.get("failed", 0),
        "rate": progress.get("rate"),
        "target_rate": progress.get("target_rate"),
        "lag_p99_ms": progress.get("lag_p99_ms"),
        "rates": [
            [e.get("t"), e.get("rate")] for e in events if e.get("event") == "progress"
        ][-120:],
        "scenario": verdict.get("scenario", ""),
        "verdict": verdict.get("verdict", ""),
        "failed_checks": [
            str(check.get("name")) for check in verdict.get("checks", []) if not check.get("ok")
        ],
        "report": (path / REPORT).is_file(),
    }  # fmt: skip


def _verdict(path: Path) -> dict[str, Any]:
    try:
        told = json.loads((path / "verdict.json").read_text())
    except (OSError, ValueError):
        return {}
    return told if isinstance(told, dict) else {}


def _first(path: Path) -> dict[str, Any]:
    """The start of a run whose events are longer than their tail."""
    try:
        with (path / FILE_NAME).open("rb") as file:
            head = file.read(4096).splitlines()
    except OSError:
        return {}
    return next((e for e in map(_event, head) if e.get("event") == "run_started"), {})


def _tail(path: Path) -> list[dict[str, Any]]:
    """The last events of a run, however long it is."""
    try:
        with path.open("rb") as file:
            size = file.seek(0, 2)
            file.seek(max(0, size - TAIL_BYTES))
            lines = file.read().splitlines()
    except OSError:
        return []
    return [event for event in map(_event, lines if size <= TAIL_BYTES else lines[1:]) if event]


def _event(line: bytes) -> dict[str, Any]:
    try:
        event = json.loads(line)
    except ValueError:
        return {}
    return event if isinstance(event, dict) else {}
