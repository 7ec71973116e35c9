"""What a function's process prints, as lines, no faster than they can be kept.

A process that prints without end is made to wait by its full pipe: its own time passes, nobody
else's.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

# CloudWatch Logs takes events of up to 256 KiB, 26 bytes of which are its own.
MAX_LINE_BYTES = 256 * 1024 - 26
BYTES_PER_S = 4 * 1024 * 1024
BURST_BYTES = 8 * 1024 * 1024
_CHUNK = 64 * 1024


async def read_lines(reader: asyncio.StreamReader, take: Callable[[str], None]) -> None:
    """Gives every line to `take`, longer ones in parts; returns at the end of the output."""
    rest = b""
    credit, then = float(BURST_BYTES), time.monotonic()
    while chunk := await reader.read(_CHUNK):
        *lines, rest = (rest + chunk).split(b"\n")
        for line in lines:
            _emit(line, take)
        if len(rest) > MAX_LINE_BYTES:
            take(rest[:MAX_LINE_BYTES].decode("utf-8", "replace"))
            rest = rest[MAX_LINE_BYTES:]
        now = time.monotonic()
        credit = min(BURST_BYTES, credit + (now - then) * BYTES_PER_S) - len(chunk)
        then = now
        # Data that is there already would else be read without ever letting others run.
        await asyncio.sleep(max(0.0, -credit / BYTES_PER_S))
    if rest:
        _emit(rest, take)


def _emit(line: bytes, take: Callable[[str], None]) -> None:
    text = line.rstrip(b"\r")
    for start in range(0, len(text) or 1, MAX_LINE_BYTES):
        take(text[start : start + MAX_LINE_BYTES].decode("utf-8", "replace"))
