from __future__ import annotations

import re
import shutil
import subprocess
from dataclasses import replace
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree as ET

import pytest
from markupsafe import escape

from dashboards.report import summaries, write_report
from dashboards.report.series import HEAT_MS, Span, build
from fleetcast.errors import UsageError
from fleetcast.verify import exceptions
from fleetcast.verify.exceptions import Amiss
from fleetcast.verify.verdict import (
    AlarmOutcome,
    Check,
    Landed,
    Rate,
    Refused,
    Verdict,
    read_verdict,
)
from simulator import ledger
from simulator.batch import ACKED, batch_of
from simulator.events import EventLog, read_events
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


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    SCENARIO.save(tmp_path / "scenario.yaml", INFO)
    fleet = Fleet(SCENARIO, INFO)
    with LedgerWriter(tmp_path, fleet) as writer:
        writer.release(100)
        for block in fleet.blocks():
            batch = batch_of(fleet, block, [b""] * len(block))
            rows = batch.rows
            rows["scheduled_ns"] = T0 * 1_000_000 + rows["k"] * 100_000_000
            rows["sent_ns"] = rows["scheduled_ns"] + 5_000_000
            rows["acked_ns"] = rows["scheduled_ns"] + 12_000_000
            rows["outcome"], rows["attempts"] = ACKED, 1
            batch.shards = [f"shardId-{k % 4:012d}" for k in rows["k"]]
            batch.sequence_numbers = [str(k) for k in rows["k"]]
            writer.record(batch)
    log = EventLog(tmp_path)
    alarm = {"alarm": "critical-readings", "message_id": "1"}
    log.add("alarm", t_ms=T0 + 4000, state="ALARM", **alarm)
    log.add("alarm", t_ms=T0 + 9000, state="OK", **{**alarm, "message_id": "2"})
    log.add("alarm", t_ms=T0 + 9500, state="ALARM", alarm="iterator-age", message_id="3")
    (tmp_path / "quarantine.jsonl").write_text(
        '{"message_id": "a", "reason": "not_json"}\n{"message_id": "b", "reason": "not_json"}\n'
    )
    lag = {"p50": 5.0, "p99": 5.0, "max": 5.0}
    Verdict(
        run_id=INFO.id, verdict="fail", target="local", environment="t", scenario="shown",
        devices=10, complete=True, sent=100, acked=100, failed=0, unknown=0,
        landed={"timeseries": Landed(unique=99, lost=1), "archive": Landed(unique=100)},
        refused=Refused(expected=2, quarantined=2),
        landing_latency_ms={"p50": 1.0, "p95": 2.0, "p99": 3.0, "max": 4.0},
        rate=Rate(10.0, 10.0, 0.0, lag),
        alarms=[AlarmOutcome("critical-readings", expected=True, fired_after_s=2.0,
                             recovered_after_s=4.0, ok=True)],
        checks=[Check("timeseries.lost", ok=False, detail="1 lost")], notes=["a note"],
    ).save(tmp_path)  # fmt: skip
    exceptions.save(
        tmp_path,
        [
            Amiss("timeseries", "lost", "dev-000003", 4, "", T0, {"t": 1.0}, "acked", "hot",
                  "shardId-000000000002", "43"),
            Amiss("archive", "phantom", "", -1, HOSTILE),
        ],
    )  # fmt: skip
    return tmp_path


def test_series_hold_every_reading_in_the_second_it_belongs_to(folder: Path) -> None:
    series = build(SCENARIO, INFO, ledger.read(folder), read_events(folder))
    assert series.width_s == 1.0
    assert series.due.tolist() == series.sent.tolist() == series.acked.tolist() == [10.0] * 10
    assert series.lag_ms.round(3).tolist() == [5.0] * 10
    assert series.answer_ms.round(3).tolist() == [7.0] * 10
    assert series.shards == {f"shardId-{n:012d}": 25 for n in range(4)}
    # Each took 12 ms from due to acknowledged, which is in the class up to 20 ms.
    assert series.heat[HEAT_MS.tolist().index(20)].tolist() == [10.0] * 10
    assert series.heat.sum() == 100
    assert series.shard_load.shape == (4, 10)
    assert series.shard_load.sum(axis=0).tolist() == [10.0] * 10
    assert series.shard_load.sum(axis=1).tolist() == [25.0] * 4
    assert series.spans == [
        Span("hot", "fault: overheat", 2.0, 5.0),
        Span("critical-readings", "alarm", 4.0, 9.0),
        Span("iterator-age", "alarm", 9.5, None),
    ]


