"""Scenario files: validated at the border, with errors that name the line and what to write."""

from __future__ import annotations

import difflib
import re
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Annotated, Any, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from fleetcast.errors import UsageError
from simulator.faults import AnyFault, Corrupt, Overheat
from simulator.rates import Phase, RateProfile
from simulator.signals import AnySignal
from simulator.units import Duration, duration_s, rate_per_s
from stack.alarms import ALARM_NAMES

if TYPE_CHECKING:
    from pathlib import Path

MAX_DEVICES = 10_000_000
# Readings carry the numbers of their class and fault in a byte each.
MAX_KINDS = 255
# A device's readings are told apart by their millisecond, so they must be further apart than that.
MIN_GAP_S = 0.002
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
    """Devices of one kind: their share of the fleet and their signals."""

    name: Name
    share: Annotated[float, Field(gt=0, le=1)]
    signals: Annotated[dict[SignalName, AnySignal], Field(min_length=1, max_length=32)]

    @field_validator("signals")
    @classmethod
    def _names(cls, value: dict[str, Any]) -> dict[str, Any]:
        taken = sorted(value.keys() & _TAKEN)
        if taken:
            raise ValueError(f"signal name {taken[0]!r} is a column of its own: use another")
        return value


class FleetSpec(_Model):
    """How many devices, where, of which classes."""

    devices: Annotated[int, Field(ge=1, le=MAX_DEVICES)]
    sites: Annotated[int, Field(ge=1, le=100_000)] = 1
    classes: Annotated[list[DeviceClass], Field(min_length=1, max_length=MAX_KINDS)]

    @model_validator(mode="after")
    def _shares(self) -> Self:
        total = sum(kind.share for kind in self.classes)
        if abs(total - 1) > 1e-6:  # noqa: PLR2004 - rounding of written shares
            raise ValueError(f"the shares of the classes add up to {total:g}: make it 1")
        names = [kind.name for kind in self.classes]
        if len(set(names)) < len(names):
            raise ValueError("two classes have the same name")
        return self


class AlarmExpectation(_Model):
    """An alarm that must fire soon after the fault that names it begins, and recover after it ends.

    Attributes:
        name: The alarm's short name.
        fires_within: Longest time from the fault's start.
        recovers_within: Longest time from the fault's end.
    """

    name: str
    fires_within: Duration
    recovers_within: Duration | None = None

    @field_validator("name")
    @classmethod
    def _known(cls, value: str) -> str:
        return _known_alarm(value)


class Expectations(_Model):
    """What the verdict asks for. None means that it is not asked."""

    lost: Annotated[int, Field(ge=0)] = 0
    duplicated: Annotated[int, Field(ge=0)] = 0
    failed: Annotated[int, Field(ge=0)] = 0
    rate_error_pct: Annotated[float, Field(gt=0)] | None = 1.0
    landing_latency_p99: Duration | None = None
    alarms: list[AlarmExpectation] = []


class Scenario(_Model):
    """What devices there are, what they do, and what must come of it."""

    name: Name
    description: str = ""
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0
    fleet: FleetSpec
    rate: Annotated[list[Phase], Field(min_length=1)]
    faults: Annotated[list[AnyFault], Field(max_length=MAX_KINDS)] = []
    expect: Expectations = Expectations()

    @property
    def profile(self) -> RateProfile:
        """The rate over time."""
        return RateProfile(list(self.rate))

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if any(phase.duration <= 0 for phase in self.rate):
            raise ValueError("rate: every phase needs a duration above 0")
        profile = self.profile
        if profile.peak <= 0 or profile.total < 1:
            raise ValueError("rate: the phases send nothing")
        gap_s = self.fleet.devices / profile.peak
        if gap_s < MIN_GAP_S:
            needed = int(profile.peak * MIN_GAP_S) + 1
            raise ValueError(
                f"rate: {profile.peak:g}/s over {self.fleet.devices} devices is a reading of each "
                f"every {gap_s * 1000:.2f} ms: at least {MIN_GAP_S * 1000:g} ms are needed, so use "
                f"{needed} devices or a lower rate"
            )
        self._check_faults(profile)
        return self

    def _check_faults(self, profile: RateProfile) -> None:
        signals = {name for kind in self.fleet.classes for name in kind.signals}
        names = [fault.name for fault in self.faults]
        if len(set(names)) < len(names):
            raise ValueError("faults: two faults have the same name")
        for fault in self.faults:
            if isinstance(fault, Overheat) and fault.signal not in signals:
                raise ValueError(
                    f"faults: {fault.name} is on signal {fault.signal!r}, which no class has"
                )
            if fault.duration <= 0 or fault.start >= profile.duration_s:
                raise ValueError(
                    f"faults: {fault.name} is at no time of the run of {profile.duration_s:g} s"
                )
            if fault.alarm is not None:
                _known_alarm(fault.alarm, f"faults: {fault.name}: ")

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
            changed["faults"] = [fault.scaled(times).model_dump() for fault in self.faults]
            if devices is not None:
                changed["fleet"]["devices"] = devices
            if seed is not None:
                changed["seed"] = seed
            return Scenario.model_validate(changed)
        except ValidationError as error:
            raise UsageError(f"scenario {self.name} with these options: {_first(error)}") from error
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


def load(path: Path) -> Scenario:
    """Reads a scenario file.

    Raises:
        UsageError: it cannot be used; file, line and field are named.
    """
    return _validate(path, *_parse(path))


