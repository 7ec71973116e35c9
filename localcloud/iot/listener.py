"""The broker's port: TLS with a certificate of the client, and who that is."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import ssl
from typing import TYPE_CHECKING, Any

from localcloud.iot.authority import certificate_id
from localcloud.iot.connection import Connection
from localcloud.iot.devices import Device

if TYPE_CHECKING:
    import socket

    from localcloud.iot.authority import Authority
    from localcloud.iot.broker import Broker
    from localcloud.iot.devices import Registry
    from localcloud.iot.meter import Meter

log = logging.getLogger(__name__)

HANDSHAKE_S = 30.0
# Where the process has no descriptor left for a connection.
PAUSE_S = 0.1


class Listener:
    """Listens for devices.

    Args:
        listening: The socket.
        authority: Whose certificates are trusted.
        registry: Knows certificates.
        broker: Takes connections.
        meter: Counts refusals.
    """

    def __init__(
        self, listening: socket.socket, authority: Authority, registry: Registry, broker: Broker,
        meter: Meter,
    ) -> None:  # fmt: skip
        self._socket = listening
        self._tls = authority.server_context()
        self._registry = registry
        self._broker = broker
        self._meter = meter
        self._accepting: asyncio.Task[None] | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Begins to accept."""
        self._accepting = asyncio.create_task(self._accept())

    async def stop(self) -> None:
        """Accepts no more."""
        tasks = [*self._tasks, *([self._accepting] if self._accepting else [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._socket.close()

    def trust(self, pem: str) -> None:
        """Trusts a certificate that was registered, or the authority of such."""
        with contextlib.suppress(ssl.SSLError):
            self._tls.load_verify_locations(cadata=pem)

    async def _accept(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                accepted, _ = await loop.sock_accept(self._socket)
            except OSError as error:
                log.warning("a connection could not be accepted: %s", error)
                await asyncio.sleep(PAUSE_S)
                continue
            task = asyncio.create_task(self._shake(accepted))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _shake(self, accepted: socket.socket) -> None:
        """The TLS handshake; whoever fails it is counted, and told by TLS alone."""
        try:
            await asyncio.get_running_loop().connect_accepted_socket(
                lambda: Connection(self._broker, self._device),
                accepted,
                ssl=self._tls,
                ssl_handshake_timeout=HANDSHAKE_S,
            )
        except (OSError, TimeoutError) as error:
            self._meter.broker("Connect.AuthError")
            self._meter.line("ERROR", "Connect", "Failure", reason="TLS", details=_words(error))

    def _device(self, transport: asyncio.BaseTransport) -> Device | None:
        """Whose certificate it is; None where it is not active."""
        secured: Any = transport.get_extra_info("ssl_object")
        der = secured.getpeercert(binary_form=True)
        found = certificate_id(der or b"")
        status = self._registry.certificate_status(found)
        if status == "ACTIVE":
            return Device(found)
        why = f"its certificate is {status}" if status else "its certificate is not registered"
        self._meter.broker("Connect.AuthError")
        self._meter.line("ERROR", "Connect", "Failure", reason="AUTHORIZATION_FAILURE",
                         principalId=found, details=why)  # fmt: skip
        return None


def _words(error: BaseException) -> str:
    return getattr(error, "reason", None) or str(error) or type(error).__name__
