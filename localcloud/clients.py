"""The cloud's clients of itself: one for each service, made once and shared.

Making a client takes a tenth of a second of the event loop, in which nothing else is served.
"""

from __future__ import annotations

import asyncio
import secrets
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any

from fleetcast.target import Target
from localcloud.access.control import HEADER, acting_token

if TYPE_CHECKING:
    from localcloud.http import Request
    from localcloud.seams import CloudContext

# What engines use while readings flow; made before the cloud says that it is ready.
AT_START = ("sns", "sqs", "s3", "logs")
# A function may run for minutes, and whoever invokes it counts the attempts.
SETTINGS: dict[str, dict[str, Any]] = {
    "lambda": {"read_timeout": 920, "retries": {"total_max_attempts": 1}},
}

# Tells the cloud's own requests from others'.
_OWN_HEADER = "x-fleetcast-own"
_OWN = secrets.token_urlsafe(24)


class Clients:
    """aiobotocore clients pointed at the cloud's own port.

    Args:
        context: The cloud.
    """

    def __init__(self, context: CloudContext) -> None:
        self._target = Target("local", context.region, context.endpoint_url)
        self._open = AsyncExitStack()
        self._made: dict[str, Any] = {}
        self._making = asyncio.Lock()

    async def start(self) -> None:
        """Makes those that are surely used."""
        for service in AT_START:
            await self.get(service)

    async def get(self, service: str) -> Any:
        """The client of a service."""
        async with self._making:
            if service not in self._made:
                client = await self._open.enter_async_context(
                    self._target.client(service, **SETTINGS.get(service, {}))
                )
                client.meta.events.register("before-sign", _act)
                self._made[service] = client
        return self._made[service]

    async def close(self) -> None:
        """Closes all of them."""
        self._made.clear()
        await self._open.aclose()


def is_own(request: Request) -> bool:
    """Whether the cloud makes a request of itself."""
    return request.headers.get(_OWN_HEADER) == _OWN


def _act(request: Any, **_: Any) -> None:
    request.headers[_OWN_HEADER] = _OWN
    token = acting_token()
    if token:
        request.headers[HEADER] = token
