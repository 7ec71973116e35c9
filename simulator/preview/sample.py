"""What a scenario would do, sampled before anything is sent: its rate, and signals of some devices."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from simulator.fleet import Fleet
from simulator.scenario.model import RunInfo

if TYPE_CHECKING:
    from simulator.scenario import Scenario

Floats = NDArray[np.float64]

BINS = 300
# Of one device; and of the whole fleet, where arrivals are counted one by one.
MAX_READINGS = 3000
MAX_ARRIVALS = 2_000_000
PER_CLASS = 4


@dataclass(frozen=True, slots=True)
class Line:
    """One signal of one device: seconds, values, and which of them a fault is on; shapes (n,)."""

    device: str
    at_s: Floats
    values: Floats
    faulty: NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Panel:
    """One signal of one class."""

    kind: str
    signal: str
    unit: str
    lines: list[Line]


@dataclass(frozen=True, slots=True)
class Span:
    """A window of a fault."""

    name: str
    kind: str
    start_s: float
    end_s: float


@dataclass(frozen=True, slots=True)
class Preview:
    """What a scenario would do.

    Attributes:
        at_s: Seconds from the start, shape (BINS,); the middles of equal times.
        rate: The rate that is asked for at them, readings per second.
        arrivals: Readings per second that are due around them; None where they are too many.
        panels: Signals by class.
        spans: Windows of faults.
        shown_s: How far the signals are shown.
    """

    name: str
    duration_s: float
    total: int
    at_s: Floats
    rate: Floats
    arrivals: Floats | None
    panels: list[Panel]
    spans: list[Span]
    shown_s: float


def sample(scenario: Scenario, *, per_class: int = PER_CLASS) -> Preview:
    """Samples a scenario.

    Args:
        scenario: Which.
        per_class: Devices of each class whose signals are shown; those with faults come first.
    """
    run = RunInfo("preview", 0, "local", "preview", "null", (0, scenario.fleet.devices))
    whole = Fleet(scenario, run)
    chosen = _devices(whole, per_class)
    fleet = Fleet(scenario, run, only=chosen)
    duration_s = scenario.profile.duration_s
    edges = np.linspace(0, duration_s, BINS + 1)
    middles = (edges[:-1] + edges[1:]) / 2
    arrivals = None
    if whole.total <= MAX_ARRIVALS:
        due_s = whole.due_s(np.arange(whole.total, dtype=np.int64))
        arrivals = np.histogram(due_s, edges)[0] / (duration_s / BINS)
    panels, shown_s = _panels(fleet, chosen)
    return Preview(
        scenario.name,
        duration_s,
        whole.total,
        middles,
        np.array([scenario.profile.rate_at(t) for t in middles.tolist()]),
        arrivals,
        panels,
        _spans(scenario),
        shown_s,
    )


def _devices(fleet: Fleet, per_class: int) -> list[int]:
    """Numbers of devices to show: of each class some that faults are on, and then others."""
    scenario = fleet.scenario
    first = np.zeros(scenario.fleet.devices, dtype=np.int64)
    for index, fault in enumerate(scenario.faults):
        if fault.signals or fault.of == "devices":
            mine = np.flatnonzero(fleet.picked(index) & (first == 0))[:1]
            first[mine] = 2 if fault.signals else 1
    chosen: list[int] = []
    for kind in range(len(scenario.fleet.classes)):
        members = np.flatnonzero(fleet.class_of == kind)
        ordered = members[np.argsort(-first[members], kind="stable")]
        chosen += ordered[:per_class].tolist()
    return chosen


def _panels(fleet: Fleet, chosen: list[int]) -> tuple[list[Panel], float]:
    blocks = fleet.blocks(0, MAX_READINGS * max(1, len(chosen)))
    columns: dict[str, list[Floats]] = {name: [] for name in fleet.signal_names}
    device: list[NDArray[np.int64]] = []
    at_s: list[Floats] = []
    faulty: list[NDArray[np.bool_]] = []
    for block in blocks:
        device.append(block.device_index)
        at_s.append(block.scheduled_s)
        unsent = np.zeros(len(block), np.bool_) if block.sends is None else block.sends == 0
        faulty.append(block.fault > 0)
        for name, column in block.values.items():
            columns[name].append(np.where(unsent, np.nan, column))
    if not device:
        return [], 0.0
    devices, times, faults = np.concatenate(device), np.concatenate(at_s), np.concatenate(faulty)
    values = {name: np.concatenate(parts) for name, parts in columns.items()}
    panels = []
    for index, kind in enumerate(fleet.scenario.fleet.classes):
        members = [one for one in chosen if fleet.class_of[one] == index]
        for name, signal in kind.signals.items():
            lines = [
                Line(
                    fleet.device_ids[one],
                    times[devices == one],
                    values[name][devices == one],
                    faults[devices == one],
                )
                for one in members
            ]
            panels.append(Panel(kind.name, name, signal.unit, lines))
    return panels, float(times.max())


def _spans(scenario: Scenario) -> list[Span]:
    end_s = scenario.profile.duration_s
    spans = []
    for fault in scenario.faults:
        start_s = fault.start
        while start_s < end_s:
            until_s = min(start_s + fault.duration, end_s)
            spans.append(Span(fault.name, fault.kind, start_s, until_s))
            if fault.every is None:
                break
            start_s += fault.every
    return spans
