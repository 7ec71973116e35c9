"""Memory of a process that sends: how it is collected, and where columns of text come from."""

from __future__ import annotations

import gc

import pyarrow as pa

# It makes few cycles, and many objects that the collector would look at in vain.
EVERY = 100_000


def suit_sending() -> None:
    """Suits a process that sends, before it begins. Once for a process.

    What is imported is left out of collections, which become rare. Arrow takes memory as the rest
    does: its own pools give it back at once, and each block of readings has its pages anew.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(EVERY, 50, 100)
    pa.set_memory_pool(pa.system_memory_pool())
