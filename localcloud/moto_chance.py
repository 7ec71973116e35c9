"""moto's random numbers, drawn from the moment of the request where that is kept.

moto draws from one generator of its own, and from `os.urandom` where it makes keys, session tokens
and upload ids. Key pairs come out of OpenSSL, which nobody can tell what to draw.
"""

from __future__ import annotations

import functools
import importlib
import os
from typing import Any

from localcloud.durable import moment

_WITH_URANDOM = ("moto.kms.utils", "moto.s3.models", "moto.sts.utils")


@functools.cache
def draw_from_moments() -> None:
    """Takes effect for the life of the process."""
    from moto.moto_api._internal import mock_random  # noqa: PLC0415 - slow to import
    from moto.moto_api._internal.moto_random import MotoRandom  # noqa: PLC0415

    class Chance(MotoRandom):  # type: ignore[misc] # moto has no types here
        """moto's generator, or that of the moment."""

        def getrandbits(self, k: int, /) -> int:
            made = moment.current()
            return super().getrandbits(k) if made is None else made.random.getrandbits(k)

        def random(self) -> float:
            made = moment.current()
            return super().random() if made is None else made.random.random()

    mock_random.__class__ = Chance
    for name in _WITH_URANDOM:
        vars(importlib.import_module(name))["os"] = _System()


class _System:
    """`os`, but for its random bytes."""

    urandom = staticmethod(moment.random_bytes)

    def __getattr__(self, name: str) -> Any:
        return getattr(os, name)
