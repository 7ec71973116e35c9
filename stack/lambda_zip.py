"""The processor's zip, the same bytes each time: sorted names, fixed times and modes.

It holds the processor and aws-lambda-powertools with the one dependency that the Lambda runtime
does not ship in a version of its choosing, copied from what is installed here. All of it is pure
Python, so one zip runs on every Python and architecture.
"""

from __future__ import annotations

import zipfile
from importlib import metadata
from pathlib import Path

from fleetcast.errors import UsageError

HANDLER = "processor.handler.handle"
RUNTIME = "python3.12"
BUNDLED = ("aws-lambda-powertools", "jmespath", "typing-extensions")
# 1980-01-01, the earliest that the format knows.
_MOMENT = (1980, 1, 1, 0, 0, 0)
_REGULAR_FILE = 0o100644 << 16
_SOURCE = Path(__file__).parent / "processor"


def build_zip(path: Path) -> Path:
    """Writes the zip to `path`.

    Raises:
        UsageError: what it bundles is not installed.
    """
    files = {f"processor/{source.name}": source for source in _SOURCE.glob("*.py")}
    for name in BUNDLED:
        files.update(_distribution(name))
    with zipfile.ZipFile(path, "w") as packed:
        for name in sorted(files):
            entry = zipfile.ZipInfo(name, _MOMENT)
            entry.external_attr = _REGULAR_FILE
            entry.create_system = 3
            # Stored, not deflated: compressors of different Pythons give different bytes.
            entry.compress_type = zipfile.ZIP_STORED
            packed.writestr(entry, files[name].read_bytes())
    return path


def _distribution(name: str) -> dict[str, Path]:
    """Path in the zip to file, of the Python sources of an installed distribution."""
    try:
        listed = metadata.distribution(name).files or []
    except metadata.PackageNotFoundError as error:
        raise UsageError(f"{name} is not installed: pip install 'fleetcast[stack]'") from error
    return {
        item.as_posix(): Path(str(item.locate()))
        for item in listed
        if item.suffix == ".py" and not item.as_posix().startswith("..")
    }
