"""HTTP connections: uvicorn's, with bounds on what a client may make the cloud hold or wait for."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

if TYPE_CHECKING:
    from collections.abc import Iterator

MAX_HEAD_BYTES = 64 * 1024
# A client that stalls for this long in the middle of a request is given up, as AWS does ...
STALLED_S = 30.0
# ... and so is one that takes this long for a whole request.
REQUEST_S = 300.0
CONNECTION = "fleetcast.connection"


class _Transport:
    """A transport that can hold what is written to it, to send it with what comes next.

    Args:
        transport: Where it goes in the end.
    """

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self._held: list[bytes] | None = None

    def hold(self) -> None:
        """Holds what is written from now on."""
        self._held = []

    def release(self) -> None:
        """Sends what is held."""
        held, self._held = self._held, None
        if held:
            self._transport.writelines(held)

    def write(self, data: bytes) -> None:
        """Sends, or holds."""
        if self._held is None:
            self._transport.write(data)
        else:
            self._held.append(data)

    def close(self) -> None:
        """Closes behind all that was written."""
        self.release()
        self._transport.close()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)


class Connection(HttpToolsProtocol):
    """One connection; the front finds it in the ASGI scope under `fleetcast.connection`."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._head_bytes = 0
        self._in_head = True
        self._due_s = 0.0
        self._watch: asyncio.TimerHandle | None = None
        self._gone = asyncio.Event()

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begins to watch for a client that never sends a request."""
        super().connection_made(transport)
        self._held = _Transport(transport)
        self.transport = self._held  # type: ignore[assignment]
        self._due_s = self.loop.time() + REQUEST_S
        self._watch_for_more()

    def connection_lost(self, exc: Exception | None) -> None:
        """Ends what uvicorn keeps of requests that are still being answered."""
        self._unwatch()
        self._gone.set()
        for cycle, _ in self.pipeline:
            cycle.disconnected = True
        super().connection_lost(exc)

    def eof_received(self) -> bool:  # type: ignore[override]
        """Keeps the connection for the answer where the client has only closed its own side."""
        self._gone.set()
        cycle = self.cycle
        if cycle is None or cycle.response_complete or cycle.more_body:
            return False
        cycle.keep_alive = False
        return True

    def data_received(self, data: bytes) -> None:
        """Bounds the head of a request and the time between its parts."""
        if self._in_head:
            self._head_bytes += len(data)
        self._watch_for_more()
        super().data_received(data)
        if self._in_head and self._head_bytes > MAX_HEAD_BYTES and not self.transport.is_closing():
            self.transport.write(
                b"HTTP/1.1 431 Request Header Fields Too Large\r\n"
                b"content-length: 0\r\nconnection: close\r\n\r\n"
            )
            self.transport.close()

    def on_message_begin(self) -> None:
        """Hands the front its connection."""
        super().on_message_begin()
        self._in_head = True
        self._due_s = self.loop.time() + REQUEST_S
        self.scope[CONNECTION] = self  # type: ignore[literal-required]

    def on_headers_complete(self) -> None:
        """Starts the request; what follows is its body."""
        self._in_head = False
        self._head_bytes = 0
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        """Nothing more is expected of the client until it is answered."""
        self._unwatch()
        self._in_head = True
        super().on_message_complete()

    @contextlib.contextmanager
    def at_once(self) -> Iterator[None]:
        """Sends what is written in the block together: the parts of a small answer in one packet."""
        self._held.hold()
        try:
            yield
        finally:
            self._held.release()

    def drop(self) -> None:
        """Closes the connection at once, without an answer."""
        self.transport.abort()

    async def gone(self) -> None:
        """Returns when the client has closed its side."""
        await self._gone.wait()

    def _watch_for_more(self) -> None:
        self._unwatch()
        left_s = min(STALLED_S, self._due_s - self.loop.time())
        self._watch = self.loop.call_later(max(0.0, left_s), self._give_up)

    def _unwatch(self) -> None:
        if self._watch is not None:
            self._watch.cancel()
            self._watch = None

    def _give_up(self) -> None:
        """Drops a client that stalls; one that is paused waits for us, not we for it."""
        if self.flow.read_paused:
            self._due_s = self.loop.time() + REQUEST_S
            self._watch_for_more()
        elif not self.transport.is_closing():
            self.transport.abort()
