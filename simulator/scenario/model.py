"""The scenario as its file describes it, validated field by field and as a whole."""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from fleetcast.errors import UsageError
from simulator.faults import AnyFault, PayloadFault
from simulator.rates import Phase, RateProfile
from simulator.rates.arrivals import crowding
from simulator.routes import Route
from simulator.scenario.checks import check_faults, check_named_faults, known_alarm
from simulator.scenario.errors import problems
from simulator.scenario.names import Sites, Weighted
from simulator.scenario.target_faults import TargetFault, check_target_faults
from simulator.signals import AnySignal, Correlated, Signal
from simulator.signals.route import RouteSignal
from simulator.signals.state import in_order
from simulator.templates import Template
from simulator.units import Duration, TimeOfDay, duration_s, rate_per_s

if TYPE_CHECKING:
    from pathlib import Path

    from simulator.faults import Fault
    from simulator.rates import Shape

MAX_DEVICES = 10_000_000
# Readings carry the numbers of their class and fault in a byte each.
MAX_KINDS = 255
# A device's readings are told apart by their millisecond, so they must be further apart than that.
MIN_GAP_S = 0.002
# Most chance, over a whole phase, that random arrivals break that.
MAX_CROWDING = 1e-6
_RUN_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")
_TAKEN = {
    "seq",
    "arrived_ms",
    "processed_ms",
    "time",
    "measure_name",
    "device",
    "class",
    "site",
    "run",
}
Name = Annotated[str, Field(pattern=r"^[a-z][a-z0-9-]{0,62}$")]
SignalName = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,62}$")]


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class DeviceClass(_Model):
    """Devices of one kind.

    Attributes:
        share: Of the devices that are not counted.
        count: How many there are, instead of a share.
        signals: What they measure, by name.
        routes: Ways that they travel, by name.
        firmware: A version, or versions with their weights; it is a field of the payload.
        payload: A shape of their own for the payload, see `simulator.templates`.
    """

    name: Name
    share: Annotated[float, Field(gt=0, le=1)] | None = None
    count: Annotated[int, Field(ge=1, le=MAX_DEVICES)] | None = None
    firmware: Weighted | None = None
    payload: Any = None
    signals: Annotated[dict[SignalName, AnySignal], Field(min_length=1, max_length=32)]
    routes: dict[Name, Route] = {}

    @model_validator(mode="after")
    def _sized(self) -> Self:
        if (self.share is None) == (self.count is None):
            raise ValueError("share: a class needs a share or a count, one of the two")
        if self.payload is not None:
            self.template  # noqa: B018 - it says what is wrong
        return self

    @cached_property
    def template(self) -> Template | None:
        """The shape of its payloads, where it has its own."""
        return None if self.payload is None else Template(self.payload, self.signals)

    @model_validator(mode="after")
    def _linked(self) -> Self:
        in_order(self.signals)
        for name, signal in self.signals.items():
            if isinstance(signal, RouteSignal) and signal.route not in self.routes:
                raise ValueError(
                    f"signals.{name}.route: the class has no route {signal.route!r}: "
                    "describe it under routes"
                )
            if isinstance(signal, Correlated) and signal.center is None:
                other = self.signals[signal.signal]
                if type(other).moments is Signal.moments:
                    raise ValueError(
                        f"signals.{name}: {other.model} does not tell its mean and spread: give "
                        f"center and scale of {signal.signal}"
                    )
        return self

    @field_validator("signals")
    @classmethod
    def _names(cls, value: dict[str, Any]) -> dict[str, Any]:
        taken = sorted(value.keys() & _TAKEN)
        if taken:
            raise ValueError(f"signal name {taken[0]!r} is a column of its own: use another")
        return value


