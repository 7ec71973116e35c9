"""The verification of a run, from its folder and the deployed stack to the verdict."""

from __future__ import annotations

import asyncio
import time
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from botocore.exceptions import BotoCoreError, ClientError

from fleetcast.errors import TargetError
from fleetcast.pipeline import Pipeline
from fleetcast.verify import exceptions, readers, timeseries
from fleetcast.verify.alarms import outcomes, still_due_ms
from fleetcast.verify.check import judge
from fleetcast.verify.compared import STACK, Asked
from fleetcast.verify.exceptions import Exceptions
from fleetcast.verify.readers import Clients, Patience, Readers, deadline
from fleetcast.verify.truth import ACKED, FAILED, UNKNOWN, Truth
from fleetcast.verify.verdict import Rate, Refused, Verdict
from simulator.engine import signing_key

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from fleetcast.target import Target
    from fleetcast.verify.alarms import Transition
    from fleetcast.verify.truth import Bools
    from fleetcast.verify.verdict import Landed
    from simulator.scenario import Scenario
    from stack.outputs import StackOutputs


async def verify_run(
    run_dir: Path,
    place: StackOutputs | Pipeline,
    target: Target,
    *,
    progress: Callable[[str], None],
) -> Verdict:
    """Waits until a run has landed or may be called lost, compares, judges and writes verdict.json.

    Asked again, it compares again; what was taken from queues lies in the run's folder.

    Args:
        run_dir: The run's folder.
        place: The stack, or the pipeline of others, that it was driven at.
        target: Where that is.
        progress: Is told what is waited for, a line at a time.

    Raises:
        UsageError: the folder holds no run that can be verified.
        TargetError: the target does not answer.
    """
    key = await signing_key(target, place)
    asked = Asked.of(place) if isinstance(place, Pipeline) else STACK
    truth = await asyncio.to_thread(Truth.of_run, run_dir, key, asked)
    patience = Patience.of(target, place)
    try:
        async with AsyncExitStack() as stack:
            clients = Clients(target, stack)
            if isinstance(place, Pipeline):
                looked_at = await readers.of_pipeline(clients, place, truth, run_dir, patience)
            else:
                looked_at = await readers.of_stack(clients, place, truth, run_dir, patience)
            verification = _Verification(run_dir, truth, patience, looked_at)
            verdict = await verification.conclude(progress)
    except (ClientError, BotoCoreError, OSError) as error:
        where = target.endpoint_url or f"AWS in {target.region}"
        raise TargetError(f"verification stopped, {where} failed: {error}") from error
    verdict.save(run_dir)
    return verdict


