"""A verdict for a build server: JUnit's XML, and Markdown for a summary page."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING
from xml.etree import ElementTree as ET

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fleetcast.verify.exceptions import Amiss
    from fleetcast.verify.verdict import Verdict

# Characters that XML 1.0 cannot hold, even escaped.
_NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
SHOWN = 10


def junit(verdict: Verdict) -> str:
    """A test suite with a test case for each check; what was not checked is skipped."""
    failed = [check for check in verdict.checks if not check.ok]
    suite = ET.Element(
        "testsuite",
        name=f"fleetcast.{verdict.scenario}",
        tests=str(len(verdict.checks) + len(verdict.not_checked)),
        failures=str(len(failed)),
        errors="0",
        skipped=str(len(verdict.not_checked)),
    )
    properties = ET.SubElement(suite, "properties")
    for name in ("run_id", "target", "environment", "sent", "acked", "failed", "unknown"):
        value = _xml(str(getattr(verdict, name)))
        ET.SubElement(properties, "property", name=name, value=value)
    for check in verdict.checks:
        case = ET.SubElement(
            suite, "testcase", classname=f"fleetcast.{verdict.scenario}", name=_xml(check.name)
        )
        if check.ok:
            ET.SubElement(case, "system-out").text = _xml(check.detail)
        else:
            ET.SubElement(case, "failure", message=_xml(check.detail))
    for one in verdict.not_checked:
        case = ET.SubElement(
            suite, "testcase", classname=f"fleetcast.{verdict.scenario}", name=_xml(one.name)
        )
        ET.SubElement(case, "skipped", message=_xml(one.why))
    ET.indent(suite)
    return ET.tostring(suite, encoding="unicode", xml_declaration=True) + "\n"


def markdown(verdict: Verdict, exceptions: Sequence[Amiss]) -> str:
    """The verdict as a page: what failed first, then the numbers, then readings behind them."""
    passed = sum(check.ok for check in verdict.checks)
    lines = [
        f"## fleetcast: {verdict.verdict}",
        "",
        (
            f"Run `{verdict.run_id}` of scenario `{verdict.scenario}` on {verdict.target}, environment "
            f"`{verdict.environment}`: {passed} of {len(verdict.checks)} checks hold."
        ),
        "",
    ]
    lines += [
        f"- **{_cell(check.name)}**: {_cell(check.detail)}"
        for check in verdict.checks
        if not check.ok
    ]
    lines += [f"- not checked {_cell(one.name)}: {_cell(one.why)}" for one in verdict.not_checked]
    lines += [
        "",
        "| sent | acknowledged | failed | unknown | rate | schedule lag p99 |",
        "|---:|---:|---:|---:|---:|---:|",
        (
            f"| {verdict.sent:,} | {verdict.acked:,} | {verdict.failed:,} | {verdict.unknown:,} | "
            f"{verdict.rate.achieved:,.1f}/s of {verdict.rate.target:,.1f}/s | "
            f"{verdict.rate.schedule_lag_ms['p99']:.0f} ms |"
        ),
        "",
        "| store | unique | lost | duplicated | phantom | corrupted | late |",
        "|---|---:|---:|---:|---:|---:|---:|",
    ]
    for store, found in verdict.landed.items():
        lines.append(
            f"| {store} | {found.unique:,} | {found.lost:,} | {found.duplicated:,} | "
            f"{found.phantom:,} | {found.corrupted:,} | {found.late:,} |"
        )
    if any(verdict.latency_ms.values()):
        lines += ["", "| latency | p50 | p95 | p99 | max |", "|---|---:|---:|---:|---:|"]
        for store, found_of in verdict.latency_ms.items():
            for since, told in found_of.items():
                values = " | ".join(f"{told[p]:,.0f} ms" for p in ("p50", "p95", "p99", "max"))
                lines.append(f"| {store}, {since.replace('_', ' ')} | {values} |")
    if verdict.alarms:
        lines += ["", "| alarm | fired | recovered | asked for | ok |", "|---|---:|---:|---|---|"]
        for alarm in verdict.alarms:
            fired, recovered = _s(alarm.fired_after_s), _s(alarm.recovered_after_s)
            asked, ok = ("yes" if told else "no" for told in (alarm.expected, alarm.ok))
            lines.append(f"| {alarm.name} | {fired} | {recovered} | {asked} | {ok} |")
    if exceptions:
        lines += [
            "",
            "| store | what | device | seq | shard | found |",
            "|---|---|---|---:|---|---|",
        ]
        for one in exceptions[:SHOWN]:
            lines.append(
                f"| {one.store} | {one.kind} | {_cell(one.device)} | {one.seq} | "
                f"{_cell(one.shard or '')} | {_cell(one.found[:80])} |"
            )
        if len(exceptions) > SHOWN:
            lines += ["", f"{len(exceptions) - SHOWN} more are named in exceptions.jsonl."]
    lines += [f"\n{_cell(note)}" for note in verdict.notes]
    return "\n".join(lines) + "\n"


def _s(seconds: float | None) -> str:
    return "never" if seconds is None else f"{seconds:.1f} s"


def _xml(text: str) -> str:
    return _NOT_XML.sub("\ufffd", text)


def _cell(text: str) -> str:
    """A text that stays within a cell and is no markup, whatever a device sent."""
    flat = " ".join(text.split()).replace("\\", "\\\\")
    for letter in "`*_[]|#~":
        flat = flat.replace(letter, f"\\{letter}")
    return flat.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
