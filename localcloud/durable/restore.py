"""A cloud goes on where it was: its requests are made again, then its services take back the rest."""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING

import time_machine

if TYPE_CHECKING:
    from collections.abc import Sequence

    from localcloud.durable.requests import Answer, Requests
    from localcloud.seams import Service

log = logging.getLogger(__name__)


async def restore(requests: Requests, serve: Answer, services: Sequence[Service]) -> None:
    """Takes everything back.

    Args:
        requests: What was asked for, in order.
        serve: Answers a request.
        services: Who keeps what the requests do not tell.

    Raises:
        TargetError: something is damaged, or cannot be made again.
    """
    began_s = time.perf_counter()
    # moto asks the system for the time, so that is told the time of each request.
    with time_machine.travel(time.time(), tick=False) as clock:
        await requests.replay(serve, lambda at_ns: clock.move_to(at_ns / 1e9))
    for service in services:
        await service.restore()
    if requests.made_again:
        log.info(
            "took back %d requests and what was put since, in %.1f s",
            requests.made_again, time.perf_counter() - began_s,
        )  # fmt: skip
