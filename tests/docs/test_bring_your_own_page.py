"""docs/bring-your-own.md agrees with the code and with its example."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from fleetcast.pipeline import fitted, load
from fleetcast.pipeline.model import Archive, Columns, Fields, Pipeline, Quarantine, TimeSeries
from simulator.faults import REASONS
from simulator.scenario import load as load_scenario

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "bring-your-own.md").read_text(encoding="utf-8")
EXAMPLE = ROOT / "docs" / "examples" / "own-pipeline"


def test_the_file_that_is_shown_is_the_examples() -> None:
    assert re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL) == [
        (EXAMPLE / "pipeline.yaml").read_text()
    ]
    fitted(load_scenario(EXAMPLE / "scenario.yaml"), load(EXAMPLE / "pipeline.yaml"))


@pytest.mark.parametrize(
    "model", [Pipeline, TimeSeries, Columns, Archive, Fields, Quarantine], ids=lambda m: m.__name__
)
def test_every_field_is_named(model: type[Pipeline]) -> None:
    names = [field.alias or name for name, field in model.model_fields.items()]
    assert [name for name in names if not re.search(rf"\b{name}\b", PAGE)] == []


def test_every_reason_is_named() -> None:
    assert [reason for reason in REASONS if reason not in PAGE] == []