def test_a_long_run_is_drawn_in_wider_bins(folder: Path) -> None:
    longer = SCENARIO.with_overrides(duration="2h")
    series = build(longer, INFO, ledger.read(folder), [])
    assert series.width_s == 12.0
    assert len(series.at_s) == 600
    assert series.sent[0] == pytest.approx(100 / 12)


def test_the_page_says_what_the_verdict_says_and_refers_to_nothing_outside(folder: Path) -> None:
    page = write_report(folder).read_text()
    for text in (
        "fail",
        "timeseries.lost",
        "dev-000003",
        "shardId-000000000002",
        "&lt;script&gt;",
        "1 lost",
        "r-shown",
        "a note",
        "not_json",
    ):
        assert text in page
    without_scripts = re.sub(r"<script.*?</script>", "", page, flags=re.DOTALL)
    assert "://" not in without_scripts
    assert not re.search(r"""(src|href)\s*=""", without_scripts.replace(escaped(HOSTILE), ""))


def escaped(text: str) -> str:
    return str(escape(text))


def test_a_run_without_a_verdict_has_no_report(folder: Path) -> None:
    (folder / "verdict.json").unlink()
    with pytest.raises(UsageError, match="has no verdict"):
        write_report(folder)


def chromium() -> str:
    found = shutil.which("chromium") or shutil.which("chromium-browser") or ""
    if not found:
        pytest.skip("no chromium on the path: the page cannot be opened in a browser")
    return found


def opened(path: Path, *more: str) -> str:
    """The page's DOM after a real browser, without a network, has run its scripts."""
    done = subprocess.run(
        [chromium(), "--headless", "--no-sandbox", "--disable-gpu", "--window-size=1200,2000",
         "--host-resolver-rules=MAP * ~NOTFOUND", "--virtual-time-budget=10000", "--dump-dom",
         *more, path.as_uri()],
        capture_output=True, text=True, check=True, timeout=120,
    )  # fmt: skip
    return done.stdout


def test_a_browser_draws_every_figure_and_runs_nothing_that_was_smuggled_in(folder: Path) -> None:
    dom = opened(write_report(folder))
    assert 'data-drawn="true"' in dom
    for figure in ("rate", "timeline", "latency", "heat", "shards", "shardload"):
        body: Any = re.search(rf'<div id="{figure}"[^>]*>(.*?)</section>', dom, re.DOTALL)
        assert body is not None
        assert 'class="main-svg"' in body.group(1)
    assert "<title>r-shown: fail</title>" in dom
    assert "owned</title>" not in dom


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_browser_has_nothing_to_complain_of_in_light_or_dark(folder: Path, scheme: str) -> None:
    """The page says what it drew with; the console must hold no error, the policy's among them."""
    path = write_report(folder)
    dark = ["--blink-settings=preferredColorScheme=0"] if scheme == "dark" else []
    done = subprocess.run(
        [chromium(), "--headless", "--no-sandbox", "--disable-gpu", "--window-size=1200,2000",
         "--host-resolver-rules=MAP * ~NOTFOUND", "--virtual-time-budget=10000", "--dump-dom",
         "--enable-logging=stderr", "--v=0", *dark, path.as_uri()],
        capture_output=True, text=True, check=True, timeout=120,
    )  # fmt: skip
    assert re.findall(r".*CONSOLE.*", done.stderr) == []
    assert f'data-theme="{scheme}"' in done.stdout
    text = {"light": "rgb(31, 41, 55)", "dark": "rgb(229, 233, 239)"}[scheme]
    assert text in done.stdout


def test_junit_tells_each_check_and_survives_what_devices_send(folder: Path) -> None:
    verdict = replace(
        read_verdict(folder),
        checks=[Check("good", ok=True, detail="fine"), Check("bad\x00", ok=False, detail=HOSTILE)],
    )
    suite = ET.fromstring(summaries.junit(verdict))  # noqa: S314 - our own
    assert suite.attrib | {"tests": "2", "failures": "1"} == suite.attrib
    good, bad = suite.findall("testcase")
    assert good.find("failure") is None
    failure = bad.find("failure")
    assert failure is not None
    assert failure.get("message") == HOSTILE
    assert bad.get("name") == "bad\ufffd"


def test_markdown_says_what_failed_first_and_no_text_of_a_device_is_markup(folder: Path) -> None:
    page = summaries.markdown(read_verdict(folder), exceptions.read(folder))
    assert page.startswith("## fleetcast: fail\n")
    assert "- **timeseries.lost**: 1 lost" in page
    assert "| timeseries | 99 | 1 | 0 | 0 | 0 | 0 |" in page
    assert "| critical-readings | 2.0 s | 4.0 s | yes | yes |" in page
    assert "| timeseries | lost | dev-000003 | 4 | shardId-000000000002 |  |" in page
    assert "<" not in page
