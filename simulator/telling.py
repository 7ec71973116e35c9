"""Tells how a run goes: to whoever watches it, and to its events.jsonl."""

from __future__ import annotations

from collections import deque
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from simulator.scenario.target_faults import TargetFault

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from simulator.events import EventLog
    from simulator.measure import Progress
    from simulator.scenario import Scenario

REPORT_S = 0.5
EVENT_S = 1.0


class Teller:
    """Tells phases, faults and progress when it is their time.

    Args:
        scenario: What is driven.
        start_ms: When its schedule starts, epoch milliseconds.
        events: Where the run is written down; None for a part of a run, whose whole is told.
        progress: Is told about twice a second.
    """

    def __init__(
        self,
        scenario: Scenario,
        start_ms: int,
        events: EventLog | None,
        progress: Callable[[Progress], None],
    ) -> None:
        self._start_ms = start_ms
        self._events = events
        self._progress = progress
        self._marks = deque(sorted(_timeline(scenario), key=lambda mark: mark[:2]))
        self._recent: deque[tuple[float, int]] = deque(maxlen=8)
        self._next_report_s = 0.0
        self._next_event_s = 0.0

    def tell(self, now_s: float, current: Callable[[float], Progress]) -> None:
        """Tells what is due, `now_s` seconds after the start; `current` gives the progress."""
        if self._events is not None:
            while self._marks and self._marks[0][0] <= now_s:
                at_s, event, details = self._marks.popleft()
                self._events.add(event, t_ms=self._start_ms + int(at_s * 1000), **details)
        if now_s >= self._next_report_s:
            self._next_report_s = now_s + REPORT_S
            now = current(now_s)
            self._recent.append((now_s, now.sent))
            self._progress(self._rated(now))
        if self._events is not None and now_s >= self._next_event_s:
            self._next_event_s = now_s + EVENT_S
            self._events.add("progress", **_event(now_s, self._rated(current(now_s))))

    def last(self, now: Progress) -> None:
        """Tells the progress at the end."""
        self._progress(self._rated(now))

    def _rated(self, now: Progress) -> Progress:
        """With the rate of the last seconds."""
        if len(self._recent) < 2:  # noqa: PLR2004 - a rate is between two points
            return now
        (then_s, then), (last_s, last) = self._recent[0], self._recent[-1]
        return replace(now, rate_per_s=(last - then) / max(1e-9, last_s - then_s))


def _timeline(scenario: Scenario) -> Iterator[tuple[float, str, dict[str, Any]]]:
    """(seconds, event, details) of what the schedule holds."""
    at_s = 0.0
    for index, phase in enumerate(scenario.rate):
        details = {"index": index, **phase.model_dump(mode="json")}
        yield at_s, "phase", details
        at_s += phase.duration
    for fault in (*scenario.faults, *scenario.target_faults):
        details = {"name": fault.name, "kind": fault.kind}
        if isinstance(fault, TargetFault):
            details["call"] = fault.call
        yield fault.start, "fault_started", details
        end_s = min(fault.end_s, scenario.profile.duration_s)
        yield end_s, "fault_ended", details


def _event(now_s: float, now: Progress) -> dict[str, Any]:
    return {
        "t": round(now_s, 3),
        "due": now.released,
        "sent": now.sent,
        "acked": now.acked,
        "failed": now.failed,
        "in_flight": now.in_flight,
        "backlog": now.backlog,
        "rate": round(now.rate_per_s, 1),
        "target_rate": round(now.target_rate_per_s, 1),
        "lag_p99_ms": round(now.lag_p99_ms, 2),
        "latency_p99_ms": round(now.latency_p99_ms, 2),
        "retries": now.retries,
        "throttled": now.throttled,
        "errors": now.errors,
        "bytes": now.bytes,
        "window": now.window,
        "shards": now.shards,
    }
