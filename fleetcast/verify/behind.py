"""What the local cloud's consumers had not come to when a run's readings should have landed.

It judges nothing: a reading that is not there after the deadline is lost. It tells why that may be.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from fleetcast import cloudctl

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from fleetcast.target import Target


@dataclass(frozen=True, slots=True)
class BacklogReader:
    """Asks the local cloud; of AWS nothing is asked.

    Attributes:
        target: Where the run was driven.
        consumers: The functions and delivery streams that are the run's; None where all may be.
    """

    target: Target
    consumers: frozenset[str] | None

    async def note(self) -> str:
        """A note on what waits now for the run's consumers; empty where nothing does."""
        if self.target.name != "local" or self.target.endpoint_url is None:
            return ""
        port = urlsplit(self.target.endpoint_url).port
        told = await asyncio.to_thread(cloudctl.status, port)
        return described(told.get("backlog", ()), self.consumers)


def described(backlog: Sequence[Mapping[str, Any]], consumers: frozenset[str] | None) -> str:
    """A note on a backlog as the local cloud's status has it; empty where nothing waits.

    Args:
        backlog: By consumer, what waits for it.
        consumers: As in `BacklogReader`.
    """
    waiting = []
    for one in backlog:
        consumer, counts = one["consumer"], one["waiting"]
        # "mapping UUID to FUNCTION", "delivery stream NAME"
        if consumers is not None and consumer.rpartition(" ")[2] not in consumers:
            continue
        parts = [f"{count:,} {unit}" for unit, count in counts.items() if count]
        if parts:
            waiting.append(f"{' and '.join(parts)} wait for {consumer}")
    if not waiting:
        return ""
    return (
        f"the local cloud was still behind after the landing deadline: {'; '.join(waiting)}. What "
        "counts as lost may land yet: lower the rate, or verify again later, when it counts as late"
    )
