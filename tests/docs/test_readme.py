from __future__ import annotations

import re
from pathlib import Path

import pytest

from simulator.scenario import load

ROOT = Path(__file__).parents[2]
PAGES = ["README.md", "ARCHITECTURE.md", "CHANGELOG.md", *sorted(
    str(path.relative_to(ROOT)) for path in (ROOT / "docs").glob("*.md"))]  # fmt: skip


def test_the_scenario_in_the_readme_can_be_used(tmp_path: Path) -> None:
    blocks = re.findall(r"```yaml\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    assert len(blocks) == 1
    path = tmp_path / "readme.yaml"
    path.write_text(blocks[0])
    scenario = load(path)
    assert scenario.fleet.devices == 200
    assert scenario.expect.alarms[0].name == "critical-readings"


@pytest.mark.parametrize("page", PAGES)
def test_links_and_files_that_a_page_names_are_there(page: str) -> None:
    text = (ROOT / page).read_text()
    for link in re.findall(r"\]\(([^)#]+)\)", text):
        if "://" not in link:
            assert ((ROOT / page).parent / link).exists(), link
    for name in re.findall(r"`((?:[a-z_]+/)+[a-z_]*(?:\.py|\.yaml|/)?)`", text):
        places = [
            ROOT,
            *ROOT.glob("[a-z]*/"),
            *ROOT.glob("[a-z]*/[a-z]*/"),
            *ROOT.glob("[a-z]*/[a-z]*/[a-z]*/"),
        ]
        if not name.startswith("runs/"):
            assert any((place / name).exists() for place in places), name