class FleetSpec(_Model):
    """How many devices, where, of which classes.

    Attributes:
        devices: Number of devices; where all classes are counted, it follows from them.
        sites: How many there are, or their names, or names with weights.
        spread: `even` lets the devices take turns; in a `herd` all send at the same moment, once
            for each round.
    """

    devices: Annotated[int, Field(ge=1, le=MAX_DEVICES)]
    sites: Sites = 1
    spread: Literal["even", "herd"] = "even"
    classes: Annotated[list[DeviceClass], Field(min_length=1, max_length=MAX_KINDS)]

    @model_validator(mode="before")
    @classmethod
    def _counted(cls, value: Any) -> Any:
        if isinstance(value, dict) and "devices" not in value:
            kinds = value.get("classes")
            counts = [
                kind.get("count") for kind in (kinds if isinstance(kinds, list) else [])
                if isinstance(kind, dict)
            ]  # fmt: skip
            if counts and all(isinstance(count, int) for count in counts):
                return {**value, "devices": sum(counts)}
        return value

    @model_validator(mode="after")
    def _shares(self) -> Self:
        counted = sum(kind.count or 0 for kind in self.classes)
        shares = [kind.share for kind in self.classes if kind.share is not None]
        if not shares and counted != self.devices:
            raise ValueError(
                f"devices: the classes count {counted} devices, which is not {self.devices}: "
                "change a count, or give a class a share"
            )
        if shares and abs(sum(shares) - 1) > 1e-6:  # noqa: PLR2004 - rounding of written shares
            raise ValueError(f"the shares of the classes add up to {sum(shares):g}: make it 1")
        if shares and counted >= self.devices:
            raise ValueError(
                f"devices: the counted classes have {counted} of {self.devices} devices, which "
                "leaves none for shares"
            )
        names = [kind.name for kind in self.classes]
        if len(set(names)) < len(names):
            raise ValueError("two classes have the same name")
        return self


class AlarmExpectation(_Model):
    """An alarm that must fire soon after the fault that names it begins, and recover after it ends.

    Attributes:
        name: The alarm's short name.
        fault: The fault that raises it, where that does not name it.
        fires_within: Longest time from the fault's start.
        recovers_within: Longest time from the fault's end.
    """

    name: str
    fault: str | None = None
    fires_within: Duration
    recovers_within: Duration | None = None

    @field_validator("name")
    @classmethod
    def _known(cls, value: str) -> str:
        return known_alarm(value)


class Expectations(_Model):
    """What the verdict asks for. None means that it is not asked.

    Attributes:
        memory_hours: Retention of Timestream's memory store, which tells what comes of late
            readings; the stack's default.
    """

    lost: Annotated[int, Field(ge=0)] = 0
    duplicated: Annotated[int, Field(ge=0)] = 0
    failed: Annotated[int, Field(ge=0)] = 0
    rate_error_pct: Annotated[float, Field(gt=0)] | None = 1.0
    landing_latency_p50: Duration | None = None
    landing_latency_p95: Duration | None = None
    landing_latency_p99: Duration | None = None
    archive_latency_p50: Duration | None = None
    archive_latency_p95: Duration | None = None
    archive_latency_p99: Duration | None = None
    out_of_order: Annotated[int, Field(ge=0)] | None = None
    memory_hours: Annotated[float, Field(gt=0, le=8766)] = 24.0
    alarms: list[AlarmExpectation] = []


