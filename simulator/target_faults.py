"""The faults of the target that a scenario asks for, put on the local cloud for a run."""

from __future__ import annotations

import time
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import aiohttp

from fleetcast.errors import TargetError, UsageError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from fleetcast.target import Target
    from simulator.scenario import RunInfo, Scenario


def check_target(scenario: Scenario, target: Target | None) -> None:
    """Refuses a scenario with target faults where the target cannot have any.

    Raises:
        UsageError: it is not the local cloud.
    """
    if scenario.target_faults and (target is None or target.name != "local"):
        where = "no stack" if target is None else f"target {target.name}"
        raise UsageError(
            f"scenario {scenario.name} has target_faults, which the local cloud alone can make "
            f"happen, and is driven at {where}: use --target local, or remove them"
        )


@asynccontextmanager
async def disturbed(scenario: Scenario, run: RunInfo, target: Target | None) -> AsyncIterator[None]:
    """The target with the scenario's faults on it; they are gone afterwards, whatever happens.

    Raises:
        UsageError: the target can have no faults, or the local cloud refuses one.
        TargetError: the local cloud does not answer.
    """
    check_target(scenario, target)
    if not scenario.target_faults or target is None:
        yield
        return
    page = f"{target.endpoint_url}/_fleetcast/faults"
    added: list[str] = []
    async with aiohttp.ClientSession() as session:
        try:
            for index, fault in enumerate(scenario.target_faults):
                asked = fault.asked(time.time() - run.start_ms / 1000, scenario.seed + index)
                try:
                    async with session.post(page, json=asked) as answer:
                        told = await answer.json()
                except (aiohttp.ClientError, OSError, ValueError) as error:
                    raise TargetError(f"{page} does not take faults: {error}") from error
                if "id" not in told:
                    raise UsageError(
                        f"scenario {scenario.name}: target_faults.{index} ({fault.name}): "
                        f"{told.get('error', answer.status)}"
                    )
                added.append(told["id"])
            yield
        finally:
            for fault_id in added:
                try:
                    async with session.delete(f"{page}/{fault_id}"):
                        pass
                except (aiohttp.ClientError, OSError):
                    break  # the cloud is gone, and its faults with it
