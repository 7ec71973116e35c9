"""Garbage collection in a process that sends: seldom, for it makes few cycles and many objects."""

from __future__ import annotations

import gc

# Answers are made of a thousand small objects each, which the collector would look at in vain.
EVERY = 100_000


def collect_rarely() -> None:
    """Leaves what is imported out of collections, and makes these rare. Once for a process."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(EVERY, 50, 100)
