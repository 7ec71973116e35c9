"""What may go otherwise than meant though the scenario can be used, with the arithmetic."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from simulator.codec import Encoder
from simulator.faults.sending import Burst, Duplicate, HotKey, ReconnectStorm
from simulator.fleet import Fleet
from simulator.scenario.model import RunInfo

if TYPE_CHECKING:
    from collections.abc import Iterator

    from simulator.scenario.model import Scenario

# Of a stack that is not told otherwise.
DEFAULT_SHARDS = 10
SHARD_RECORDS = 1000
SHARD_BYTES = 1024 * 1024
# Readings that are looked at for their size and their values.
SAMPLED = 2000


def warnings(scenario: Scenario, shards: int) -> list[str]:
    """Warnings, a line each.

    Args:
        scenario: Which.
        shards: How many the stream has.
    """
    return [*_capacity(scenario, shards), *_moments(scenario, shards), *_implausible(scenario)]


def _capacity(scenario: Scenario, shards: int) -> Iterator[str]:
    peak, limit = scenario.profile.peak, shards * SHARD_RECORDS
    if peak > limit:
        yield (
            f"rate: {peak:,.0f}/s on {shards} shards allows {limit:,}/s unaggregated: use "
            f"{_needed(peak, SHARD_RECORDS)} shards, aggregation, or a lower rate"
        )
    for fault in scenario.faults:
        if isinstance(fault, Duplicate):
            more = peak * (1 + fault.part * (fault.copies - 1))
            if peak <= limit < more:
                yield (
                    f"faults: {fault.name} makes {more:,.0f}/s of {peak:,.0f}/s, and {shards} "
                    f"shards allow {limit:,}/s unaggregated"
                )
        if isinstance(fault, HotKey) and peak * fault.part > SHARD_RECORDS:
            yield (
                f"faults: {fault.name} sends up to {peak * fault.part:,.0f}/s to one shard, which "
                f"takes {SHARD_RECORDS:,}/s: readings will be throttled and tried again"
            )
    size = _payload_bytes(scenario)
    if peak * size > shards * SHARD_BYTES:
        yield (
            f"rate: {peak:,.0f}/s of {size:,.0f} bytes is {peak * size / 2**20:,.1f} MiB/s, and "
            f"{shards} shards allow {shards} MiB/s: use {_needed(peak * size, SHARD_BYTES)} shards"
        )


def _moments(scenario: Scenario, shards: int) -> Iterator[str]:
    """Many readings at one time."""
    limit, devices = shards * SHARD_RECORDS, scenario.fleet.devices
    if scenario.fleet.spread == "herd" and devices > limit:
        yield (
            f"fleet.spread: a herd of {devices:,} devices sends at once, and {shards} shards take "
            f"{limit:,} in a second: it will take {devices / limit:,.1f} s to land"
        )
    for fault in scenario.faults:
        if not isinstance(fault, Burst | ReconnectStorm):
            continue
        held_s = fault.hold if isinstance(fault, Burst) else fault.duration
        over_s = 0.0 if isinstance(fault, Burst) else fault.over
        held = scenario.profile.peak * fault.part * min(held_s, fault.duration)
        if held > limit * max(1.0, over_s):
            yield (
                f"faults: {fault.name} releases up to {held:,.0f} readings within "
                f"{max(1.0, over_s):g} s, and {shards} shards take {limit:,} in a second"
            )


def _implausible(scenario: Scenario) -> Iterator[str]:
    """Values that were sampled and are beyond what is plausible, without faults."""
    well = scenario.model_copy(update={"faults": []})
    fleet = Fleet(well, _run(scenario))
    columns: dict[tuple[int, str], list[np.ndarray]] = {}
    for block in fleet.blocks(0, SAMPLED):
        for index, kind in enumerate(scenario.fleet.classes):
            for name in kind.signals:
                values = block.values[name][block.class_index == index]
                columns.setdefault((index, name), []).append(values)
    for (index, name), parts in columns.items():
        kind, values = scenario.fleet.classes[index], np.concatenate(parts)
        limits = kind.signals[name].limits
        if limits is None or not len(values):
            continue
        beyond = (values < limits[0]) | (values > limits[1])
        if beyond.any():
            yield (
                f"fleet: {kind.name}'s {name} came to {values.min():g} to {values.max():g} in "
                f"{len(values):,} readings, and {limits[0]:g} to {limits[1]:g} is plausible"
            )


def _payload_bytes(scenario: Scenario) -> float:
    """Mean bytes of a payload."""
    fleet = Fleet(scenario.model_copy(update={"faults": []}), _run(scenario))
    encoder = Encoder(fleet, b"none")
    sizes = [
        len(payload) for block in fleet.blocks(0, SAMPLED // 4) for payload in encoder.encode(block)
    ]
    return sum(sizes) / max(1, len(sizes))


def _run(scenario: Scenario) -> RunInfo:
    # An id as long as runs have.
    name = "r-20260101-000000-0000"
    return RunInfo(name, 0, "local", "none", "null", (0, scenario.fleet.devices))


def _needed(peak: float, each: int) -> int:
    return int(-(-peak // each))
