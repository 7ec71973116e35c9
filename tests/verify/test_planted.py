"""Single defects in a landed data set: each is found, and nothing else is."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from benchmarks import reconcile

if TYPE_CHECKING:
    from pathlib import Path


def test_each_planted_defect_is_found_and_nothing_else(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    reconcile.prepare(tmp_path, 20_000)
    wrong = asyncio.run(reconcile.plant(tmp_path))
    told = capsys.readouterr().out
    assert wrong == 0, told
    assert told.count("it, and nothing else") == 13


def test_a_comparison_that_goes_wrong_is_told_by_the_benchmark(tmp_path: Path) -> None:
    """The measurement itself checks what it measures: an object that is missing stops it."""
    reconcile.prepare(tmp_path, 20_000)
    next((tmp_path / "archive").iterdir()).unlink()
    with pytest.raises(SystemExit, match="everything landed, and was found to be"):
        reconcile.measure(tmp_path)
