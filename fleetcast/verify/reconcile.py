"""The verification of a run, from its folder and the deployed stack to the verdict."""

from __future__ import annotations

import asyncio
import time
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from botocore.exceptions import BotoCoreError, ClientError

from fleetcast.errors import TargetError
from fleetcast.pipeline import Pipeline
from fleetcast.verify import exceptions, landing, readers, timeseries, unknown
from fleetcast.verify.alarms import outcomes, still_due_ms
from fleetcast.verify.check import judge
from fleetcast.verify.compared import STACK, Asked
from fleetcast.verify.exceptions import Exceptions
from fleetcast.verify.readers import Clients, Patience, Readers, deadline
from fleetcast.verify.truth import ACKED, FAILED, UNKNOWN, Truth
from fleetcast.verify.verdict import Rate, Refused, Verdict
from simulator import ledger
from simulator.engine import signing_key

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from fleetcast.target import Target
    from fleetcast.verify.alarms import Transition
    from fleetcast.verify.landing import Landings
    from fleetcast.verify.truth import Bools
    from fleetcast.verify.verdict import Clock, Landed
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
class _Comparison:
    """What a run's readings came to.

    Attributes:
        landed: By store, of those that were looked at.
        found: Readings that are not as they should be.
        landings: When they landed.
        clocks: Whose clock was off.
        missing: Why readings may be missing that are not there.
    """

    landed: dict[str, Landed]
    found: Exceptions
    landings: Landings
    clocks: list[Clock]
    missing: list[str]


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
            rows, first_ms = (0, None) if told.series is None else await told.series.count()
            # By the target's clock a run may have begun before it did by the simulator's.
            since_ms = min(truth.run.start_ms, first_ms or truth.run.start_ms)
            if told.alarms is not None:
                told.alarms.since_ms = since_ms
            if told.archive is not None:
                told.archive.since_ms = since_ms
            for reader in (told.quarantine, told.alarms, told.archive):
                if reader is not None:
                    await reader.poll()
            missing = self._missing(rows)
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

    def _missing(self, rows: int) -> dict[str, int]:
        """How many readings are not there yet, by where they must be."""
        truth, told = self.truth, self.readers
        missing = {}
        if told.series is not None:
            wanted = int((truth.must_land & ~self.quarantined).sum())
            missing["Timestream"] = max(0, wanted - rows)
        if told.archive is not None:
            missing["the archive"] = told.archive.landed().lost
        if told.quarantine is not None:
            missing["quarantine"] = told.quarantine.refused().missing
        return missing

    async def _compared(self, progress: Callable[[str], None]) -> _Comparison:
        """What landed where and when, and which readings are not as they should be."""
        while True:
            await self.wait(progress)
            told, landed = self.readers, {}
            # Before the comparison, in which time goes by.
            behind = await told.backlog.note()
            landings, clocks = await self._timed()
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
                missing = [behind] if behind and (lost or self.refused.missing) else []
                if lost and told.undelivered is not None:
                    missing += await told.undelivered.notes()
                return _Comparison(landed, found, landings, clocks, missing)
            await asyncio.sleep(self.patience.poll_s)

    async def _timed(self) -> tuple[Landings, list[Clock]]:
        """When readings landed; puts what is late on the clock that stamps what lands."""
        truth, told = self.truth, self.readers
        landings = await landing.gather(self.run_dir, truth, told.series, told.archive)
        clocks = landing.clocks(
            landings, ledger.slices(self.run_dir), acked_after=truth.run.transport == "kinesis"
        )
        for store in (told.series, told.archive):
            if store is not None:
                store.deadline_ms = self.deadline_ms + _ahead_ms(clocks)
        return landings, clocks

    async def conclude(self, progress: Callable[[str], None]) -> Verdict:
        """Waits, compares and judges."""
        truth, told = self.truth, self.readers
        scenario, run = truth.scenario, truth.run
        compared = await self._compared(progress)
        found, landings, clocks = compared.found, compared.landings, compared.clocks
        landing.save(self.run_dir, landings, clocks)
        exceptions.save(self.run_dir, await asyncio.to_thread(found.resolved, truth, self.run_dir))
        rows = None if told.series is None else found.unknown_rows
        open_readings = unknown.gather(truth, rows, told.archive)
        unknown.save(self.run_dir, open_readings)
        since = landing.latencies(landings, clocks)
        latency_ms = {} if told.series is None else await told.series.latency_ms()
        if any(clock.corrected_ms for clock in clocks):
            latency_ms = since["timeseries"].get("from_event", latency_ms)
        order = landing.orders(landings)
        complete = truth.released_all and not _unsent(truth)
        rate = measure_rate(truth, complete=complete)
        on_target = replace(run, start_ms=run.start_ms + _ahead_ms(clocks))
        judged = outcomes(self.asked, on_target, self.transitions)
        failed = truth.count(FAILED)
        checks = judge(
            told.expect,
            complete=complete,
            failed=failed,
            landed=compared.landed,
            refused=None if told.quarantine is None else self.refused,
            unreadable={} if told.archive is None else told.archive.unreadable,
            latency_ms=latency_ms if told.timed else None,
            rate=rate,
            alarms=judged,
            probed=told.probed,
            archive_latency_ms=(
                None if told.archive is None else since["archive"].get("from_ack", {})
            ),
            order=order,
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
            landed=compared.landed,
            refused=self.refused,
            landing_latency_ms=latency_ms,
            rate=rate,
            alarms=judged,
            checks=checks,
            notes=[*self._notes(compared), *_clock_notes(clocks)],
            not_checked=told.not_checked,
            unknown_landed=unknown.landed(open_readings),
            timed=len(landings),
            latency_ms=since,
            slowest=landing.slowest(landings, clocks, truth.fleet.device_ids),
            order=order,
            clocks=clocks,
        )

    def _notes(self, compared: _Comparison) -> list[str]:
        archive = self.readers.archive
        notes = [*compared.missing]
        if archive is not None and archive.foreign:
            notes.append(
                f"{archive.foreign:,} lines of the archive are not of this run; not judged"
            )
        return notes


def _waiting_for(missing: dict[str, int], *, alarmed: bool) -> str:
    if any(missing.values()):
        return "waiting for readings: " + ", ".join(
            f"{count:,} to {where}" for where, count in missing.items()
        )
    if not alarmed:
        return "all landed; waiting for alarms to fire and recover"
    return "all landed; waiting until copies would have landed, too"


def _ahead_ms(clocks: Sequence[Clock]) -> int:
    """How far the target's clock is ahead of the simulator's, in the middle of its processes."""
    return round(float(np.median([clock.corrected_ms for clock in clocks] or [0.0])))


def _clock_notes(clocks: Sequence[Clock]) -> list[str]:
    return [f"clocks differ: {clock.told()}" for clock in clocks if clock.corrected_ms]


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
