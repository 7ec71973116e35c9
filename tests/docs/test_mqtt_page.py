"""docs/mqtt.md agrees with the code."""

from __future__ import annotations

import re
from pathlib import Path

from localcloud.iot.actions import SERVED
from localcloud.iot.sql.functions import FUNCTIONS

PAGE = (Path(__file__).parents[2] / "docs" / "mqtt.md").read_text(encoding="utf-8")


def test_the_functions_and_actions_are_those_of_the_code():
    listed = re.search(r"and the functions (.*?)\. Numbers", PAGE, re.DOTALL)
    assert listed is not None
    names = re.findall(r"\w+", listed.group(1))
    assert sorted(names) == sorted([*FUNCTIONS, "cast", "and"])
    actions = re.search(r"Actions are (.*?), with", PAGE)
    assert actions is not None
    assert re.findall(r"\w+", actions.group(1)) == [*SERVED[:-1], "and", SERVED[-1]]
