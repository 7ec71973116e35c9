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
class SlowDevice:
    """A device whose readings took long, in milliseconds from when they were due.

    Attributes:
        device: Its name.
        readings: How many were acknowledged.
        shard: Where the last of them went; None where no shard is told.
        acked_p95_ms: Until they were acknowledged.
        row_p95_ms: Until their rows were written.
        row_max_ms: The longest of these.
        object_p95_ms: Until their objects were written; None where none has landed.
    """

    device: str
    readings: int
    shard: str | None
    acked_p95_ms: float | None
    row_p95_ms: float | None
    row_max_ms: float | None
    object_p95_ms: float | None


@dataclass(frozen=True, slots=True)
class Order:
    """Readings that came after a later one of their device.

    Attributes:
        compared: Readings whose place is known.
        out_of_order: Those that came too late.
        devices: Devices that have any of them.
    """

    compared: int
    out_of_order: int
    devices: int


@dataclass(frozen=True, slots=True)
class Clock:
    """How far the stream's clock is ahead of that of one process of the simulator.

    Attributes:
        first_device: Of the devices that the process drives.
        last_device: The first that it does not.
        readings: How many the bounds come from.
        low_ms: At least this far; None where nothing bounds it.
        high_ms: At most.
        corrected_ms: What the process's times are moved by; 0 where the clocks may agree.
    """

    first_device: int
    last_device: int
    readings: int
    low_ms: float | None
    high_ms: float
    corrected_ms: float

    def told(self) -> str:
        """The bounds for a person."""
        low = "" if self.low_ms is None else f"{self.low_ms:+,.0f} to "
        what = (
            f"corrected by {self.corrected_ms:+,.0f} ms" if self.corrected_ms else "not corrected"
        )
        return (
            f"devices {self.first_device:,} to {self.last_device - 1:,}: the stream's clock is "
            f"{low or 'at most '}{self.high_ms:+,.0f} ms ahead of the simulator's; {what}"
        )


@dataclass(frozen=True, slots=True)
class NotChecked:
    """One thing that could not be asked of the run, and why."""

    name: str
    why: str


@dataclass(frozen=True, slots=True)
class Verdict:
    """All of it.

    `landed` is by store: `timeseries` and `archive`, as far as they were looked at;
    `unknown_landed` is how many readings of unknown outcome each has. `latency_ms` is by store, then by
    what it counts from (`from_event`, `from_ack`), then by percentile; `timed` is of how many
    acknowledged readings it, `slowest` and `order` are. `order` is by where: `sent`, `stream` and
    the stores.
    """

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
    unknown_landed: dict[str, int] = field(default_factory=dict)
    timed: int = 0
    latency_ms: dict[str, dict[str, dict[str, float]]] = field(default_factory=dict)
    slowest: list[SlowDevice] = field(default_factory=list)
    order: dict[str, Order] = field(default_factory=dict)
    clocks: list[Clock] = field(default_factory=list)
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
        if self.unknown_landed:
            told = ", ".join(
                f"{count:,} in {store}" for store, count in self.unknown_landed.items()
            )
            lines.append(f"unknown     landed all the same: {told}")
        if latency:
            lines.append(
                f"latency     p50 {latency['p50']:.0f} ms, p95 {latency['p95']:.0f} ms, "
                f"p99 {latency['p99']:.0f} ms, max {latency['max']:.0f} ms from device to row"
            )
        lines += self._timing_lines()
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

    def _timing_lines(self) -> list[str]:
        """Latency from acknowledgement, and what came out of order."""
        lines = []
        for store, what in (("timeseries", "row"), ("archive", "object")):
            found = self.latency_ms.get(store, {}).get("from_ack")
            if found:
                lines.append(
                    f"{'':<11} p50 {found['p50']:.0f} ms, p95 {found['p95']:.0f} ms, "
                    f"p99 {found['p99']:.0f} ms, max {found['max']:.0f} ms from acknowledgement "
                    f"to {what}"
                )
        if any(order.out_of_order for order in self.order.values()):
            told = ", ".join(f"{name} {o.out_of_order:,}" for name, o in self.order.items())
            lines.append(f"order       out of order within their devices: {told}")
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
        told["slowest"] = [SlowDevice(**value) for value in told.get("slowest", ())]
        told["order"] = {name: Order(**value) for name, value in told.get("order", {}).items()}
        told["clocks"] = [Clock(**value) for value in told.get("clocks", ())]
        return Verdict(**told)
    except FileNotFoundError:
        raise UsageError(
            f"run {run_dir.name} has no verdict: run fleetcast verify {run_dir.name}"
        ) from None
    except (ValueError, KeyError, TypeError) as error:
        raise UsageError(f"{path} is no verdict ({error}): verify the run again") from error
