"""Whether a scenario can be driven at a pipeline so that what comes of it can be verified."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import ValidationError

from fleetcast.errors import UsageError
from fleetcast.pipeline.model import UNIT_MS
from simulator.faults import ClockFault, PayloadFault
from simulator.scenario import Scenario
from simulator.scenario.errors import problems
from simulator.scenario.model import MIN_GAP_S

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fleetcast.pipeline.model import Columns, Fields, Pipeline

# What of a payload each part of a reading's identity comes from.
_PLACES = {
    "device": {"device"}, "sequence": {"seq"}, "time": {"ts", "ts_s", "ts_iso"}, "run": {"run"},
    "class": {"class"}, "site": {"site"},
}  # fmt: skip


def fitted(scenario: Scenario, pipeline: Pipeline) -> Scenario:
    """The scenario as it is driven at a pipeline: with the pipeline's payload.

    Raises:
        UsageError: its readings could not be told apart in what lands, or the payload does not go
            with it.
    """
    driven = _with_payload(scenario, pipeline)
    for where, mapping in _mappings(pipeline):
        _check_payloads(driven, where, mapping)
        _check_times(driven, where, mapping)
    _check_objects(driven, pipeline)
    return driven


def _mappings(pipeline: Pipeline) -> Iterator[tuple[str, Columns | Fields]]:
    if pipeline.timeseries is not None:
        yield "timeseries.columns", pipeline.timeseries.columns
    if pipeline.archive is not None and pipeline.archive.fields is not None:
        yield "archive.fields", pipeline.archive.fields


def _with_payload(scenario: Scenario, pipeline: Pipeline) -> Scenario:
    if pipeline.payload is None:
        return scenario
    changed = scenario.model_dump()
    for kind in changed["fleet"]["classes"]:
        if kind["payload"] is None:
            kind["payload"] = pipeline.payload
    try:
        return Scenario.model_validate(changed)
    except ValidationError as error:
        raise UsageError(
            f"scenario {scenario.name} with the payload of pipeline {pipeline.name}: "
            f"{problems(error)[0]}"
        ) from error


def _check_objects(scenario: Scenario, pipeline: Pipeline) -> None:
    """Refuses payloads that are no JSON where nothing but their JSON divides them."""
    archive = pipeline.archive
    if archive is None or archive.fields is not None or archive.format != "json":
        return
    for fault in scenario.faults:
        if isinstance(fault, PayloadFault) and "not_json" in map(fault.reason, fault.ways):
            raise UsageError(
                f"pipeline: archive.format is json, and fault {fault.name} sends payloads that are "
                "none, so that nothing would tell where they end: leave the fault out, or let the "
                "pipeline write lines"
            )


def _check_payloads(scenario: Scenario, where: str, mapping: Columns | Fields) -> None:
    """Refuses payloads without what the pipeline is to tell readings by."""
    for kind in scenario.fleet.classes:
        if kind.template is None:
            continue
        for field, place in mapping.names().items():
            wanted = _PLACES.get(field)
            if wanted and not kind.template.places & wanted:
                raise UsageError(
                    f"pipeline: {where}.{field} is {place!r}, and the payload of class {kind.name} "
                    f"has no place for it: put {{{min(wanted, key=len)}}} into the payload, or "
                    f"leave out {field}"
                )
        for name in mapping.measures:
            if name in kind.signals and not kind.template.places & {"signals", f"signals.{name}"}:
                raise UsageError(
                    f"pipeline: {where}.measures.{name} can hold nothing of class {kind.name}, "
                    f"whose payload has no {{signals.{name}}}: put it in, or leave the measure out"
                )


def _check_times(scenario: Scenario, where: str, mapping: Columns | Fields) -> None:
    """Refuses readings that their times would have to tell apart, and do not."""
    moving = [fault for fault in scenario.faults if isinstance(fault, ClockFault)]
    if "run" not in mapping.names() and moving:
        raise UsageError(
            f"pipeline: {where} has no run, so that runs are told apart by the time of their "
            f"readings, and fault {moving[0].name} moves readings to other times: map run, or "
            "leave the fault out"
        )
    if "sequence" in mapping.names():
        return
    unit_s = UNIT_MS[mapping.time_unit] / 1000
    gap_s = min(phase.least_gap_s(scenario.fleet.devices) for phase in scenario.rate)
    random = any(phase.arrivals == "poisson" for phase in scenario.rate)
    if mapping.time_unit != "ms" and (random or moving or gap_s < unit_s + MIN_GAP_S):
        raise UsageError(
            f"pipeline: {where} tells readings by a time in whole seconds, and a device of scenario "
            f"{scenario.name} may send two within one: map sequence, keep milliseconds, or use "
            "more devices or a lower rate"
        )
