from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import TypeAdapter

from fleetcast import scenarios
from simulator.codec import Encoder
from simulator.faults import REASONS, AnyFault
from simulator.fleet import Fleet
from simulator.rates import Phase
from simulator.scenario import RunInfo, load
from simulator.signals import AnySignal
from stack.processor.readings import Refusal, check

PAGE = (Path(__file__).parents[2] / "docs" / "scenarios.md").read_text()
EXAMPLES = re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)
PLUGIN = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)[0]
KEY = b"key"


def whole(example: dict[str, Any]) -> dict[str, Any]:
    """An example, with what it leaves out to be a scenario."""
    if "name" in example:
        return example
    signals = {
        "temperature": {"model": "normal", "mean": 4, "sigma": 1},
        "battery": {"model": "battery", "life": "1h"},
    }
    kind = {"name": "cold-chain", "share": 1, "signals": signals}
    kind |= {k: v for k, v in example.items() if k in {"signals", "routes", "payload"}}
    return {
        "name": "example",
        "fleet": {"devices": 60, "classes": [kind]},
        "rate": example.get("rate", [{"shape": "constant", "rate": "60/s", "duration": "8s"}]),
        "faults": example.get("faults", []),
    }


def reason_of(payload: bytes) -> str:
    try:
        check(payload, KEY)
    except Refusal as refused:
        return refused.reason
    return ""


MOST = 200_000


def run(path: Path) -> set[str]:
    """Generates and encodes all readings; why the processor refused any of them.

    A scenario that is long is shortened: its shapes and faults come all the same.
    """
    scenario = load(path)
    whole = scenario.profile
    if whole.total > MOST:
        scenario = scenario.with_overrides(duration=whole.duration_s * MOST / whole.total)
    fleet = Fleet(
        scenario, RunInfo("r", 1_700_000_000_000, "local", "t", "null", (0, scenario.fleet.devices))
    )
    encoder = Encoder(fleet, KEY)
    seen, reasons = 0, set()
    for block in fleet.blocks():
        payloads = encoder.encode(block)
        seen += len(payloads)
        for index, payload in enumerate(payloads):
            expected = REASONS[0 if block.refusal is None else int(block.refusal[index])]
            # Timestream rejects what the processor's checks pass.
            found = reason_of(payload)
            assert found == expected.replace("timestream_rejected", "")
            reasons.add(expected)
    assert seen == fleet.total > 0
    return reasons


@pytest.mark.parametrize("index", range(len(EXAMPLES)))
def test_an_example_loads_and_runs(tmp_path: Path, index: int) -> None:
    (tmp_path / "my_models.py").write_text(PLUGIN)
    (tmp_path / "recorded.csv").write_text("at,value\n0,1\n2,5\n3,2\n")
    (tmp_path / "rates.csv").write_text("at,rate\n0,50\n1,200\n2,50\n")
    (tmp_path / "arrivals.csv").write_text("at\n" + "\n".join(str(n / 20) for n in range(40)))
    path = tmp_path / "example.yaml"
    path.write_text(yaml.safe_dump(whole(yaml.safe_load(EXAMPLES[index]))))
    run(path)


def test_every_model_shape_and_fault_has_an_example_and_a_line_in_its_table() -> None:
    for union, key, name in ((AnySignal, "model", "model"), (Phase, "shape", "shape"),
                             (AnyFault, "kind", "kind")):  # fmt: skip
        known = TypeAdapter(union).json_schema()["discriminator"]["mapping"]
        for one in known:
            assert any(f"{key}: {one}" in example for example in EXAMPLES), (name, one)
            assert f"\n| {one} |" in PAGE, (name, one)


@pytest.mark.parametrize("kind", [AnySignal, Phase, AnyFault])
def test_every_field_is_named_on_the_page(kind: Any) -> None:
    for definition in TypeAdapter(kind).json_schema()["$defs"].values():
        for name in definition.get("properties", {}):
            if name not in {"sha256", "folder"}:
                assert re.search(rf"\b{name}\b", PAGE), (definition["title"], name)


@pytest.mark.parametrize("name", scenarios.bundled())
def test_a_ready_scenario_comes_to_what_is_expected_of_its_payloads(name: str) -> None:
    run(scenarios.find(name))