@dataclass(frozen=True, slots=True)
class _Verification:
    run_dir: Path
    truth: Truth
    patience: Patience
    readers: Readers

    @property
    def deadline_ms(self) -> int:
        return deadline(self.truth, self.patience)

    @property
    def quarantined(self) -> Bools:
        if self.readers.quarantine is None:
            return np.zeros(len(self.truth.outcome), dtype=np.bool_)
        return self.readers.quarantine.quarantined

    @property
    def refused(self) -> Refused:
        quarantine = self.readers.quarantine
        return Refused() if quarantine is None else quarantine.refused()

    @property
    def transitions(self) -> list[Transition]:
        return [] if self.readers.alarms is None else self.readers.alarms.transitions

    @property
    def asked(self) -> Scenario:
        """The scenario with what can be asked of the run."""
        return self.truth.scenario.model_copy(update={"expect": self.readers.expect})

    async def wait(self, progress: Callable[[str], None]) -> None:
        """Looks until everything is there and settled, or its time is over."""
        truth, told = self.truth, self.readers
        said = ""
        while True:
            for reader in (told.quarantine, told.alarms, told.archive):
                if reader is not None:
                    await reader.poll()
            missing = await self._missing()
            now_ms = time.time() * 1000
            landed, over = not any(missing.values()), now_ms > self.deadline_ms
            settled = now_ms > truth.last_acked_ms + self.patience.settle_s * 1000
            alarmed = now_ms > still_due_ms(self.asked, truth.run, self.transitions)
            if ((landed and settled) or over) and alarmed:
                return
            text = _waiting_for({} if over else missing, alarmed=alarmed)
            if text != said:
                progress(text)
                said = text
            await asyncio.sleep(self.patience.poll_s)

    async def _missing(self) -> dict[str, int]:
        """How many readings are not there yet, by where they must be."""
        truth, told = self.truth, self.readers
        missing = {}
        if told.series is not None:
            wanted = int((truth.must_land & ~self.quarantined).sum())
            missing["Timestream"] = max(0, wanted - await told.series.count())
        if told.archive is not None:
            missing["the archive"] = told.archive.landed().lost
        if told.quarantine is not None:
            missing["quarantine"] = told.quarantine.refused().missing
        return missing

    async def _landed(
        self, progress: Callable[[str], None]
    ) -> tuple[dict[str, Landed], Exceptions]:
        """What landed where, by store, and which readings are not as they should be."""
        while True:
            await self.wait(progress)
            told, landed = self.readers, {}
            found = Exceptions() if told.archive is None else told.archive.exceptions()
            if told.series is not None:
                landed["timeseries"] = await timeseries.reconcile(
                    self.truth, self.quarantined, told.series, found
                )
            if told.archive is not None:
                landed["archive"] = told.archive.landed()
            # Rows that may be there or not can make up the number of those that must be.
            lost = any(one.lost for one in landed.values())
            if not lost or time.time() * 1000 > self.deadline_ms:
                return landed, found
            await asyncio.sleep(self.patience.poll_s)

    async def conclude(self, progress: Callable[[str], None]) -> Verdict:
        """Waits, compares and judges."""
        truth, told = self.truth, self.readers
        scenario, run = truth.scenario, truth.run
        landed, found = await self._landed(progress)
        exceptions.save(self.run_dir, await asyncio.to_thread(found.resolved, truth, self.run_dir))
        latency_ms = {} if told.series is None else await told.series.latency_ms()
        complete = truth.released_all and not _unsent(truth)
        rate = measure_rate(truth, complete=complete)
        judged = outcomes(self.asked, run, self.transitions)
        failed = truth.count(FAILED)
        checks = judge(
            told.expect,
            complete=complete,
            failed=failed,
            landed=landed,
            refused=None if told.quarantine is None else self.refused,
            unreadable={} if told.archive is None else told.archive.unreadable,
            latency_ms=latency_ms if told.timed else None,
            rate=rate,
            alarms=judged,
            probed=told.probed,
        )
        return Verdict(
            run_id=run.id,
            verdict="pass" if all(check.ok for check in checks) else "fail",
            target=run.target,
            environment=run.environment,
            scenario=scenario.name,
            devices=scenario.fleet.devices,
            complete=complete,
            sent=len(truth.history),
            acked=truth.count(ACKED),
            failed=failed,
            unknown=truth.count(UNKNOWN),
            landed=landed,
            refused=self.refused,
            landing_latency_ms=latency_ms,
            rate=rate,
            alarms=judged,
            checks=checks,
            notes=self._notes(),
            not_checked=told.not_checked,
        )

    def _notes(self) -> list[str]:
        archive = self.readers.archive
        if archive is None or not archive.foreign:
            return []
        return [f"{archive.foreign:,} lines of the archive are not of this run; not judged"]


def _waiting_for(missing: dict[str, int], *, alarmed: bool) -> str:
    if any(missing.values()):
        return "waiting for readings: " + ", ".join(
            f"{count:,} to {where}" for where, count in missing.items()
        )
    if not alarmed:
        return "all landed; waiting for alarms to fire and recover"
    return "all landed; waiting until copies would have landed, too"


def _unsent(truth: Truth) -> int:
    """Readings that were released but never left, as when a run is interrupted."""
    return int((~truth.history.tried).sum())


def measure_rate(truth: Truth, *, complete: bool) -> Rate:
    """The rate at which readings left, and their lag behind the schedule, from the ledger."""
    profile, start_ns = truth.scenario.profile, truth.run.start_ms * 1_000_000
    sent_ns = truth.history.sent_ns
    left = sent_ns > 0
    lag_ms = np.maximum(sent_ns[left] - truth.release_ns()[left], 0) / 1e6
    last_s = float((sent_ns.max() - start_ns) / 1e9) if left.any() else 0.0
    planned_s = profile.duration_s if complete else max(0.001, min(last_s, profile.duration_s))
    target = profile.count_by(planned_s) * truth.sends_per_slot / planned_s
    achieved = int(left.sum()) / max(planned_s, last_s)
    p50, p99 = np.percentile(lag_ms, [50, 99]) if len(lag_ms) else (0.0, 0.0)
    return Rate(
        target=round(target, 3),
        achieved=round(achieved, 3),
        error_pct=round((achieved / target - 1) * 100, 4) if target else 0.0,
        schedule_lag_ms={
            "p50": round(float(p50), 3),
            "p99": round(float(p99), 3),
            "max": round(float(lag_ms.max()), 3) if len(lag_ms) else 0.0,
        },
    )
