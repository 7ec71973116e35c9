"""The folder that a cloud is kept in: whose it is, who has it open, and what is where in it."""

from __future__ import annotations

import fcntl
import os
import shutil
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import orjson

from fleetcast.errors import TargetError, UsageError
from localcloud.durable.log import Log

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

FORMAT = 1
_ABOUT = "cloud.json"
_LOCK = "lock"


class Folder:
    """A cloud's folder, open to one process at a time.

    It holds what the cloud holds, secrets and the code of functions among it: nobody but its owner
    may read it.

    Args:
        path: Where it is; made where it misses.
        region: Region of the cloud.
        account_id: Its account.

    Raises:
        UsageError: it is something else's, or of another region.
        TargetError: another cloud has it open, or it cannot be written.
    """

    def __init__(self, path: Path, region: str, account_id: str) -> None:
        self.path = path
        self._expected = {"format": FORMAT, "region": region, "account_id": account_id}
        try:
            path.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._check()
            self._file = os.open(path / _LOCK, os.O_RDWR | os.O_CREAT, 0o600)
        except OSError as error:
            raise TargetError(
                f"--data {path}: {error.strerror}; give a folder that can be written"
            ) from error
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(self._file)
            raise TargetError(
                f"--data {path}: another local cloud has it open; stop that one, or give another "
                "folder"
            ) from error

    def _check(self) -> None:
        about = self.path / _ABOUT
        if not about.exists():
            strange = [one.name for one in self.path.iterdir() if one.name != _LOCK]
            if strange:
                raise UsageError(
                    f"--data {self.path}: holds {min(strange)} and was not made by a local "
                    "cloud; give an empty folder"
                )
            self.path.chmod(0o700)
            written = about.with_suffix(".new")
            written.write_bytes(orjson.dumps(self._expected))
            written.replace(about)
            return
        try:
            found = orjson.loads(about.read_bytes())
        except orjson.JSONDecodeError:
            found = {}
        for name, wanted in self._expected.items():
            if found.get(name) != wanted:
                raise UsageError(
                    f"--data {self.path}: made with {name} {found.get(name)}, and this cloud has "
                    f"{name} {wanted}; give another folder"
                )

    def log(self, kind: str, name: str = "") -> Log:
        """The log of something that has one."""
        return Log(self._place(kind, name))

    def forget(self, kind: str, name: str) -> None:
        """Removes the log of something that is gone."""
        shutil.rmtree(self._place(kind, name), ignore_errors=True)

    def keep_only(self, kind: str, names: Iterable[str]) -> None:
        """Removes the logs of what there is no longer."""
        wanted = {self._place(kind, name) for name in names}
        for place in (self.path / kind).glob("*/"):
            if place not in wanted:
                shutil.rmtree(place, ignore_errors=True)

    def _place(self, kind: str, name: str) -> Path:
        if not name:
            return self.path / kind
        # A stream may be called "..".
        return self.path / kind / quote(name, safe="").replace(".", "%2E")

    def status(self) -> dict[str, Any]:
        """Where it is and what it takes."""
        files = [file for file in self.path.rglob("*") if file.is_file()]
        size = sum(file.stat().st_size for file in files if file.exists())
        return {"folder": str(self.path), "mib": round(size / 1024 / 1024, 1)}

    def close(self) -> None:
        """Lets others have it."""
        os.close(self._file)
