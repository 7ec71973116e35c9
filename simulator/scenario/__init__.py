"""Scenarios: what devices there are, what they do, and what must come of it."""

from __future__ import annotations

from simulator.scenario.file import complaints, load, load_run
from simulator.scenario.model import (
    AlarmExpectation,
    Expectations,
    RunInfo,
    Scenario,
    validate_run_id,
)

__all__ = [
    "AlarmExpectation", "Expectations", "RunInfo", "Scenario", "complaints", "load", "load_run",
    "validate_run_id",
]  # fmt: skip
