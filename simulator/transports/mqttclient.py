"""aiomqtt's client, held to what it asks of the event loop.

aiomqtt lets the loop watch a socket by its number, a turn of the loop after paho asked for it. By
then the socket may be closed, at which the loop prints a traceback, or its number another
connection's, which is then written to no more. And where a connection cannot be made, or breaks in
the middle of a read, nobody closes its socket. A fleet meets both as soon as its broker is busy.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

import aiomqtt

if TYPE_CHECKING:
    from collections.abc import Callable


class MqttClient(aiomqtt.Client):
    """A client for one connection; `discard` ends it for good."""

    _discarded = False

    def discard(self) -> None:
        """Takes the socket from the loop and closes it, whatever became of the connection."""
        self._discarded = True
        self._client._sock_close()  # noqa: SLF001 - paho has no public word for it
        for told in (self._connected, self._disconnected):
            # Whoever waited for it has given up.
            if told.done() and not told.cancelled():
                told.exception()

    def _on_socket_open(self, client: Any, userdata: Any, sock: Any) -> None:  # noqa: ARG002
        def read() -> None:
            with self._ending():
                client.loop_read()
                # What TLS has decoded already, the loop knows nothing of.
                while client.socket() is sock and getattr(sock, "pending", int)():
                    client.loop_read()

        def begin() -> None:
            self._loop.add_reader(sock.fileno(), read)
            self._misc_task = self._loop.create_task(self._misc_loop())

        self._soon(client, sock, begin)

    def _on_socket_register_write(self, client: Any, userdata: Any, sock: Any) -> None:  # noqa: ARG002
        def write() -> None:
            with self._ending():
                client.loop_write()

        self._soon(client, sock, lambda: self._loop.add_writer(sock.fileno(), write))

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

        self._loop.call_soon_threadsafe(if_open)

    @contextlib.contextmanager
    def _ending(self) -> Any:
        """Ends the connection where paho fails at reading or writing."""
        try:
            yield
        except Exception as error:  # noqa: BLE001 - as aiomqtt does: whatever it is, it is over
            if not self._disconnected.done():
                self._disconnected.set_exception(error)
