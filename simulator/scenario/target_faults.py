"""Faults of the target itself: calls to its services that fail while a scenario is driven at it.

They are the local cloud's faults (`fleetcast cloud fault`), with a window in the run and an alarm
that they must raise. What is wrong with one as a call, the local cloud says when it is added.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from simulator.scenario.checks import known_alarm
from simulator.units import Duration, PositiveDuration

if TYPE_CHECKING:
    from collections.abc import Iterable

    from simulator.faults import Fault

_SHARE = Annotated[float, Field(gt=0, le=1)]
# Members that one kind must have, and others cannot.
_NEEDED = {"latency": "latency", "partial": "records", "error": "code"}
_TAKE_CODE = {"error", "partial"}


class TargetFault(BaseModel):
    """Calls to the target that fail, or wait.

    Attributes:
        name: Its name, as no other fault of the scenario has it.
        call: Which calls: `service` or `service:operation`, such as `kinesis:PutRecords`.
        kind: What they meet.
        share: Of the calls.
        start: When it begins, from the run's start.
        duration: How long it lasts.
        latency: How much later they are answered (`latency`).
        records: Share of a batch's records that is refused (`partial`).
        code: Error code (`error`, or of what `partial` refuses).
        alarm: The alarm that it must raise.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: Annotated[str, Field(pattern=r"^[a-z][a-z0-9-]{0,40}$")]
    call: Annotated[str, Field(pattern=r"^[a-z][a-z0-9-]*(:([A-Z]\w*|\*))?$")]
    kind: Literal["throttle", "error", "latency", "partial", "outage", "timeout"]
    share: _SHARE = 1.0
    start: Duration = 0.0
    duration: PositiveDuration
    latency: PositiveDuration | None = None
    records: _SHARE | None = None
    code: Annotated[str, Field(pattern=r"^[A-Za-z][\w.]{0,99}$")] | None = None
    alarm: str | None = None

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        for kind, member in _NEEDED.items():
            there = getattr(self, member) is not None
            if kind == self.kind and not there:
                raise ValueError(f"{member}: a fault of kind {kind} needs it")
            if there and kind != self.kind and not (member == "code" and self.kind in _TAKE_CODE):
                raise ValueError(f"{member}: does not belong to a fault of kind {self.kind}")
        return self

    @property
    def end_s(self) -> float:
        """When it ends, seconds from the run's start."""
        return self.start + self.duration

    def scaled(self, time: float) -> Self:
        """The fault with its window stretched."""
        return self.model_copy(
            update={"start": self.start * time, "duration": self.duration * time}
        )

    def asked(self, already_s: float, seed: int) -> dict[str, Any]:
        """The fault as the local cloud's admin API is asked for it.

        Args:
            already_s: Seconds since the run's start; negative before it.
            seed: Makes `share` the same again.
        """
        service, _, operation = self.call.partition(":")
        asked = {
            "service": service,
            "operation": operation or "*",
            "kind": self.kind,
            "share": self.share,
            "after_s": max(0.0, self.start - already_s),
            "for_s": self.duration,
            "seed": seed,
            "latency_ms": None if self.latency is None else self.latency * 1000,
            "records": self.records,
            "code": self.code,
        }
        return {name: value for name, value in asked.items() if value is not None}


def check_target_faults(
    faults: Iterable[TargetFault], others: Iterable[Fault], duration_s: float
) -> None:
    """Checks that they have names of their own and are within the run.

    Raises:
        ValueError: one is not.
    """
    names = {fault.name for fault in others}
    for index, fault in enumerate(faults):
        where = f"target_faults.{index}"
        if fault.name in names:
            raise ValueError(f"{where}.name: two faults have the name {fault.name!r}")
        names.add(fault.name)
        if fault.start >= duration_s:
            raise ValueError(
                f"{where}.start: {fault.name} begins at {fault.start:g} s of a run of "
                f"{duration_s:g} s"
            )
        if fault.alarm is not None:
            known_alarm(fault.alarm, f"{where}.alarm: ")
