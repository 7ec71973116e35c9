"""Drives a run: the fleet's readings, released when they are due, into a transport and a ledger.

The loop is open: what is due is released whether or not the target keeps up. Behind a slow target
a backlog grows, in sight; the schedule never waits for it. Lateness is measured from the time at
which a reading was due, so a stall shows in full (no coordinated omission).
"""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from botocore.exceptions import BotoCoreError, ClientError

from fleetcast.errors import TargetError
from simulator.codec import Encoder
from simulator.driver import Driver
from simulator.events import EventLog
from simulator.fleet import Fleet
from simulator.ledger import LedgerWriter
from simulator.measure import Book, Progress, RunSummary, describe
from simulator.transports.kinesis import KinesisTransport

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine
    from pathlib import Path

    from fleetcast.target import Target
    from simulator.scenario import RunInfo, Scenario
    from simulator.transports import Done, Transport
    from stack.outputs import StackOutputs

GRACE_S = 3.0

__all__ = ["Progress", "RunSummary", "describe", "drive", "signing_key", "simulate"]


async def signing_key(target: Target, outputs: StackOutputs) -> bytes:
    """The key that readings are signed with, from the stack's secret.

    Raises:
        TargetError: it cannot be read.
    """
    try:
        async with target.client(
            "secretsmanager", connect_timeout=5, retries={"total_max_attempts": 2}
        ) as client:
            answer = await client.get_secret_value(SecretId=outputs.signing_secret_arn)
    except (ClientError, BotoCoreError, OSError) as error:
        raise TargetError(key_unreadable(target, error)) from error
    return str(answer["SecretString"]).encode()


def key_unreadable(target: Target, error: Exception) -> str:
    """What is wrong where the signing key cannot be read, and what to do."""
    where = target.endpoint_url or f"AWS in {target.region}"
    return f"cannot read the signing key on {where}: {error}; is the stack deployed there?"


async def simulate(
    scenario: Scenario,
    run: RunInfo,
    outputs: StackOutputs,
    target: Target,
    run_dir: Path,
    *,
    progress: Callable[[Progress], None],
) -> RunSummary:
    """Drives a scenario at a deployed stack.

    A cancelled run releases nothing more, waits a moment for what is on its way, and closes its
    ledger; what has no answer by then is `unknown` in it.

    Args:
        scenario: What is driven.
        run: Its identity; the schedule starts at `run.start_ms`, or at once if that is past.
        outputs: The stack.
        target: Where it is.
        run_dir: The run's folder.
        progress: Is told about twice a second.

    Raises:
        TargetError: the stack cannot be sent to; nothing was sent.
    """
    key = await signing_key(target, outputs)
    scenario.save(run_dir / "scenario.yaml", run)

    def kinesis(done: Done) -> Transport:
        return KinesisTransport(target, outputs.stream_name, done)

    return await drive(scenario, run, key, run_dir, kinesis, progress=progress)


async def drive(
    scenario: Scenario,
    run: RunInfo,
    key: bytes | None,
    run_dir: Path,
    make_transport: Callable[[Done], Transport],
    *,
    progress: Callable[[Progress], None],
) -> RunSummary:
    """Drives a scenario into any transport; see `simulate`."""
    fleet = Fleet(scenario, run)
    events = EventLog(run_dir)
    with LedgerWriter(run_dir, fleet) as ledger:
        book = Book(ledger)
        async with make_transport(book.done) as transport:
            driver = Driver(fleet, Encoder(fleet, key), transport, ledger, book, events, progress)
            events.add("run_started", run=run.id, start_ms=run.start_ms, total=fleet.total)
            complete = False
            try:
                await driver.run()
                await transport.drain()
                complete = True
            finally:
                if not complete:
                    await _to_its_end(transport.abandon(GRACE_S))
                book.settle()
                ledger.flush()
                summary = driver.summary(complete=complete)
                events.add("run_ended", **asdict(summary))
                driver.report()
    return summary


async def _to_its_end(work: Coroutine[Any, Any, None]) -> None:
    """Awaits work; another cancellation must not cost the ledger its last rows."""
    task = asyncio.create_task(work)
    while not task.done():
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.shield(task)
    task.result()
