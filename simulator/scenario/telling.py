"""A scenario for a person: who sends what, how fast, what goes wrong and what must come of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from simulator.faults import ClockFault

if TYPE_CHECKING:
    from collections.abc import Iterator

    from simulator.faults import Fault
    from simulator.scenario.model import DeviceClass, Expectations, Scenario


def lines(scenario: Scenario) -> Iterator[str]:
    """The lines."""
    profile, fleet = scenario.profile, scenario.fleet
    yield f"{scenario.name} (seed {scenario.seed})"
    if scenario.description:
        yield f"  {scenario.description}"
    sites = fleet.sites if isinstance(fleet.sites, int) else len(fleet.sites)
    herd = ", all at once in each round" if fleet.spread == "herd" else ""
    yield (
        f"  {fleet.devices:,} devices at {sites} sites, {profile.total:,} readings in "
        f"{profile.duration_s:g} s, at most {profile.peak:,.6g}/s{herd}"
    )
    for kind in fleet.classes:
        yield from _class(kind)
    yield "rate"
    for phase in scenario.rate:
        yield f"  {_fields(phase.model_dump(mode='json', exclude_defaults=True), 'shape')}"
    if scenario.faults:
        yield "faults"
    for fault in scenario.faults:
        told = fault.model_dump(mode="json", exclude_defaults=True, exclude={"name"})
        yield f"  {fault.name}: {_fields(told, 'kind')}"
        yield f"    a reading with it {_outcome(scenario, fault)}"
    if scenario.target_faults:
        yield "faults of the target"
    for disturbance in scenario.target_faults:
        told = disturbance.model_dump(mode="json", exclude_defaults=True, exclude={"name"})
        yield f"  {disturbance.name}: {_fields(told, 'kind')}"
    yield "expected"
    expect = scenario.expect
    yield f"  lost {expect.lost}, duplicated {expect.duplicated}, failed {expect.failed} at most"
    if expect.rate_error_pct is not None:
        yield f"  rate within {expect.rate_error_pct:g} %"
    yield from _landing(expect)
    for alarm in expect.alarms:
        again = (
            ""
            if alarm.recovers_within is None
            else f", recovers within {alarm.recovers_within:g} s"
        )
        yield f"  alarm {alarm.name} fires within {alarm.fires_within:g} s{again}"


def _landing(expect: Expectations) -> Iterator[str]:
    for latency, what in (("landing", "landed"), ("archive", "archived")):
        for percent in (50, 95, 99):
            within_s = getattr(expect, f"{latency}_latency_p{percent}")
            if within_s is not None:
                yield f"  {percent} % {what} within {within_s:g} s"
    if expect.out_of_order is not None:
        yield f"  out of order in the stream {expect.out_of_order} at most"


def _class(kind: DeviceClass) -> Iterator[str]:
    size = f"{(kind.share or 0) * 100:.4g} %" if kind.count is None else f"{kind.count:,} devices"
    firmware = f", firmware {', '.join(kind.firmware)}" if kind.firmware else ""
    yield f"class {kind.name}: {size}{firmware}"
    for name, signal in kind.signals.items():
        told = signal.model_dump(mode="json", exclude_defaults=True, exclude={"sha256", "folder"})
        yield f"  {name}: {_fields(told, 'model')}"
    for name, route in kind.routes.items():
        yield f"  route {name}: {len(route.points)} points, {route.length_m / 1000:,.1f} km"
    if kind.template is not None:
        said = (
            f"the stack's processor refuses it: {kind.template.reason}"
            if kind.template.reason
            else "the stack's processor takes it"
        )
        yield f"  payload of its own shape; {said}"


def _outcome(scenario: Scenario, fault: Fault) -> str:
    if isinstance(fault, ClockFault):
        if fault.rejected(scenario.expect.memory_hours * 3600):
            return "is quarantined as timestream_rejected, and is in the archive"
        return "lands with the timestamp that it has"
    return fault.outcome


def _fields(told: dict[str, Any], first: str) -> str:
    rest = ", ".join(f"{name} {_value(value)}" for name, value in told.items() if name != first)
    return f"{told[first]}{': ' if rest else ''}{rest}"


def _value(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{name}: {_value(one)}" for name, one in value.items()) + "}"
    if isinstance(value, list):
        shown = ", ".join(map(_value, value[:8]))
        return f"[{shown}{', ...' if len(value) > 8 else ''}]"  # noqa: PLR2004
    return str(value)
