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
from fleetcast.verify import exceptions, landing, timeseries, unknown
from fleetcast.verify.alarms import AlarmReader, outcomes, still_due_ms
from fleetcast.verify.archive import ArchiveReader
from fleetcast.verify.check import judge
from fleetcast.verify.quarantine import QuarantineReader
from fleetcast.verify.timeseries import TimeSeriesReader
from fleetcast.verify.truth import ACKED, FAILED, UNKNOWN, Truth
from fleetcast.verify.verdict import Rate, Verdict
from simulator import ledger
from simulator.engine import signing_key

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from fleetcast.target import Target
    from fleetcast.verify.verdict import Clock
    from stack.outputs import StackOutputs


@dataclass(frozen=True, slots=True)
class Patience:
    """How long landing may take, seconds.

    Attributes:
        landing_s: From the last acknowledgement until a reading that is not there is lost.
        settle_s: From the last acknowledgement until copies of readings have landed, too.
        poll_s: Between looks.
        receive_s: How long a receive from a queue waits for a first message.
    """

    landing_s: float
    settle_s: float
    poll_s: float
    receive_s: int

    @classmethod
    def of(cls, target: Target, outputs: StackOutputs) -> Patience:
        """What a target needs."""
        buffer_s = outputs.archive_buffer_s
        if target.name == "local":
            return cls(60.0 + buffer_s, buffer_s + 2.0, 0.5, 0)
        return cls(120.0 + 2 * buffer_s, buffer_s + 30.0, 5.0, 2)


