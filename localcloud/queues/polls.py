"""Receivers that wait for messages: moto would hold a thread for each of them."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Protocol

import orjson

from localcloud.queues.kept import KIND, KeptMessages

if TYPE_CHECKING:
    from localcloud.durable.folder import Folder
    from localcloud.http import Request, Response

MAX_WAIT_S = 20
_OK = 300


class Inner(Protocol):
    """Who answers in the end."""

    async def handle(self, request: Request) -> Response:
        """Answers a request."""


class LongPolls:
    """Lets receivers wait for messages without a thread.

    Args:
        inner: Who answers.
        account_id: Account of the queues.
        folder: Where messages are kept; None where memory is all.
    """

    def __init__(self, inner: Inner, account_id: str, folder: Folder | None = None) -> None:
        self._inner = inner
        self._account_id = account_id
        self._waiting: dict[Any, set[asyncio.Event]] = {}
        self._loop: asyncio.AbstractEventLoop | None = None
        from localcloud.queues import standard  # noqa: PLC0415 - moto's queues are slow to import

        self._standard = standard
        standard.mend()
        standard.listeners.add(self._arrived)
        self._kept = KeptMessages(folder.log(KIND)) if folder is not None else None
        standard.keep(self._kept)

    def restore(self) -> None:
        """Puts messages that were kept back into their queues.

        Raises:
            TargetError: what was kept is damaged.
        """
        if self._kept is not None:
            self._standard.restore(self._kept, self._account_id)

    def close(self) -> None:
        """Listens no longer, and keeps nothing any more."""
        self._standard.listeners.discard(self._arrived)
        self._standard.keep(None)
        if self._kept is not None:
            self._kept.close()

    async def handle(self, request: Request) -> Response:
        """Answers a request."""
        if request.service != "sqs" or request.operation != "ReceiveMessage":
            return await self._inner.handle(request)
        body = dict(request.json())
        queue = self._queue(request.region, body.get("QueueUrl"))
        wait_s = body.get("WaitTimeSeconds")
        if wait_s is None and queue is not None:
            wait_s = int(queue.receive_message_wait_time_seconds)
        if queue is None or type(wait_s) is not int or not 0 < wait_s <= MAX_WAIT_S:
            return await self._inner.handle(request)
        return await self._poll(request, body, queue, wait_s)

    async def _poll(
        self, request: Request, body: dict[str, Any], queue: Any, wait_s: int
    ) -> Response:
        at_once = replace(request, body=orjson.dumps({**body, "WaitTimeSeconds": 0}))
        self._loop = loop = asyncio.get_running_loop()
        give_up_s = loop.time() + wait_s
        arrived = asyncio.Event()
        self._waiting.setdefault(queue, set()).add(arrived)
        try:
            while True:
                arrived.clear()
                response = await self._inner.handle(at_once)
                left_s = give_up_s - loop.time()
                if response.status >= _OK or left_s <= 0 or b'"ReceiptHandle"' in response.body:
                    return response
                try:
                    async with asyncio.timeout(min(left_s, self._standard.until_next_s(queue))):
                        await arrived.wait()
                except TimeoutError:
                    continue
        finally:
            self._waiting[queue].discard(arrived)
            if not self._waiting[queue]:
                del self._waiting[queue]

    def _queue(self, region: str, url: Any) -> Any:
        if not isinstance(url, str):
            return None
        name = url.rpartition("/")[2]
        return self._standard.queue(self._account_id, region, name)

    def _arrived(self, queue: Any) -> None:
        """Wakes receivers; called in one of moto's threads."""
        if queue in self._waiting and self._loop is not None:
            self._loop.call_soon_threadsafe(self._wake, queue)

    def _wake(self, queue: Any) -> None:
        for event in self._waiting.get(queue, ()):
            event.set()
