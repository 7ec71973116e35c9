"""What happened in a run, one JSON object a line, as it happened."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

FILE_NAME = "events.jsonl"


class EventLog:
    """Appends events to a run's events.jsonl."""

    def __init__(self, run_dir: Path) -> None:
        self._path = run_dir / FILE_NAME

    def add(self, event: str, *, t_ms: int | None = None, **details: Any) -> None:
        """Adds an event at `t_ms` (epoch milliseconds; None is now)."""
        entry = {"t_ms": int(time.time() * 1000) if t_ms is None else t_ms, "event": event}
        with self._path.open("a") as file:
            file.write(json.dumps({**entry, **details}) + "\n")


def read_events(run_dir: Path) -> list[dict[str, Any]]:
    """The events of a run in file order; a line that was cut off by a crash is left out."""
    path = run_dir / FILE_NAME
    events = []
    for line in path.read_text(errors="replace").splitlines() if path.exists() else ():
        try:
            events.append(json.loads(line))
        except ValueError:
            continue
    return events
