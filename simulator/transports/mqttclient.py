"""aiomqtt's client, held to what it asks of the event loop, and with a way to publish without waiting.

aiomqtt lets the loop watch a socket by its number, a turn of the loop after paho asked for it. By
then the socket may be closed, at which the loop prints a traceback, or its number another
connection's, which is then written to no more. And where a connection cannot be made, or breaks in
the middle of a read, nobody closes its socket. A fleet meets both as soon as its broker is busy.

A task, a future and a timer for each message, as aiomqtt's `publish` has them, cost more than the
message itself; `begin` publishes with a call, and acknowledgements are told with one for each read.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from typing import TYPE_CHECKING, Any, Self

import aiomqtt
import paho.mqtt.client as mqtt

from simulator.transports.mqttsocket import opened

if TYPE_CHECKING:
    import socket
    import ssl
    from collections.abc import Callable

# How often a connection looks after its keep-alive.
LOOK_S = 5.0


class MqttClient(aiomqtt.Client):
    """A client for one connection; `discard` ends it for good.

    Attributes:
        landed: Is told the ids of messages of `begin` that were acknowledged, as they are read.
    """

    def __init__(self, *args: Any, **settings: Any) -> None:
        super().__init__(*args, **settings)
        self._context: ssl.SSLContext | None = settings.get("tls_context")
        self._opened: socket.socket | None = None
        self.landed: Callable[[list[int]], None] = lambda _ids: None
        self._acknowledged: list[int] = []
        self._discarded = False
        self._thread = threading.get_ident()
        # Whether the loop watches for room to write: only where the socket had none.
        self._watched = False

    async def __aenter__(self) -> Self:
        """Connects.

        Raises:
            MqttError: it cannot.
        """
        try:
            async with asyncio.timeout(self.timeout):
                self._opened = await opened(self._hostname, self._port, self._context)
        except TimeoutError:
            raise aiomqtt.MqttError(f"no connection within {self.timeout:g} s") from None
        except OSError as error:
            raise aiomqtt.MqttError(str(error)) from None
        sock = self._opened
        # paho has no public way to be given a socket.
        self._client._create_socket = lambda: sock  # type: ignore[method-assign] # noqa: SLF001
        return await super().__aenter__()

    def begin(self, topic: str, payload: bytes) -> int:
        """Publishes at QoS 1; returns the message's id, which `landed` is told.

        Raises:
            MqttCodeError: there is no connection.
        """
        info = self._client.publish(topic, payload, 1)
        if info.rc != mqtt.MQTT_ERR_SUCCESS:
            raise aiomqtt.MqttCodeError(info.rc, "Could not publish message")
        return info.mid

    @property
    def disconnected(self) -> asyncio.Future[None]:
        """Done when the connection is over, with the error where it broke."""
        return self._disconnected

    def discard(self) -> None:
        """Takes the socket from the loop and closes it, whatever became of the connection."""
        self._discarded = True
        self._client._sock_close()  # noqa: SLF001 - paho has no public word for it
        if self._opened is not None:
            # It may not have been paho's yet.
            self._opened.close()
        for told in (self._connected, self._disconnected):
            # Whoever waited for it has given up.
            if told.done() and not told.cancelled():
                told.exception()

    def _on_publish(self, client: Any, userdata: Any, mid: int, *more: Any) -> None:
        if mid in self._pending_publishes:
            super()._on_publish(client, userdata, mid, *more)
        else:
            self._acknowledged.append(mid)

    def _on_socket_open(self, client: Any, userdata: Any, sock: Any) -> None:  # noqa: ARG002
        def read() -> None:
            with self._ending():
                client.loop_read()
                # What TLS has decoded already, the loop knows nothing of.
                while client.socket() is sock and getattr(sock, "pending", int)():
                    client.loop_read()
            if self._acknowledged:
                ids, self._acknowledged = self._acknowledged, []
                self.landed(ids)

        def begin() -> None:
            self._loop.add_reader(sock.fileno(), read)
            self._misc_task = self._loop.create_task(self._misc_loop())

        self._soon(client, sock, begin)

    def _on_socket_register_write(self, client: Any, userdata: Any, sock: Any) -> None:  # noqa: ARG002
        """Writes in the loop's next turn; there is nearly always room."""

        def write() -> None:
            with self._ending():
                client.loop_write()
            if client.socket() is sock and client.want_write() and not self._watched:
                self._watched = True
                self._loop.add_writer(sock.fileno(), write)

        self._soon(client, sock, write)

    def _on_socket_unregister_write(self, client: Any, userdata: Any, sock: Any) -> None:
        if self._watched:
            self._watched = False
            super()._on_socket_unregister_write(client, userdata, sock)

    def _soon(self, client: Any, sock: Any, begin: Callable[[], Any]) -> None:
        """Lets the loop's thread do something, if the socket is still the client's then."""

        def if_open() -> None:
            if client.socket() is not sock:
                return
            if self._discarded:
                # It was opened by a thread after everybody had given up.
                client._sock_close()  # noqa: SLF001
                return
            begin()

        if threading.get_ident() == self._thread:
            self._loop.call_soon(if_open)
        else:
            self._loop.call_soon_threadsafe(if_open)

    async def _misc_loop(self) -> None:
        while self._client.loop_misc() == mqtt.MQTT_ERR_SUCCESS:  # noqa: ASYNC110 - as aiomqtt's
            await asyncio.sleep(LOOK_S)

    @contextlib.contextmanager
    def _ending(self) -> Any:
        """Ends the connection where paho fails at reading or writing."""
        try:
            yield
        except Exception as error:  # noqa: BLE001 - as aiomqtt does: whatever it is, it is over
            if not self._disconnected.done():
                self._disconnected.set_exception(error)