class Scenario(_Model):
    """What devices there are, what they do, and what must come of it."""

    name: Name
    description: str = ""
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0
    time_of_day: TimeOfDay = 0.0
    fleet: FleetSpec
    rate: Annotated[list[Phase], Field(min_length=1)]
    faults: Annotated[list[AnyFault], Field(max_length=MAX_KINDS)] = []
    target_faults: Annotated[list[TargetFault], Field(max_length=MAX_KINDS)] = []
    expect: Expectations = Expectations()

    @cached_property
    def profile(self) -> RateProfile:
        """The rate over time."""
        return RateProfile(self.rate, self.seed)

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        profile = self.profile
        if profile.peak <= 0 or profile.total < 1:
            raise ValueError("rate: the phases send nothing")
        for index, phase in enumerate(self.rate):
            self._check_gap(index, phase)
        check_faults(self)
        check_target_faults(self.target_faults, self.faults, profile.duration_s)
        check_named_faults(self)
        return self

    def _check_gap(self, index: int, phase: Shape) -> None:
        """Refuses a rate at which a device would have two readings in one moment."""
        devices = self.fleet.devices
        gap_s = phase.least_gap_s(devices)
        if gap_s < MIN_GAP_S:
            needed = int(phase.peak * MIN_GAP_S) + 1
            raise ValueError(
                f"rate.{index}: {phase.peak:g}/s over {devices} devices is a reading of each "
                f"every {gap_s * 1000:.2f} ms: at least {MIN_GAP_S * 1000:g} ms are needed, so use "
                f"{needed} devices or a lower rate"
            )
        if phase.arrivals != "poisson":
            return
        readings = max(1.0, phase.count(phase.duration))
        needed = devices
        while crowding(phase.peak, needed, MIN_GAP_S) * readings > MAX_CROWDING:
            needed += 1
        if needed > devices:
            raise ValueError(
                f"rate.{index}: at random, {phase.peak:g}/s over {devices} devices can be two "
                f"readings of one within {MIN_GAP_S * 1000:g} ms: use {needed} devices or a lower "
                "rate"
            )

    def reaches(self, fault: Fault, kind: DeviceClass) -> bool:
        """Whether a fault can be on devices of a class."""
        if kind.payload is not None and isinstance(fault, PayloadFault):
            return False
        named = fault.classes is None or kind.name in fault.classes
        return named and all(name in kind.signals for name in fault.signals)

    def with_overrides(
        self,
        *,
        devices: int | None = None,
        rate: str | float | None = None,
        duration: str | float | None = None,
        seed: int | None = None,
    ) -> Scenario:
        """The scenario with other numbers; its shape is kept.

        Args:
            devices: Number of devices.
            rate: The peak; all rates are multiplied alike.
            duration: Of the whole run; phases and the windows of faults are stretched alike.
            seed: Another seed.

        Raises:
            UsageError: the numbers do not fit one another.
        """
        changed = self.model_dump()
        try:
            rates = times = 1.0
            if rate is not None:
                rates = rate_per_s(_number(rate)) / self.profile.peak
            if duration is not None:
                times = duration_s(_number(duration)) / self.profile.duration_s
            changed["rate"] = [p.scaled(rates, times).model_dump() for p in self.rate]
            for kind in ("faults", "target_faults"):
                changed[kind] = [fault.scaled(times).model_dump() for fault in getattr(self, kind)]
            if devices is not None:
                changed["fleet"]["devices"] = devices
            if seed is not None:
                changed["seed"] = seed
            return Scenario.model_validate(changed)
        except ValidationError as error:
            raise UsageError(
                f"scenario {self.name} with these options: {problems(error)[0]}"
            ) from error
        except ValueError as error:
            raise UsageError(f"scenario {self.name} with these options: {error}") from error

    def save(self, path: Path, run: RunInfo) -> None:
        """Writes the resolved scenario with its run, as `load_run` reads it."""
        told = {**self.model_dump(mode="json"), "run": asdict(run)}
        told["run"]["devices_slice"] = list(run.devices_slice)
        path.write_text(yaml.safe_dump(told, sort_keys=False, width=100))


@dataclass(frozen=True, slots=True)
class RunInfo:
    """One run of a scenario.

    Attributes:
        id: Its id, the name of its folder.
        start_ms: When the schedule starts, epoch milliseconds.
        target: `local` or `aws`.
        environment: The environment it was driven at.
        transport: How readings left.
        devices_slice: Devices [first, last) that this process drives.
    """

    id: str
    start_ms: int
    target: str
    environment: str
    transport: str
    devices_slice: tuple[int, int]


def validate_run_id(run_id: str) -> None:
    """Checks that an id can name a folder.

    Raises:
        UsageError: it cannot.
    """
    if not _RUN_ID.fullmatch(run_id):
        raise UsageError(
            f"run id {run_id!r}: use up to 64 letters, digits, '-', '_' and '.', "
            "a letter or digit first"
        )


def _number(value: str | float) -> str | float:
    """A number given as text on a command line, as a number."""
    if isinstance(value, str):
        try:
            return float(value)
        except ValueError:
            return value
    return value
