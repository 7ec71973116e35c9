"""A run to draw pages of, and a real browser to open them in."""

from __future__ import annotations

import re
import shutil
import subprocess
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from fleetcast.verify import exceptions, landing
from fleetcast.verify.exceptions import Amiss
from fleetcast.verify.verdict import (
    AlarmOutcome,
    Check,
    Clock,
    Landed,
    Order,
    Rate,
    Refused,
    SlowDevice,
    Verdict,
)
from simulator.batch import ACKED, batch_of
from simulator.columns import of_maybe, of_words
from simulator.events import EventLog
from simulator.fleet import Fleet
from simulator.ledger import LedgerWriter
from simulator.scenario import RunInfo, Scenario

if TYPE_CHECKING:
    from pathlib import Path

T0 = 1_700_000_000_000
HOSTILE = '</script><script>document.title="owned"</script><img src=x onerror=alert(1)>'
SCENARIO = Scenario.model_validate(
    {
        "name": "shown",
        "description": HOSTILE,
        "fleet": {
            "devices": 10,
            "classes": [
                {"name": "a", "share": 1, "signals": {"t": {"model": "constant", "value": 1}}}
            ],
        },
        "rate": [{"shape": "constant", "rate": "10/s", "duration": "10s"}],
        "faults": [
            {"name": "hot", "kind": "overheat", "signal": "t", "offset": 1, "share": 1,
             "start": "2s", "duration": "3s", "alarm": "critical-readings"}
        ],
    }
)  # fmt: skip
INFO = RunInfo("r-shown", T0, "local", "t", "kinesis", (0, 10))
LAG = {"p50": 5.0, "p99": 5.0, "max": 5.0}
LATENCY = {"p50": 1.0, "p95": 2.0, "p99": 3.0, "max": 4.0}
VERDICT = Verdict(
    run_id=INFO.id, verdict="fail", target="local", environment="t", scenario="shown",
    devices=10, complete=True, sent=100, acked=100, failed=0, unknown=0,
    landed={"timeseries": Landed(unique=99, lost=1), "archive": Landed(unique=100)},
    refused=Refused(expected=2, quarantined=2),
    landing_latency_ms=LATENCY,
    rate=Rate(10.0, 10.0, 0.0, LAG),
    alarms=[AlarmOutcome("critical-readings", expected=True, fired_after_s=2.0,
                         recovered_after_s=4.0, ok=True)],
    checks=[Check("timeseries.lost", ok=False, detail="1 lost")], notes=["a note"],
    timed=100,
    latency_ms={"timeseries": {"from_event": LATENCY, "from_ack": LATENCY},
                "archive": {"from_ack": dict.fromkeys(LATENCY, 1234.0)}},
    slowest=[SlowDevice("dev-000007", 10, "shardId-000000000003", 7.0, 4321.0, 5000.0, None)],
    order={"stream": Order(100, 17, 3)},
    clocks=[Clock(0, 10, 100, 2990.0, 3010.0, 3000.0)],
)  # fmt: skip


def write_run(
    folder: Path,
    *,
    info: RunInfo = INFO,
    slower_ms: int = 0,
    scenario: Scenario = SCENARIO,
    **changes: Any,
) -> Path:
    """A run of a hundred readings that was verified.

    Args:
        folder: Its folder, which is there.
        info: Which run.
        slower_ms: How much longer than 7 ms acknowledgements took, and landing than 100 ms.
        scenario: What was driven.
        **changes: Of the verdict.
    """
    scenario.save(folder / "scenario.yaml", info)
    fleet = Fleet(scenario, info)
    with LedgerWriter(folder, fleet) as writer:
        writer.release(100)
        for block in fleet.blocks():
            batch = batch_of(fleet, block, [b""] * len(block))
            rows = batch.rows
            rows["scheduled_ns"] = T0 * 1_000_000 + rows["k"] * 100_000_000
            rows["sent_ns"] = rows["scheduled_ns"] + 5_000_000
            rows["acked_ns"] = rows["scheduled_ns"] + 12_000_000 + slower_ms * 1_000_000
            rows["outcome"], rows["attempts"] = ACKED, 1
            batch.shards = of_words([f"shardId-{k % 4:012d}" for k in rows["k"]])
            batch.sequence_numbers = of_maybe([str(k) for k in rows["k"]])
            writer.record(batch)
    log = EventLog(folder)
    alarm = {"alarm": "critical-readings", "message_id": "1"}
    log.add("alarm", t_ms=T0 + 4000, state="ALARM", **alarm)
    log.add("alarm", t_ms=T0 + 9000, state="OK", **{**alarm, "message_id": "2"})
    log.add("alarm", t_ms=T0 + 9500, state="ALARM", alarm="iterator-age", message_id="3")
    (folder / "quarantine.jsonl").write_text(
        '{"message_id": "a", "reason": "not_json"}\n{"message_id": "b", "reason": "not_json"}\n'
    )
    replace(VERDICT, run_id=info.id, **changes).save(folder)
    took = np.full(100, 100.0 + slower_ms, dtype=np.float32)
    kept = {"k": np.arange(100), "at_s": np.arange(100) / 10, **dict.fromkeys(landing.KEPT, took)}
    pq.write_table(pa.table(kept), folder / landing.FILE_NAME)
    exceptions.save(
        folder,
        [
            Amiss("timeseries", "lost", "dev-000003", 4, "", T0, {"t": 1.0}, "acked", "hot",
                  "shardId-000000000002", "43"),
            Amiss("archive", "phantom", "", -1, HOSTILE),
        ],
    )  # fmt: skip
    return folder


def opened(path: Path, *, scheme: str = "light") -> tuple[str, list[str]]:
    """The page's DOM after a real browser, without a network, has run its scripts; its console."""
    found = shutil.which("chromium") or shutil.which("chromium-browser") or ""
    if not found:
        pytest.skip("no chromium on the path: the page cannot be opened in a browser")
    dark = ["--blink-settings=preferredColorScheme=0"] if scheme == "dark" else []
    done = subprocess.run(
        [found, "--headless", "--no-sandbox", "--disable-gpu", "--window-size=1200,2000",
         "--host-resolver-rules=MAP * ~NOTFOUND", "--virtual-time-budget=10000", "--dump-dom",
         "--enable-logging=stderr", "--v=0", *dark, path.as_uri()],
        capture_output=True, text=True, check=True, timeout=120,
    )  # fmt: skip
    return done.stdout, re.findall(r".*CONSOLE.*", done.stderr)


def drawn(dom: str, figure: str) -> bool:
    """Whether a figure was drawn in its element."""
    body = re.search(rf'<div id="{figure}"[^>]*>(.*?)</section>', dom, re.DOTALL)
    return body is not None and 'class="main-svg"' in body.group(1)
