"""Settings of the local cloud that come from environment variables."""

from __future__ import annotations

import os

from fleetcast.errors import UsageError


def whole_number(name: str, default: int) -> int:
    """The value of a variable, 1 or more; the default where it is not set, or empty.

    Raises:
        UsageError: it is no such number.
    """
    text = os.environ.get(name) or str(default)
    if not (text.isascii() and text.isdecimal() and int(text) > 0):
        raise UsageError(f"{name}={text}: use a whole number from 1 on, or leave it unset")
    return int(text)