async def verify_run(
    run_dir: Path, outputs: StackOutputs, target: Target, *, progress: Callable[[str], None]
) -> Verdict:
    """Waits until a run has landed or may be called lost, compares, judges and writes verdict.json.

    Asked again, it compares again; what was taken from queues lies in the run's folder.

    Args:
        run_dir: The run's folder.
        outputs: The stack that it was driven at.
        target: Where that is.
        progress: Is told what is waited for, a line at a time.

    Raises:
        UsageError: the folder holds no run that can be verified.
        TargetError: the target does not answer.
    """
    key = await signing_key(target, outputs)
    truth = await asyncio.to_thread(Truth.of_run, run_dir, key)
    try:
        async with AsyncExitStack() as stack:
            query = await stack.enter_async_context(target.client("timestream-query"))
            s3 = await stack.enter_async_context(target.client("s3"))
            sqs = await stack.enter_async_context(target.client("sqs"))
            patience = Patience.of(target, outputs)
            deadline_ms = truth.last_acked_ms + round(patience.landing_s * 1000)
            wait_s = patience.receive_s
            verification = _Verification(
                run_dir,
                truth,
                patience,
                TimeSeriesReader(query, outputs, truth.run.id, deadline_ms),
                ArchiveReader(s3, outputs, truth, deadline_ms),
                QuarantineReader(sqs, outputs.quarantine_queue_url, truth, run_dir, wait_s=wait_s),
                AlarmReader(sqs, outputs, truth.run, run_dir, wait_s=wait_s),
                deadline_ms,
            )
            await verification.wait(progress)
            verdict = await verification.conclude(probed=bool(outputs.probe_queue_url))
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
    series: TimeSeriesReader
    archive: ArchiveReader
    quarantine: QuarantineReader
    alarms: AlarmReader
    deadline_ms: int

    async def wait(self, progress: Callable[[str], None]) -> None:
        """Looks until everything is there and settled, or its time is over."""
        truth = self.truth
        said = ""
        while True:
            await self.quarantine.poll()
            rows, first_ms = await self.series.count()
            # By the target's clock a run may have begun before it did by the simulator's.
            since_ms = min(truth.run.start_ms, first_ms or truth.run.start_ms)
            self.alarms.since_ms = self.archive.since_ms = since_ms
            await self.alarms.poll()
            await self.archive.poll()
            archived, refused = self.archive.landed(), self.quarantine.refused()
            wanted = int((truth.must_land & ~self.quarantine.quarantined).sum())
            now_ms = time.time() * 1000
            landed = rows >= wanted and not archived.lost and not refused.missing
            over = now_ms > self.deadline_ms
            settled = now_ms > truth.last_acked_ms + self.patience.settle_s * 1000
            alarms_due_ms = still_due_ms(truth.scenario, truth.run, self.alarms.transitions)
            alarmed = now_ms > alarms_due_ms
            if ((landed and settled) or over) and alarmed:
                return
            text = self._waiting_for(rows, wanted, landed=landed or over, alarmed=alarmed)
            if text != said:
                progress(text)
                said = text
            await asyncio.sleep(self.patience.poll_s)

    def _waiting_for(self, rows: int, wanted: int, *, landed: bool, alarmed: bool) -> str:
        if not landed:
            archived, refused = self.archive.landed(), self.quarantine.refused()
            return (
                f"waiting for readings: {max(0, wanted - rows):,} to Timestream, "
                f"{archived.lost:,} to the archive, {refused.missing:,} to quarantine"
            )
        if not alarmed:
            return "all landed; waiting for alarms to fire and recover"
        return "all landed; waiting until copies would have landed, too"

    async def conclude(self, *, probed: bool) -> Verdict:
        """Compares and judges."""
        truth = self.truth
        scenario, run = truth.scenario, truth.run
        landings = await landing.gather(self.run_dir, truth, self.series, self.archive)
        clocks = landing.clocks(
            landings, ledger.slices(self.run_dir), acked_after=run.transport == "kinesis"
        )
        landing.save(self.run_dir, landings, clocks)
        # The target stamps what it writes by its own clock: the run's times are put on that.
        ahead_ms = round(float(np.median([clock.corrected_ms for clock in clocks] or [0.0])))
        self.series.deadline_ms = self.archive.deadline_ms = self.deadline_ms + ahead_ms
        found = self.archive.exceptions()
        landed = {
            "timeseries": await timeseries.reconcile(
                truth, self.quarantine.quarantined, self.series, found
            ),
            "archive": self.archive.landed(),
        }
        exceptions.save(self.run_dir, await asyncio.to_thread(found.resolved, truth, self.run_dir))
        open_readings = unknown.gather(truth, found.unknown_rows, self.archive)
        unknown.save(self.run_dir, open_readings)
        refused = self.quarantine.refused()
        since = landing.latencies(landings, clocks)
        latency_ms = await self.series.latency_ms()
        if any(clock.corrected_ms for clock in clocks):
            latency_ms = since["timeseries"].get("from_event", latency_ms)
        order = landing.orders(landings)
        complete = truth.released_all and not _unsent(truth)
        rate = measure_rate(truth, complete=complete)
        on_target = replace(run, start_ms=run.start_ms + ahead_ms)
        judged = outcomes(scenario, on_target, self.alarms.transitions)
        failed = truth.count(FAILED)
        checks = judge(
            scenario.expect,
            complete=complete,
            failed=failed,
            landed=landed,
            refused=refused,
            unreadable=self.archive.unreadable,
            latency_ms=latency_ms,
            rate=rate,
            alarms=judged,
            probed=probed,
            archive_latency_ms=since["archive"].get("from_ack", {}),
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
            landed=landed,
            refused=refused,
            landing_latency_ms=latency_ms,
            rate=rate,
            alarms=judged,
            checks=checks,
            notes=[*self._notes(), *_clock_notes(clocks)],
            unknown_landed=unknown.landed(open_readings),
            timed=len(landings),
            latency_ms=since,
            slowest=landing.slowest(landings, clocks, truth.fleet.device_ids),
            order=order,
            clocks=clocks,
        )

    def _notes(self) -> list[str]:
        notes = []
        if self.archive.foreign:
            notes.append(
                f"{self.archive.foreign:,} lines of the archive are not of this run; not judged"
            )
        return notes


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
