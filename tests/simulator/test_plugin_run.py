from __future__ import annotations

import time

import pytest

from simulator import ledger
from simulator.engine import drive
from simulator.signals import PluginError
from simulator.transports.null import NullTransport

MODEL = """
import numpy as np

def breaks(at):
    if at.at_s.max() > 3.5:
        raise RuntimeError("out of paper")
    return np.zeros(len(at))
"""


@pytest.mark.asyncio
async def test_a_plugin_that_raises_on_the_way_ends_the_run_and_loses_nothing(
    tmp_path, scenario_of, run_of
):
    (tmp_path / "tests_breaking_model.py").write_text(MODEL)
    signal = {"model": "plugin", "use": "tests_breaking_model:breaks", "folder": str(tmp_path)}
    scenario = scenario_of(
        classes=[{"name": "own", "share": 1, "signals": {"t": signal}}],
        rate=[{"shape": "constant", "rate": "1000/s", "duration": "10s"}],
    )
    run = run_of(scenario, start_ms=int(time.time() * 1000))
    scenario.save(tmp_path / "scenario.yaml", run)
    with pytest.raises(PluginError, match=r"raised RuntimeError: out of paper \(tests_breaking"):
        await drive(scenario, run, b"key", tmp_path, NullTransport, progress=lambda _: None)
    (tmp_path / "tests_breaking_model.py").unlink()
    parts = list((tmp_path / "ledger").glob("part-*.parquet"))
    assert parts
    table = ledger.pq.read_table(parts[0])
    assert 1000 < table.num_rows < 3600
    assert set(table.column("outcome").to_pylist()) == {"acked"}
