from __future__ import annotations

import subprocess
import sys
import zipfile
from typing import TYPE_CHECKING

from stack.lambda_zip import HANDLER, build_zip

if TYPE_CHECKING:
    from pathlib import Path


def test_the_zip_is_the_same_bytes_each_time(tmp_path: Path) -> None:
    first, second = build_zip(tmp_path / "a.zip"), tmp_path / "b.zip"
    code = f"from pathlib import Path; from stack.lambda_zip import build_zip; build_zip(Path({str(second)!r}))"
    subprocess.run([sys.executable, "-c", code], check=True, env={"PYTHONHASHSEED": "7", "TZ": "Asia/Tokyo", "PYTHONPATH": ":".join(sys.path)})  # fmt: skip
    assert first.read_bytes() == second.read_bytes()


def test_the_zip_holds_sources_only_under_fixed_times(tmp_path: Path) -> None:
    with zipfile.ZipFile(build_zip(tmp_path / "a.zip")) as packed:
        entries = packed.infolist()
    names = [entry.filename for entry in entries]
    assert names == sorted(names)
    assert "processor/handler.py" in names
    assert {name for name in names if not name.endswith(".py")} == set()
    assert {entry.date_time for entry in entries} == {(1980, 1, 1, 0, 0, 0)}


def test_the_handler_is_imported_from_the_zip_alone(tmp_path: Path) -> None:
    packed = build_zip(tmp_path / "a.zip")
    module, name = HANDLER.rsplit(".", 1)
    code = (
        f"import sys; sys.path.insert(0, {str(packed)!r}); import {module} as handler; "
        f"import aws_lambda_powertools; print(handler.__file__, callable(handler.{name}), "
        "aws_lambda_powertools.__file__)"
    )
    told = subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True, cwd=tmp_path
    ).stdout.split()
    assert told == [
        f"{packed}/processor/handler.py", "True", f"{packed}/aws_lambda_powertools/__init__.py"
    ]  # fmt: skip