def load_run(folder: Path) -> tuple[Scenario, RunInfo]:
    """Reads the scenario and the identity of a run.

    Raises:
        UsageError: the folder holds no run.
    """
    path = folder / "scenario.yaml"
    value, nodes = _parse(path)
    try:
        run = dict(value.pop("run"))
        run["devices_slice"] = tuple(run["devices_slice"])
        info = RunInfo(**run)
    except (KeyError, TypeError, ValueError) as error:
        raise UsageError(f"{path}: the run it belongs to is not described ({error})") from error
    return _validate(path, value, nodes), info


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


def _parse(path: Path) -> tuple[dict[str, Any], yaml.Node | None]:
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"cannot read scenario {path}: {error}") from error
    try:
        nodes = yaml.compose(text, Loader=yaml.SafeLoader)
        value = yaml.safe_load(text)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f":{mark.line + 1}" if mark else ""
        what = getattr(error, "problem", None) or str(error).split("\n", 1)[0]
        raise UsageError(f"{path}{where}: not YAML: {what}") from error
    except ValueError as error:
        # A date such as 2024-13-45: PyYAML passes on what the constructor says.
        raise UsageError(f"{path}: not YAML: {error}") from error
    _refuse_repeats(path, nodes)
    if not isinstance(value, dict):
        raise UsageError(f"{path}: a scenario is a mapping with name, fleet and rate")
    return value, nodes


def _refuse_repeats(path: Path, root: yaml.Node | None) -> None:
    """Refuses a key that is twice in a mapping, of which YAML would silently drop the first."""
    waiting, visited = [root], set()
    while waiting:
        node = waiting.pop()
        if id(node) in visited:
            continue
        visited.add(id(node))
        if isinstance(node, yaml.SequenceNode):
            waiting.extend(node.value)
        elif isinstance(node, yaml.MappingNode):
            seen = set()
            for key, value in node.value:
                if isinstance(key, yaml.ScalarNode) and key.value in seen:
                    line = key.start_mark.line + 1
                    raise UsageError(f"{path}:{line}: {key.value!r} is there twice: keep one")
                seen.add(key.value if isinstance(key, yaml.ScalarNode) else id(key))
                waiting.append(value)


def _validate(path: Path, value: dict[str, Any], nodes: yaml.Node | None) -> Scenario:
    try:
        return Scenario.model_validate(value)
    except ValidationError as error:
        location = error.errors()[0]["loc"]
        text = _first(error)
        line = _line(nodes, _location(error) if location else (text.partition(":")[0],))
        raise UsageError(f"{path}:{line}: {text}") from error


def _location(error: ValidationError) -> tuple[Any, ...]:
    return tuple(error.errors()[0]["loc"])


def _line(node: yaml.Node | None, location: tuple[Any, ...]) -> int:
    """The line of the deepest node on the way to a location."""
    line = 1 if node is None else node.start_mark.line + 1
    for part in location:
        if isinstance(node, yaml.MappingNode):
            for key, value in node.value:
                if key.value == str(part):
                    line, node = key.start_mark.line + 1, value
                    break
        elif isinstance(node, yaml.SequenceNode) and part in range(len(node.value)):
            node = node.value[part]
            line = node.start_mark.line + 1
    return line


def _first(error: ValidationError) -> str:
    """The first problem in one line: where, what, what to do."""
    problem = error.errors()[0]
    where = ".".join(str(part) for part in _path_in_file(problem["loc"]))
    text = problem["msg"].removeprefix("Value error, ")
    match problem["type"]:
        case "union_tag_invalid":
            context = problem["ctx"]
            known = [tag.strip("'") for tag in context["expected_tags"].split(", ")]
            close = difflib.get_close_matches(context["tag"], known, 1)
            kind = context["discriminator"].strip("'")
            hint = f"did you mean {close[0]}?" if close else "known are " + ", ".join(known)
            text = f"unknown {kind} {context['tag']!r}: {hint}"
        case "union_tag_not_found":
            text = f"{problem['ctx']['discriminator']} is missing"
        case "extra_forbidden":
            text = "there is no such field: check its spelling"
        case "missing":
            text = "is missing"
        case "string_pattern_mismatch":
            text = (
                f"{problem['input']!r}: use lower-case letters, digits and hyphens "
                "(underscores in signals), a letter first"
            )
        case "finite_number":
            text = f"{problem['input']!r} is not a finite number"
    return f"{where}: {text}" if where else text


def _path_in_file(location: tuple[Any, ...]) -> list[Any]:
    """A location without the tag of a union, which pydantic puts in and the file has no level of.

    It comes after the number in `rate` and `faults` and after the name in `signals`; a signal may
    well be named like a model.
    """
    parts = list(location)
    if parts[:1] in (["rate"], ["faults"]):
        del parts[2:3]
    elif parts[3:4] == ["signals"]:
        del parts[5:6]
    return parts


def _known_alarm(name: str, where: str = "") -> str:
    if name not in ALARM_NAMES:
        close = difflib.get_close_matches(name, ALARM_NAMES, 1)
        hint = f"did you mean {close[0]}?" if close else "known are " + ", ".join(ALARM_NAMES)
        raise ValueError(f"{where}unknown alarm {name!r}: {hint}")
    return name


__all__ = [
    "Corrupt", "Overheat", "RunInfo", "Scenario", "load", "load_run", "validate_run_id",
]  # fmt: skip
