"""What was given up on on its way: by the topic rule, and by the function's event source mapping.

Both put it on queues of the stack. It judges nothing: a reading that is not there is lost. It tells
how many of the run lie on those queues, and why; messages stay where they are.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc

from fleetcast.verify.queue import look_through
from fleetcast.verify.truth import payload_hashes
from simulator import ledger

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from fleetcast.verify.truth import Truth

_CODE = re.compile(r"Error Code: (\w+)")
_THROTTLED = "ProvisionedThroughputExceededException"
# Sequence numbers have fewer digits.
_DIGITS = 64


@dataclass(frozen=True, slots=True)
class UndeliveredReader:
    """Looks through the queues of a stack.

    Attributes:
        client: An `sqs` client.
        rule_errors_url: Queue of messages that the topic rule could not deliver; empty for none.
        failures_url: Queue that tells of batches the function was given in vain; empty for none.
        truth: What was sent.
        run_dir: The run's folder.
        wait_s: How long a receive waits for a first message, whole seconds.
    """

    client: Any
    rule_errors_url: str
    failures_url: str
    truth: Truth
    run_dir: Path
    wait_s: int

    async def notes(self) -> list[str]:
        """A line for each queue on which something of the run lies."""
        # A broker tells no sequence numbers, and what is sent to Kinesis comes by no rule.
        if self.truth.run.transport == "mqtt":
            bodies = await self._bodies(self.rule_errors_url)
            return [note for note in [described_rule(bodies, self.truth)] if note]
        bodies = await self._bodies(self.failures_url)
        batches = [batch for batch in map(_batch, bodies) if batch is not None]
        if not batches:
            return []
        return [note for note in [described_batches(batches, self.run_dir)] if note]

    async def _bodies(self, queue_url: str) -> list[str]:
        found: dict[str, str] = {}

        async def take(messages: Sequence[dict[str, Any]]) -> list[str]:
            found.update((one["MessageId"], one["Body"]) for one in messages)
            return [one["ReceiptHandle"] for one in messages]

        if queue_url:
            await look_through(self.client, queue_url, self.wait_s, take)
        return list(found.values())


def described_rule(bodies: Sequence[str], truth: Truth) -> str:
    """A note on what the topic rule gave up on; empty where nothing of the run is among it.

    Args:
        bodies: Messages of the error action, as the stack has it: JSON in Base64.
        truth: What was sent.
    """
    told = [one for one in map(_rule_error, bodies) if one is not None]
    numbers = truth.find(payload_hashes([payload for payload, _ in told])).tolist()
    # Of a message that was sent twice, both copies may be there.
    reasons = {k: reason for k, (_, reason) in zip(numbers, told, strict=True) if k >= 0}
    if not reasons:
        return ""
    why = _counted(reasons.values())
    advice = (
        ". A rule tries again for about a second: send more evenly, or deploy more shards"
        if _THROTTLED in why
        else ""
    )
    return (
        f"{len(reasons):,} readings lie on the error queue of the topic rule, which could not "
        f"deliver them: {why}{advice}"
    )


@dataclass(frozen=True, slots=True)
class _Batch:
    """Records of a shard that the function was given in vain; sequence numbers with zeros before."""

    shard: str
    first: str
    last: str
    why: str


def described_batches(batches: Sequence[_Batch], run_dir: Path) -> str:
    """A note on batches that were given up on; empty where nothing of the run is in them."""
    numbers: set[int] = set()
    mine: list[_Batch] = []
    for table in ledger.tables(run_dir, ("k", "shard", "sequence_number")):
        places = pc.utf8_lpad(table.column("sequence_number"), _DIGITS, "0")
        for batch in batches:
            inside = pc.and_(
                pc.equal(table.column("shard"), batch.shard),
                pc.and_(
                    pc.greater_equal(places, pa.scalar(batch.first)),
                    pc.less_equal(places, pa.scalar(batch.last)),
                ),
            )
            found = table.column("k").filter(inside).to_pylist()
            if found:
                numbers.update(found)
                mine.append(batch)
    if not numbers:
        return ""
    distinct = dict.fromkeys(mine)
    return (
        f"{len(numbers):,} readings are in {len(distinct):,} batches that the function could not "
        f"process, and that were given up on: {_counted(batch.why for batch in distinct)}. The "
        "failure queue tells which, the function's log why"
    )


def _rule_error(body: str) -> tuple[bytes, str] | None:
    """(payload, reason) of a message on the error queue; None of another."""
    try:
        told = json.loads(base64.b64decode(body, validate=True))
        payload = base64.b64decode(told["base64OriginalPayload"], validate=True)
        failures = [str(failure["errorMessage"]) for failure in told["failures"]]
    except (ValueError, KeyError, TypeError, binascii.Error):
        return None
    codes = (found[1] for text in failures if (found := _CODE.search(text)))
    return payload, next(codes, failures[0][:100] if failures else "no reason given")


def _batch(body: str) -> _Batch | None:
    """A batch as Lambda tells of it on the failure queue; None of another message."""
    try:
        told = json.loads(body)
        info = told["KinesisBatchInfo"]
        return _Batch(
            str(info["shardId"]),
            str(info["startSequenceNumber"]).rjust(_DIGITS, "0"),
            str(info["endSequenceNumber"]).rjust(_DIGITS, "0"),
            str(told["requestContext"]["condition"]),
        )
    except (ValueError, KeyError, TypeError):
        return None


def _counted(reasons: Iterable[str]) -> str:
    return ", ".join(f"{reason} x {count:,}" for reason, count in Counter(reasons).most_common())
