"""What happens to a call that meets a fault: at the front, and in the engines' own reads."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Protocol

from localcloud.faults import partial
from localcloud.faults.errors import error_of
from localcloud.faults.measure import measure, measure_engine
from localcloud.naming import operation_of

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from localcloud.faults.board import Fault, FaultBoard
    from localcloud.faults.spec import Kind
    from localcloud.http import Request, Response
    from localcloud.seams import MetricSink

_DELAYS: frozenset[Kind] = frozenset({"latency", "timeout"})
_REFUSALS: frozenset[Kind] = frozenset({"throttle", "error", "outage"})


class ConnectionDropped(Exception):  # noqa: N818 - it is what happens, not an error
    """The connection of the request is to be closed without an answer."""


class Client(Protocol):
    """Who sent a request."""

    async def gone(self) -> None:
        """Returns when the client has closed its side."""


class Injector:
    """Makes faults happen.

    Args:
        board: The faults.
        metrics: Where AWS's own metrics of refused calls go.
    """

    def __init__(self, board: FaultBoard, metrics: MetricSink) -> None:
        self.board = board
        self._metrics = metrics

    def concerns(self, service: str) -> bool:
        """Whether any fault may happen to calls of that service; costs one look-up."""
        return service in self.board.by_service

    async def answer(
        self, request: Request, client: Client, handle: Callable[[Request], Awaitable[Response]]
    ) -> Response:
        """Answers a request as the faults on it say.

        Raises:
            AwsError: the fault's error, or the service's.
            ConnectionDropped: the client is to get no answer.
        """
        operation = operation_of(request)
        fault = await _delayed(self.board.strike(request.service, operation))
        if fault is None:
            return await handle(request)
        if fault.spec.kind == "outage":
            raise ConnectionDropped
        if fault.spec.kind == "timeout":
            await self._hang(fault, client)
            raise ConnectionDropped
        if fault.spec.kind == "partial":
            refusal = await partial.answer(request, operation, fault, handle)
            if refusal.refused and fault.spec.code is None:
                measure(self._metrics, request, operation, None, refusal.refused)
            return refusal.response
        error = error_of(fault, request.service, operation)
        measure(self._metrics, request, operation, error)
        raise error

    async def _hang(self, fault: Fault, client: Client) -> None:
        waits = [
            asyncio.ensure_future(client.gone()),
            asyncio.ensure_future(self.board.wait_until_over(fault)),
        ]
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()

    # Engines that call in-process

    async def delay(self, service: str, operation: str) -> None:
        """Waits as latency and timeout faults on this call say."""
        if service not in self.board.by_service:
            return
        fault = await _delayed(self.board.strike(service, operation, _DELAYS))
        if fault is not None:
            await self.board.wait_until_over(fault)

    def refuse(self, service: str, operation: str, resource: str) -> None:
        """Lets throttle, error and outage faults happen to this call on a stream or function.

        Raises:
            FaultError: one did.
        """
        if service in self.board.by_service:
            for fault in self.board.strike(service, operation, _REFUSALS):
                error = error_of(fault, service, operation)
                measure_engine(self._metrics, service, resource, error)
                raise error

    async def admit(self, service: str, operation: str, resource: str) -> None:
        """`delay` and `refuse` of one call on a stream or function.

        Raises:
            FaultError: it is refused.
        """
        await self.delay(service, operation)
        self.refuse(service, operation, resource)


async def _delayed(struck: list[Fault]) -> Fault | None:
    """Waits the latencies of one call; returns the fault that decides it, if one does."""
    for fault in struck:
        if fault.spec.kind == "latency":
            # A latency that is cleared delays nobody any longer.
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(fault.over.wait(), fault.latency_s())
    return next((fault for fault in struck if fault.spec.kind != "latency"), None)
