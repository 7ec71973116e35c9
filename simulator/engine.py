"""Drives a run: the fleet's readings, released when they are due, into a transport and a ledger.

The loop is open: what is due is released whether or not the target keeps up. Behind a slow target
a backlog grows, in sight; the schedule never waits for it. Lateness is measured from the time at
which a reading was due, so a stall shows in full (no coordinated omission).
"""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Protocol

from botocore.exceptions import BotoCoreError, ClientError

from fleetcast.errors import TargetError
from simulator.codec import Encoder
from simulator.driver import Driver
from simulator.events import EventLog
from simulator.fleet import Fleet
from simulator.ledger import LedgerWriter
from simulator.measure import Book, Progress, RunSummary, describe
from simulator.sending import Sending, key_without_stack
from simulator.target_faults import check_target, disturbed
from simulator.telling import Teller
from simulator.transports import KnowsFleet
from simulator.workers import drive_with_workers

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine
    from pathlib import Path

    from fleetcast.target import Target
    from simulator.scenario import RunInfo, Scenario
    from simulator.transports import Done, Transport

GRACE_S = 3.0

__all__ = ["Entrance", "Progress", "RunSummary", "describe", "drive", "signing_key", "simulate"]


class Entrance(Protocol):
    """Where readings go in: a stack of ours, or a pipeline of others."""

    @property
    def stream_name(self) -> str:
        """The Kinesis stream."""

    @property
    def signing_secret_arn(self) -> str:
        """The secret with the signing key; empty where readings are not signed."""


async def signing_key(target: Target, outputs: Entrance) -> bytes | None:
    """The key that readings are signed with, from the stack's secret; None where there is none.

    Raises:
        TargetError: it cannot be read.
    """
    if not outputs.signing_secret_arn:
        return None
    try:
        async with target.client(
            "secretsmanager", connect_timeout=5, retries={"total_max_attempts": 2}
        ) as client:
            answer = await client.get_secret_value(SecretId=outputs.signing_secret_arn)
    except (ClientError, BotoCoreError, OSError) as error:
        raise TargetError(key_unreadable(target, error)) from error
    secret = answer.get("SecretString")
    return bytes(answer["SecretBinary"]) if secret is None else str(secret).encode()


def key_unreadable(target: Target, error: Exception) -> str:
    """What is wrong where the signing key cannot be read, and what to do."""
    where = target.endpoint_url or f"AWS in {target.region}"
    return f"cannot read the signing key on {where}: {error}; is the stack deployed there?"


async def simulate(
    scenario: Scenario,
    run: RunInfo,
    outputs: Entrance | None,
    target: Target | None,
    run_dir: Path,
    *,
    progress: Callable[[Progress], None],
    sending: Sending | None = None,
) -> RunSummary:
    """Drives a scenario at a deployed stack, or to where `sending` says.

    A cancelled run releases nothing more, waits a moment for what is on its way, and closes its
    ledger; what has no answer by then is `unknown` in it.

    Args:
        scenario: What is driven.
        run: Its identity; the schedule starts at `run.start_ms`, or at once if that is past.
        outputs: The stack, or a pipeline of others; None where readings go to none.
        target: Where it is.
        run_dir: The run's folder.
        progress: Is told about twice a second.
        sending: How readings leave; to Kinesis if not given.

    Raises:
        TargetError: the stack cannot be sent to; nothing was sent.
        UsageError: the target cannot have the faults that the scenario puts on it.
    """
    sending = sending or Sending()
    check_target(scenario, target if sending.to_stack else None)
    if not sending.to_stack:
        key, stream = key_without_stack(), ""
    elif target is None or outputs is None:
        raise ValueError("no stack to send to")
    else:
        key, stream = await signing_key(target, outputs), outputs.stream_name
    scenario.save(run_dir / "scenario.yaml", run)
    async with disturbed(scenario, run, target):
        if sending.workers > 1:
            return await drive_with_workers(
                scenario, run, key, run_dir, target, stream, sending, progress=progress
            )
        make = sending.make(target, stream)
        return await drive(scenario, run, key, run_dir, make, progress=progress)


async def drive(
    scenario: Scenario,
    run: RunInfo,
    key: bytes | None,
    run_dir: Path,
    make_transport: Callable[[Done], Transport],
    *,
    progress: Callable[[Progress], None],
) -> RunSummary:
    """Drives a scenario into any transport; see `simulate`. Without a key nothing is signed."""
    events = EventLog(run_dir)
    return await drive_part(scenario, run, key, run_dir, make_transport, events, progress=progress)


async def drive_part(
    scenario: Scenario,
    run: RunInfo,
    key: bytes | None,
    run_dir: Path,
    make_transport: Callable[[Done], Transport],
    events: EventLog | None,
    *,
    progress: Callable[[Progress], None],
    begun: Callable[[Book], None] = lambda _book: None,
    ended: Callable[[RunSummary, Book], None] = lambda _summary, _book: None,
) -> RunSummary:
    """Drives a run's slice of the devices; see `drive`.

    Args:
        scenario: What is driven.
        run: Its identity, and the slice.
        key: The signing key.
        run_dir: The run's folder.
        make_transport: Makes the transport.
        events: Where the run is written down; None for a worker's part of it.
        progress: Is told about twice a second.
        begun: Is told of the book that is kept.
        ended: Is told the end, also that of a run that is cancelled.
    """
    fleet = Fleet(scenario, run)
    teller = Teller(scenario, run.start_ms, events, progress)
    with LedgerWriter(run_dir, fleet) as ledger:
        book = Book(ledger)
        begun(book)
        made = make_transport(book.done)
        if isinstance(made, KnowsFleet):
            made.prepare(fleet)
        async with made as transport:
            driver = Driver(fleet, Encoder(fleet, key), transport, ledger, book, teller)
            if events is not None:
                events.add("run_started", run=run.id, start_ms=run.start_ms, total=fleet.total)
            complete = False
            try:
                await driver.run()
                await transport.drain()
                complete = True
            finally:
                if not complete:
                    await _to_its_end(transport.abandon(GRACE_S))
                ledger.flush()
                summary = driver.summary(complete=complete)
                if events is not None:
                    events.add("run_ended", **asdict(summary))
                driver.report()
                ended(summary, book)
    return summary


async def _to_its_end(work: Coroutine[Any, Any, None]) -> None:
    """Awaits work; another cancellation must not cost the ledger its last rows."""
    task = asyncio.create_task(work)
    while not task.done():
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.shield(task)
    task.result()
