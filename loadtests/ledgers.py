"""The ledger of a worker that does not share the master's runs folder, on its way there.

A worker sends what its files have grown by; the master appends it to its own. What a worker that is
lost had not sent is `unknown`: it may have sent those readings.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

from simulator.ledger import FOLDER

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

TOKEN = ".load-token"  # noqa: S105 - tells folders apart, and is no secret
CHUNK = 1024 * 1024
_NAME = re.compile(r"(part-\d{8}-\d{8}-\d{6}\.parquet|released-\d{8}-\d{8}\.jsonl)")


def mark(run_dir: Path, token: str) -> None:
    """Marks the master's folder of a run."""
    (run_dir / TOKEN).write_text(token)


def is_shared(run_dir: Path, token: str) -> bool:
    """Whether a folder is the one that the master marked."""
    try:
        return (run_dir / TOKEN).read_text() == token
    except OSError:
        return False


class Sent:
    """What a worker has sent of the ledger of its slices.

    Args:
        run_dir: The worker's folder of the run.
    """

    def __init__(self, run_dir: Path) -> None:
        self._folder = run_dir / FOLDER
        self._sizes: dict[str, int] = {}

    def grown(self) -> Iterator[dict[str, Any]]:
        """What there is to send, in messages of moderate size."""
        # Parts appear whole, under their name; a journal grows.
        for path in sorted(self._folder.glob("*.*")):
            if not _NAME.fullmatch(path.name):
                continue
            with path.open("rb") as file:
                file.seek(self._sizes.get(path.name, 0))
                while content := file.read(CHUNK):
                    offset = self._sizes.get(path.name, 0)
                    self._sizes[path.name] = offset + len(content)
                    yield {"name": path.name, "offset": offset, "content": content}


def receive(run_dir: Path, message: dict[str, Any]) -> None:
    """Writes what a worker sent to where it belongs.

    Raises:
        ValueError: it is none of a ledger's files, or a piece before it is missing.
    """
    name, offset, content = message["name"], message["offset"], message["content"]
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise ValueError(f"a worker sent {name!r}, which is no file of a ledger")
    folder = run_dir / FOLDER
    folder.mkdir(exist_ok=True)
    with (folder / name).open("ab") as file:
        if file.tell() != offset:
            raise ValueError(f"{name} has {file.tell()} bytes, and the next piece is for {offset}")
        file.write(content)


def give_up(run_dir: Path, devices: tuple[int, int], until_ns: int, total: int) -> None:
    """Notes that a worker is lost: what it may have sent until a time is not known.

    Args:
        run_dir: The master's folder of the run.
        devices: The worker's slice.
        until_ns: When it was found missing, epoch nanoseconds.
        total: Readings of the slice in all.
    """
    folder = run_dir / FOLDER
    folder.mkdir(exist_ok=True)
    for part in folder.glob(f"part-{devices[0]:08d}-{devices[1]:08d}-*.parquet"):
        content = part.read_bytes()
        # Cut off on its way: its readings are among what is not known.
        if content[-4:] != b"PAR1" or content[:4] != b"PAR1":
            part.unlink()
    journal = folder / f"released-{devices[0]:08d}-{devices[1]:08d}.jsonl"
    with journal.open("a") as file:
        # The end of a line that was cut off.
        file.write("\n")
        file.write(json.dumps({"slice": list(devices)}) + "\n")
        file.write(json.dumps({"released": total, "until_ns": until_ns}) + "\n")
