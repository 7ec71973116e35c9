"""The time and the random numbers of a request that can be made again with the same result.

A request that is kept carries both with it. Whoever makes names, ids or creation times while a
request is answered takes them from here: made again, it gives the same ones.
"""

from __future__ import annotations

import contextlib
import secrets
import time
from contextvars import ContextVar
from dataclasses import dataclass, field
from random import Random
from typing import TYPE_CHECKING
from uuid import UUID

if TYPE_CHECKING:
    from collections.abc import Iterator


@dataclass(slots=True)
class Moment:
    """When a request was made, and what chance gave it.

    Attributes:
        epoch_ns: Nanoseconds since the epoch.
        seed: Of its random numbers; 32 hexadecimal digits.
        over: Whether the request is answered. Tasks that it began have its context for good.
    """

    epoch_ns: int = field(default_factory=time.time_ns)
    seed: str = field(default_factory=lambda: secrets.token_hex(16))
    random: Random = field(init=False)
    over: bool = False

    def __post_init__(self) -> None:
        self.random = Random(int(self.seed, 16))  # noqa: S311 - the seed is as random as any


_moment: ContextVar[Moment | None] = ContextVar("moment", default=None)


@contextlib.contextmanager
def during(moment: Moment) -> Iterator[None]:
    """Makes a moment that of the current context while the block runs."""
    token = _moment.set(moment)
    try:
        yield
    finally:
        moment.over = True
        _moment.reset(token)


def current() -> Moment | None:
    """The moment of the request that is being answered; None where it is not kept."""
    moment = _moment.get()
    return None if moment is None or moment.over else moment


def now_s() -> float:
    """Seconds since the epoch."""
    moment = current()
    return time.time() if moment is None else moment.epoch_ns / 1e9


def uuid4() -> UUID:
    """A random UUID."""
    return UUID(bytes=random_bytes(16), version=4)


def random_bytes(count: int) -> bytes:
    """Random bytes."""
    moment = current()
    return secrets.token_bytes(count) if moment is None else moment.random.randbytes(count)
