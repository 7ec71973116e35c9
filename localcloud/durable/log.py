"""An append-only log in segment files: what it was told is there after the process was killed.

An entry goes to the operating system before `append` returns, which outlives the process however
it ends. It is not forced to the disk: a machine that loses its power may lose the last seconds.
"""

from __future__ import annotations

import os
import struct
import threading
import zlib
from typing import TYPE_CHECKING

from fleetcast.errors import TargetError
from localcloud.http import AwsError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

SEGMENT_BYTES = 32 * 1024 * 1024
MAX_ENTRY_BYTES = 1024 * 1024 * 1024
SUFFIX = ".log"
# Length and CRC-32 of what follows.
_HEAD = struct.Struct("<II")


class NotKeptError(AwsError):
    """Something could not be written, and is therefore not acknowledged."""

    def __init__(self, folder: Path, error: OSError) -> None:
        super().__init__(
            "InternalFailure",
            f"the local cloud cannot keep this in {folder}: {error.strerror}; make room, or start "
            "it without --data",
            500,
        )


class Log:
    """A log of entries of bytes, in files that are numbered in their order.

    Args:
        folder: Where its segments are; made where it misses.
        segment_bytes: A segment that is larger is followed by another.
    """

    def __init__(self, folder: Path, segment_bytes: int = SEGMENT_BYTES) -> None:
        self.folder = folder
        self._segment_bytes = segment_bytes
        self._lock = threading.RLock()
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._numbers = sorted(
            int(path.stem) for path in folder.glob(f"*{SUFFIX}") if path.stem.isdecimal()
        )
        self._file: int | None = None
        self._size = 0
        self._ended = False

    @property
    def segments(self) -> tuple[int, ...]:
        """Numbers of the segments, oldest first; the last one is written to."""
        return tuple(self._numbers)

    @property
    def size(self) -> int:
        """Bytes of all segments."""
        return sum(self._path(number).stat().st_size for number in self._numbers)

    def entries(self) -> Iterator[tuple[int, bytes]]:
        """(segment, entry) of everything, oldest first.

        What was cut off at the very end was never acknowledged, and is removed.

        Raises:
            TargetError: a file is damaged elsewhere.
        """
        for number in list(self._numbers):
            path = self._path(number)
            content = path.read_bytes()
            at = 0
            while at < len(content):
                start = at + _HEAD.size
                length, crc = _HEAD.unpack_from(content, at) if start <= len(content) else (0, 0)
                entry = content[start : start + length]
                if not length or len(entry) < length or zlib.crc32(entry) != crc:
                    # Cut off, or the zeros of a file whose end never reached the disk.
                    at_end = start + length >= len(content) or not any(content[at:])
                    if number != self._numbers[-1] or not at_end:
                        raise TargetError(
                            f"{path} is damaged at byte {at}: restore it from a copy, or begin "
                            "anew with another --data folder"
                        )
                    os.truncate(path, at)
                    break
                yield number, entry
                at = start + length

    def append(self, entries: Iterable[bytes]) -> int:
        """Writes entries, all of them or none; returns the segment that they are in.

        Raises:
            NotKeptError: they could not be written.
        """
        parts: list[bytes] = []
        for entry in entries:
            parts += [_HEAD.pack(len(entry), zlib.crc32(entry)), entry]
        content = b"".join(parts)
        with self._lock:
            try:
                if self.full:
                    self._begin_segment()
                self._write(content)
            except OSError as error:
                raise NotKeptError(self.folder, error) from error
            return self._numbers[-1]

    @property
    def full(self) -> bool:
        """Whether the next entry begins another segment."""
        return self._file is None or self._ended or self._size >= self._segment_bytes

    def abandon(self) -> None:
        """Lets the next entry begin another segment."""
        with self._lock:
            self._ended = True

    def begin_segment(self) -> int:
        """Begins another segment; returns its number.

        Raises:
            NotKeptError: it could not be made.
        """
        with self._lock:
            try:
                self._begin_segment()
            except OSError as error:
                raise NotKeptError(self.folder, error) from error
            return self._numbers[-1]

    def drop(self, number: int) -> None:
        """Removes a segment other than the one that is written to."""
        with self._lock:
            self._numbers.remove(number)
            self._path(number).unlink(missing_ok=True)

    def close(self) -> None:
        """Ends writing; what is written is forced to the disk."""
        with self._lock:
            if self._file is not None:
                os.fsync(self._file)
                os.close(self._file)
                self._file = None

    def _path(self, number: int) -> Path:
        return self.folder / f"{number:012d}{SUFFIX}"

    def _begin_segment(self) -> None:
        number = self._numbers[-1] + 1 if self._numbers else 1
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND
        file = os.open(self._path(number), flags, 0o600)
        if self._file is not None:
            os.close(self._file)
        self._file, self._size, self._ended = file, 0, False
        self._numbers.append(number)

    def _write(self, content: bytes) -> None:
        file = self._file
        assert file is not None  # noqa: S101 - append begins a segment first
        view = memoryview(content)
        try:
            while view:
                view = view[os.write(file, view) :]
        except OSError:
            # Half an entry would be damage to whoever reads it; what follows must not be behind it.
            os.ftruncate(file, self._size)
            raise
        self._size += len(content)
