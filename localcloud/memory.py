"""The memory that the cloud's process holds: now, and at most."""

from __future__ import annotations

import os
import resource
import sys
from pathlib import Path

MIB = 1024 * 1024


def memory_mib() -> int:
    """Resident memory now; the peak where the system does not tell (it does on Linux)."""
    try:
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    except OSError:
        return peak_memory_mib()
    return pages * os.sysconf("SC_PAGE_SIZE") // MIB


def peak_memory_mib() -> int:
    """The most that was ever resident."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    # Bytes on macOS, KiB elsewhere.
    return peak // MIB if sys.platform == "darwin" else peak // 1024
