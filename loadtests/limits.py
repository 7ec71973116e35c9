"""Thresholds of a load run, and what of them was kept."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree as ET

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from simulator.measure import RunSummary
    from simulator.scenario import Scenario


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that was asked for."""

    name: str
    ok: bool
    detail: str


@dataclass(frozen=True, slots=True)
class Limits:
    """Most that is tolerated; None does not ask.

    Attributes:
        fail_ratio: Part of the readings that failed, or of which nothing is known, 0 to 1.
        p99_ms: 99th percentile of the time from when a reading was due until it was acknowledged.
        rate_error_pct: Distance of the rate from the scenario's, per cent.
        lost: Readings that were acknowledged and did not land; asked by the verification.
    """

    fail_ratio: float | None = None
    p99_ms: float | None = None
    rate_error_pct: float | None = None
    lost: int | None = None

    def applied_to(self, plan: Scenario) -> Scenario:
        """The scenario with what the verification asks for in its place."""
        changed: dict[str, Any] = {}
        if self.lost is not None:
            changed["lost"] = self.lost
        if self.rate_error_pct is not None:
            changed["rate_error_pct"] = self.rate_error_pct
        expect = plan.expect.model_copy(update=changed)
        return plan.model_copy(update={"expect": expect})

    def checks(self, summary: RunSummary) -> list[Check]:
        """What of it a run kept, as far as its senders know."""
        found = [_complete(summary)]
        if self.fail_ratio is not None:
            ratio = (summary.failed + summary.unknown) / max(1, summary.sent)
            found.append(_at_most("fail ratio", ratio, self.fail_ratio, ".4f"))
        if self.p99_ms is not None:
            p99_ms = summary.latency_ms.get("p99", 0.0)
            found.append(_at_most("p99 until acknowledged, ms", p99_ms, self.p99_ms, ".1f"))
        if self.rate_error_pct is not None:
            error = abs(summary.rate_error_pct)
            found.append(_at_most("rate error, %", error, self.rate_error_pct, ".2f"))
        return found


def _complete(summary: RunSummary) -> Check:
    sent = f"{summary.sent:,} readings sent"
    return Check("schedule driven to its end", summary.complete, sent)


def _at_most(name: str, value: float, most: float, form: str) -> Check:
    return Check(name, value <= most, f"{value:{form}}, at most {most:{form}}")


def verdict_checks(run_dir: Path) -> Iterator[Check]:
    """What the verification of a run asked for; nothing where there was none."""
    path = run_dir / "verdict.json"
    if path.exists():
        for check in json.loads(path.read_text())["checks"]:
            yield Check(check["name"], check["ok"], check["detail"])


def write_junit(path: Path, run_id: str, checks: list[Check]) -> None:
    """Writes checks as a JUnit report."""
    failed = [check for check in checks if not check.ok]
    suite = ET.Element(
        "testsuite", name=f"fleetcast load {run_id}",
        tests=str(len(checks)), failures=str(len(failed)), errors="0",
    )  # fmt: skip
    for check in checks:
        case = ET.SubElement(suite, "testcase", classname=run_id, name=check.name)
        if not check.ok:
            ET.SubElement(case, "failure", message=check.detail)
        else:
            ET.SubElement(case, "system-out").text = check.detail
    path.parent.mkdir(parents=True, exist_ok=True)
    ET.ElementTree(suite).write(path, encoding="utf-8", xml_declaration=True)
