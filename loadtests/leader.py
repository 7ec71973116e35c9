"""The one process that leads a load run: it makes the run, hears its workers and ends it."""

from __future__ import annotations

import logging
import secrets
import time
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

import gevent

from loadtests import ledgers
from simulator.events import EventLog
from simulator.fleet import Fleet
from simulator.measure import describe
from simulator.telling import Teller
from simulator.workers import Told, combined, slices, together

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from simulator.measure import Progress, RunSummary
    from simulator.scenario import RunInfo, Scenario

log = logging.getLogger("fleetcast")

TICK_S = 0.2
# After the end of the schedule, for what was throttled to be tried again.
LATE_S = 120.0
# From the start of the schedule, for a slice to be heard of.
SILENT_S = 30.0


class Part(Told):
    """A slice of the fleet, and what is heard of whoever drives it.

    Attributes:
        devices: The slice.
        node: Which worker drives it; empty before it is heard of.
        problem: What went wrong; empty where nothing did.
    """

    def __init__(self, devices: tuple[int, int]) -> None:
        super().__init__()
        self.devices = devices
        self.node = ""
        self.problem = ""

    @property
    def over(self) -> bool:
        """Whether nothing more is to be heard."""
        return self.summary is not None or bool(self.problem)


class Leader:
    """Leads one run.

    Args:
        plan: What is driven.
        run: Which run.
        run_dir: Its folder.
        users: Locust users; each drives a slice.
        alive: Tells whether a worker is there.
        watch: Is told about twice a second how it goes.

    Attributes:
        concluded: Whether it was said what came of the run.
    """

    def __init__(
        self,
        plan: Scenario,
        run: RunInfo,
        run_dir: Path,
        users: int,
        alive: Callable[[str], bool],
        *,
        watch: Callable[[Progress], None],
    ) -> None:
        self.plan = plan
        self.run = run
        self.run_dir = run_dir
        self.token = secrets.token_hex(8)
        ledgers.mark(run_dir, self.token)
        self.parts = [Part(devices) for devices in slices(plan.fleet.devices, users)]
        self._by_slice = {part.devices: part for part in self.parts}
        self._alive = alive
        self._watch = watch
        self._events = EventLog(run_dir)
        self.latest: Progress | None = None
        self._teller = Teller(plan, run.start_ms, self._events, self._progressed)
        self.summary: RunSummary | None = None
        self.concluded = False

    def _progressed(self, now: Progress) -> None:
        self.latest = now
        self._watch(now)

    def hear(self, node: str, message: dict[str, Any]) -> None:
        """Takes what a worker tells of a slice."""
        part = self._by_slice.get(tuple(message["slice"]))
        if part is None:
            log.error("fleetcast: worker %s tells of devices that are no slice", node)
            return
        part.node = node
        if "ledger" in message:
            try:
                ledgers.receive(self.run_dir, message["ledger"])
            except (OSError, ValueError) as error:
                self._lose(part, f"its ledger did not arrive: {error}")
        if "told" in message:
            part.hear(message["told"])
        if message.get("problem"):
            part.problem = message["problem"]
            log.error("fleetcast: devices %d to %d: %s", *part.devices, part.problem)

    def lead(self) -> RunSummary:
        """Waits until every slice is over; returns what the run came to."""
        self._events.add(
            "run_started", run=self.run.id, start_ms=self.run.start_ms,
            total=self.plan.profile.total,
        )  # fmt: skip
        start_s = self.run.start_ms / 1000
        give_up_s = start_s + self.plan.profile.duration_s + LATE_S
        while not all(part.over for part in self.parts) and time.time() < give_up_s:
            elapsed_s = time.time() - start_s
            self._teller.tell(elapsed_s, lambda _: combined(self.parts))
            for part in self.parts:
                if not part.over:
                    self._check(part, elapsed_s)
            gevent.sleep(TICK_S)
        return self.end()

    def _check(self, part: Part, elapsed_s: float) -> None:
        if part.node and not self._alive(part.node):
            self._lose(part, f"worker {part.node} is lost; what it may have sent is unknown")
        elif not part.node and elapsed_s > SILENT_S:
            self._lose(part, f"no worker was heard of within {SILENT_S:.0f} s of the start")

    def _lose(self, part: Part, problem: str) -> None:
        """Gives a slice up: what was due until now may have been sent."""
        part.problem = problem
        log.error("fleetcast: devices %d to %d: %s", *part.devices, part.problem)
        fleet = Fleet(self.plan, replace(self.run, devices_slice=part.devices))
        ledgers.give_up(self.run_dir, part.devices, time.time_ns(), fleet.total)

    def end(self) -> RunSummary:
        """What the run came to; known from the first call on."""
        if self.summary is None:
            complete = all(part.summary and part.summary["complete"] for part in self.parts)
            self.summary = together(self.run, self.parts, complete=complete)
            self._events.add("run_ended", **asdict(self.summary))
            self._teller.last(combined(self.parts))
            log.info("%s", describe(self.summary))
        return self.summary

    @property
    def problems(self) -> list[str]:
        """What went wrong, each once."""
        return list(dict.fromkeys(part.problem for part in self.parts if part.problem))
