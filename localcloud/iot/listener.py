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
BACKLOG = 2048


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
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Begins to accept."""
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(
            lambda: _Opening(self._greet), sock=self._socket, backlog=BACKLOG
        )

    async def stop(self) -> None:
        """Accepts no more."""
        if self._server is not None:
            self._server.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._socket.close()

    def trust(self, pem: str) -> None:
        """Trusts a certificate that was registered, or the authority of such."""
        with contextlib.suppress(ssl.SSLError):
            self._tls.load_verify_locations(cadata=pem)

    def _greet(self, transport: asyncio.Transport, opening: _Opening) -> None:
        task = asyncio.create_task(self._shake(transport, opening))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _shake(self, transport: asyncio.Transport, opening: _Opening) -> None:
        """The TLS handshake; whoever fails it is counted, and told by TLS alone."""
        loop = asyncio.get_running_loop()
        try:
            secure = await loop.start_tls(
                transport, opening, self._tls, server_side=True, ssl_handshake_timeout=HANDSHAKE_S
            )
        except (OSError, ssl.SSLError, TimeoutError) as error:
            self._meter.broker("Connect.AuthError")
            self._meter.line("ERROR", "Connect", "Failure", reason="TLS", details=_words(error))
            transport.abort()
            return
        if secure is None:
            return
        device = self._device(secure)
        if device is None:
            secure.close()
            return
        connection = Connection(self._broker, device)
        secure.set_protocol(connection)
        connection.connection_made(secure)
        early, opening.data = opening.data, b""
        if secure.is_closing():
            connection.connection_lost(None)
        elif early:
            connection.data_received(early)

    def _device(self, transport: asyncio.Transport) -> Device | None:
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


class _Opening(asyncio.Protocol):
    """A connection until its handshake is over."""

    def __init__(self, greet: Any) -> None:
        self._greet = greet
        self._begun = False
        self.data = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Called for the plain connection alone: nothing of it is read before TLS has it."""
        if not self._begun and isinstance(transport, asyncio.Transport):
            self._begun = True
            transport.pause_reading()
            self._greet(transport, self)

    def data_received(self, data: bytes) -> None:
        """Keeps what a client sends right after the handshake."""
        self.data += data


def _words(error: BaseException) -> str:
    return getattr(error, "reason", None) or str(error) or type(error).__name__
