"""What a function's processes use, by /proc, and the end of all of them.

Where there is no /proc (macOS), nothing is known and nothing is limited.
"""

from __future__ import annotations

import contextlib
import os
import signal
from pathlib import Path

MIB = 1024 * 1024
# AWS: 1,024 processes and threads per environment.
MAX_PROCESSES = 1024
# The variable by whose value every process of an environment can be told.
MARK = "AWS_LAMBDA_RUNTIME_API"
_PAGE = os.sysconf("SC_PAGE_SIZE")
_PROC = Path("/proc")
_PART = 16 * 1024


def tree(pid: int) -> list[int]:
    """The process and all that descend from it, as far as there is a /proc."""
    found = [pid]
    for one in found:
        with contextlib.suppress(OSError):
            for task in os.listdir(f"/proc/{one}/task"):  # noqa: PTH208 - see _read
                found.extend(map(int, _read(f"{one}/task/{task}/children").split()))
        if len(found) > 4 * MAX_PROCESSES:
            break
    return found


def memory_bytes(pids: list[int], limit: int) -> int:
    """Memory of processes: resident, or exactly shared out where that seems to exceed `limit`."""
    total = sum(_resident(pid) for pid in pids)
    # Pages that a fork shares count in each; the exact sum costs a hundred times as much.
    return total if total <= limit or len(pids) == 1 else sum(_proportional(pid) for pid in pids)


def peak_bytes(pid: int) -> int:
    """The most that a process ever had resident; 0 where it is not known."""
    with contextlib.suppress(OSError, IndexError):
        return int(_read(f"{pid}/status").partition(b"VmHWM:")[2].split(None, 1)[0]) * 1024
    return 0


def end(pid: int) -> None:
    """Kills a process group and whatever descends from its leader."""
    descendants = tree(pid)
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal.SIGKILL)
    for one in descendants[1:]:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(one, signal.SIGKILL)


def end_marked(address: str) -> None:
    """Kills what is left of an environment whose first process is gone, by the mark it inherited.

    Looks at every process of the machine: for ends that are not as they should be.
    """
    wanted = f"{MARK}={address}".encode()
    for folder in _PROC.glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if wanted in (folder / "environ").read_bytes().split(b"\0"):
                os.kill(int(folder.name), signal.SIGKILL)


def _read(name: str) -> bytes:
    """A file of /proc. It is asked for often, and costs less than half of what a `Path` does."""
    file = os.open(f"/proc/{name}", os.O_RDONLY)
    try:
        parts = []
        while part := os.read(file, _PART):
            parts.append(part)
        return b"".join(parts)
    finally:
        os.close(file)


def _resident(pid: int) -> int:
    with contextlib.suppress(OSError, IndexError):
        return int(_read(f"{pid}/statm").split()[1]) * _PAGE
    return 0


def _proportional(pid: int) -> int:
    with contextlib.suppress(OSError):
        for line in (_PROC / str(pid) / "smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) * 1024
    return 0
