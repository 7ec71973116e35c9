"""Checks of a scenario that concern several of its parts. Each names the field to change."""

from __future__ import annotations

import difflib
from itertools import combinations
from typing import TYPE_CHECKING

from simulator.faults import ClockFault
from simulator.faults.base import device_range
from simulator.faults.clock import FUTURE_S, MARGIN_S
from stack.alarms import ALARM_NAMES

if TYPE_CHECKING:
    from simulator.faults import Fault
    from simulator.scenario.model import Scenario


def known_alarm(name: str, where: str = "") -> str:
    """The name of an alarm of the stack.

    Raises:
        ValueError: the stack has none of this name.
    """
    if name not in ALARM_NAMES:
        close = difflib.get_close_matches(name, ALARM_NAMES, 1)
        hint = f"did you mean {close[0]}?" if close else "known are " + ", ".join(ALARM_NAMES)
        raise ValueError(f"{where}unknown alarm {name!r}: {hint}")
    return name


def check_faults(scenario: Scenario) -> None:
    """Checks that faults are on something, at some time, and that what comes of them is known.

    Raises:
        ValueError: one is not.
    """
    names: dict[str, int] = {}
    for index, fault in enumerate(scenario.faults):
        if fault.name in names:
            raise ValueError(f"faults.{index}.name: two faults have the name {fault.name!r}")
        names[fault.name] = index
        _check_place(scenario, index, fault)
        if fault.start >= scenario.profile.duration_s:
            raise ValueError(
                f"faults.{index}.start: {fault.name} begins at {fault.start:g} s of a run of "
                f"{scenario.profile.duration_s:g} s"
            )
        if fault.alarm is not None:
            known_alarm(fault.alarm, f"faults.{index}.alarm: ")
        if isinstance(fault, ClockFault):
            _check_clock(scenario, index, fault)
    _check_latency(scenario)
    _check_moved(scenario)


def check_named_faults(scenario: Scenario) -> None:
    """Checks that expected alarms name faults that there are.

    Raises:
        ValueError: one does not.
    """
    names = [fault.name for fault in (*scenario.faults, *scenario.target_faults)]
    for index, alarm in enumerate(scenario.expect.alarms):
        if alarm.fault is not None and alarm.fault not in names:
            known = ", ".join(names) or "none"
            raise ValueError(
                f"expect.alarms.{index}.fault: there is no fault {alarm.fault!r}: known are {known}"
            )


def _check_place(scenario: Scenario, index: int, fault: Fault) -> None:
    classes = {kind.name: kind for kind in scenario.fleet.classes}
    for name in fault.classes or ():
        if name not in classes:
            raise ValueError(
                f"faults.{index}.classes: there is no class {name!r}: known are "
                f"{', '.join(classes)}"
            )
    for one in fault.devices or ():
        if device_range(one)[1] >= scenario.fleet.devices:
            raise ValueError(
                f"faults.{index}.devices: {one!r} is beyond the fleet's {scenario.fleet.devices} "
                "devices, which are numbered from 0"
            )
    if not any(scenario.reaches(fault, kind) for kind in scenario.fleet.classes):
        if not fault.signals:
            raise ValueError(
                f"faults.{index}: {fault.kind} breaks standard payloads, and the classes that "
                f"{fault.name} is on have shapes of their own"
            )
        among = f"none of the classes {', '.join(fault.classes)}" if fault.classes else "no class"
        missing = next(
            name for name in fault.signals
            if not any(name in kind.signals for kind in scenario.fleet.classes
                       if fault.classes is None or kind.name in fault.classes)
        )  # fmt: skip
        raise ValueError(
            f"faults.{index}.signal: {fault.name} is on signal {missing!r}, which {among} has"
        )


def _check_clock(scenario: Scenario, index: int, fault: ClockFault) -> None:
    """Refuses a shift so near to a limit that the target's own clock decides what comes of it."""
    limits = {
        f"the memory store's {scenario.expect.memory_hours:g} h": -scenario.expect.memory_hours
        * 3600,
        "15 min in the future": FUTURE_S,
    }
    for what, limit_s in limits.items():
        if abs(fault.shift_s - limit_s) < MARGIN_S:
            raise ValueError(
                f"faults.{index}: {fault.name} moves timestamps to {what}, where Timestream may "
                f"take them or not: stay {MARGIN_S:g} s away from it"
            )


def _check_latency(scenario: Scenario) -> None:
    expect = scenario.expect
    asked = [
        p for p in ("p50", "p95", "p99") if getattr(expect, f"landing_latency_{p}") is not None
    ]
    if not asked:
        return
    for fault in scenario.faults:
        if isinstance(fault, ClockFault) or fault.reschedules:
            raise ValueError(
                f"expect.landing_latency_{asked[-1]}: it counts from timestamps, and {fault.name} "
                f"({fault.kind}) moves readings away from theirs: ask for one of the two"
            )


def _check_moved(scenario: Scenario) -> None:
    """Refuses two clock faults that could give a device two readings of one time."""
    end_s = scenario.profile.duration_s
    moving = [(i, f) for i, f in enumerate(scenario.faults) if isinstance(f, ClockFault)]
    for (_, one), (index, other) in combinations(moving, 2):
        shared = not (one.classes and other.classes and not set(one.classes) & set(other.classes))
        begins = max(one.start + one.shift_s, other.start + other.shift_s)
        ends = min(min(one.end_s, end_s) + one.shift_s, min(other.end_s, end_s) + other.shift_s)
        if shared and begins < ends:
            raise ValueError(
                f"faults.{index}: {one.name} and {other.name} move readings to the same times, "
                "where one would replace the other: give them other classes, times or shifts"
            )
