"""The verdict: what a run came to, as verdict.json holds it and as a person reads it."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from fleetcast.errors import UsageError

if TYPE_CHECKING:
    from pathlib import Path

FILE_NAME = "verdict.json"


@dataclass(frozen=True, slots=True)
class Landed:
    """What one store holds of a run, in readings.

    Attributes:
        unique: Different readings of the run that are there.
        duplicated: Copies of a reading beyond those that were sent.
        lost: Acknowledged, not refused, and not there after the landing deadline.
        phantom: There, though never sent, surely not taken, or to be refused.
        corrupted: There with another content than was sent.
        late: There, but only since after the landing deadline.
    """

    unique: int = 0
    duplicated: int = 0
    lost: int = 0
    phantom: int = 0
    corrupted: int = 0
    late: int = 0


@dataclass(frozen=True, slots=True)
class Refused:
    """Readings that the processor refused, by what was found in quarantine.

    Attributes:
        expected: Acknowledged readings that had to be refused.
        quarantined: Different readings of the run in quarantine.
        missing: Had to be refused, and are not in quarantine.
        wrong_reason: In quarantine with another reason than the one that is true of them.
        unexpected: In quarantine though nothing is wrong with them.
        repeated: Messages beyond the first about a reading.
    """

    expected: int = 0
    quarantined: int = 0
    missing: int = 0
    wrong_reason: int = 0
    unexpected: int = 0
    repeated: int = 0


@dataclass(frozen=True, slots=True)
class Rate:
    """Readings per second over the run, and how late they left (milliseconds after they were due)."""

    target: float
    achieved: float
    error_pct: float
    schedule_lag_ms: dict[str, float]


@dataclass(frozen=True, slots=True)
class AlarmOutcome:
    """What an alarm did.

    Attributes:
        name: Its short name.
        expected: Whether the scenario asks for it.
        fired_after_s: From the start of the fault that names it (else the run's) until it fired.
        recovered_after_s: From the end of that fault until it recovered; negative if before.
        ok: Whether it did as it was asked.
    """

    name: str
    expected: bool
    fired_after_s: float | None
    recovered_after_s: float | None
    ok: bool


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that was asked of the run."""

    name: str
    ok: bool
    detail: str


@dataclass(frozen=True, slots=True)
class NotChecked:
    """One thing that could not be asked of the run, and why."""

    name: str
    why: str


@dataclass(frozen=True, slots=True)
class Verdict:
    """All of it. `landed` is by store: `timeseries` and `archive`, as far as they were looked at."""

    run_id: str
    verdict: Literal["pass", "fail"]
    target: str
    environment: str
    scenario: str
    devices: int
    complete: bool
    sent: int
    acked: int
    failed: int
    unknown: int
    landed: dict[str, Landed]
    refused: Refused
    landing_latency_ms: dict[str, float]
    rate: Rate
    alarms: list[AlarmOutcome]
    checks: list[Check]
    notes: list[str]
    not_checked: list[NotChecked] = field(default_factory=list)

    def lines(self) -> list[str]:
        """The verdict for a person."""
        lag = self.rate.schedule_lag_ms
        latency = self.landing_latency_ms
        lines = [
            (
                f"sent        {self.sent:,}: acked {self.acked:,}, failed {self.failed:,}, "
                f"unknown {self.unknown:,}"
            ),
            (
                f"rate        {self.rate.achieved:,.1f}/s of {self.rate.target:,.1f}/s "
                f"({self.rate.error_pct:+.2f} %), schedule lag p99 {lag['p99']:.0f} ms"
            ),
        ]
        for store, landed in self.landed.items():
            lines.append(
                f"{store:<11} {landed.unique:,} landed, lost {landed.lost:,}, "
                f"duplicated {landed.duplicated:,}, phantom {landed.phantom:,}, "
                f"corrupted {landed.corrupted:,}, late {landed.late:,}"
            )
        if latency:
            lines.append(
                f"latency     p50 {latency['p50']:.0f} ms, p95 {latency['p95']:.0f} ms, "
                f"p99 {latency['p99']:.0f} ms, max {latency['max']:.0f} ms from device to row"
            )
        refused = self.refused
        if refused.expected or refused.quarantined:
            lines.append(
                f"refused     {refused.quarantined:,} of {refused.expected:,} in quarantine, "
                f"each with its reason"
                if not (refused.missing or refused.wrong_reason or refused.unexpected)
                else f"refused     {refused.quarantined:,} in quarantine, {refused.expected:,} "
                f"expected: missing {refused.missing:,}, wrong reason {refused.wrong_reason:,}, "
                f"unexpected {refused.unexpected:,}"
            )
        lines += [f"alarm       {_alarm_line(alarm)}" for alarm in self.alarms]
        lines += [f"note        {note}" for note in self.notes]
        lines += [
            f"FAILED      {check.name}: {check.detail}" for check in self.checks if not check.ok
        ]
        passed = sum(check.ok for check in self.checks)
        lines += [f"not checked {one.name}: {one.why}" for one in self.not_checked]
        names = ", ".join(one.name for one in self.not_checked)
        but = f"; not checked: {names}" if names else ""
        lines.append(
            f"verdict     {self.verdict} ({passed} of {len(self.checks)} checks hold{but})"
        )
        return lines

    def save(self, run_dir: Path) -> None:
        """Writes verdict.json, whole or not at all."""
        path = run_dir / FILE_NAME
        temporary = path.with_suffix(".tmp")
        temporary.write_text(json.dumps(asdict(self), indent=2) + "\n")
        temporary.replace(path)


def _alarm_line(alarm: AlarmOutcome) -> str:
    if alarm.fired_after_s is None:
        return f"{alarm.name} did not fire"
    recovered = (
        "did not recover"
        if alarm.recovered_after_s is None
        else f"recovered {_after(alarm.recovered_after_s)} the end"
    )
    asked = "" if alarm.expected else " (not asked for)"
    return f"{alarm.name} fired {_after(alarm.fired_after_s)} the start, {recovered}{asked}"


def _after(seconds: float) -> str:
    return f"{seconds:.1f} s after" if seconds >= 0 else f"{-seconds:.1f} s before"


def read_verdict(run_dir: Path) -> Verdict:
    """The verdict of a verified run.

    Raises:
        UsageError: there is none, or it is not readable.
    """
    path = run_dir / FILE_NAME
    try:
        told: dict[str, Any] = json.loads(path.read_text())
        told["landed"] = {store: Landed(**value) for store, value in told["landed"].items()}
        told["refused"] = Refused(**told["refused"])
        told["rate"] = Rate(**told["rate"])
        told["alarms"] = [AlarmOutcome(**value) for value in told["alarms"]]
        told["not_checked"] = [NotChecked(**value) for value in told.get("not_checked", ())]
        told["checks"] = [Check(**value) for value in told["checks"]]
        return Verdict(**told)
    except FileNotFoundError:
        raise UsageError(
            f"run {run_dir.name} has no verdict: run fleetcast verify {run_dir.name}"
        ) from None
    except (ValueError, KeyError, TypeError) as error:
        raise UsageError(f"{path} is no verdict ({error}): verify the run again") from error
