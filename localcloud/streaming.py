"""Sends an answer that goes on until it or its client ends."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from localcloud.http import Response


async def send_stream(response: Response, receive: Any, send: Any) -> None:
    """Sends a response that has a `stream`, part by part, and ends the stream with its client.

    Args:
        response: The response.
        receive: ASGI's receive, of a request whose body was read.
        send: ASGI's send.
    """
    await send(
        {
            "type": "http.response.start",
            "status": response.status,
            "headers": [
                (name.encode("latin-1"), value.encode("latin-1"))
                for name, value in response.headers.items()
            ],
        }
    )
    sending = asyncio.create_task(_send_parts(response, send))
    leaving = asyncio.create_task(_left(receive))
    try:
        await asyncio.wait({sending, leaving}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in (sending, leaving):
            task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await leaving
        with contextlib.suppress(asyncio.CancelledError):
            await sending


async def _send_parts(response: Response, send: Any) -> None:
    if response.stream is not None:
        async with contextlib.aclosing(response.stream) as parts:
            async for part in parts:
                await send({"type": "http.response.body", "body": part, "more_body": True})
    await send({"type": "http.response.body", "body": b""})


async def _left(receive: Any) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
