from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING
from xml.etree import ElementTree as ET

import pytest
from markupsafe import escape

from dashboards.report import summaries, write_report
from dashboards.report.series import HEAT_MS, Span, build
from fleetcast.errors import UsageError
from fleetcast.verify import exceptions
from fleetcast.verify.verdict import Check, read_verdict
from simulator import ledger
from simulator.events import read_events
from tests.report.shared import HOSTILE, INFO, SCENARIO, drawn, opened, write_run

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_run(tmp_path)


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
        "1,234 ms",
        "dev-000007",
        "4,321 ms",
        "+2,990 to +3,010 ms ahead of the simulator",
    ):
        assert text in page
    without_scripts = re.sub(r"<script.*?</script>", "", page, flags=re.DOTALL)
    assert "://" not in without_scripts
    assert not re.search(r"""(src|href)\s*=""", without_scripts.replace(escaped(HOSTILE), ""))


def escaped(text: str) -> str:
    return str(escape(text))


def test_a_run_of_before_there_were_landings_has_its_report(folder: Path) -> None:
    (folder / "landings.parquet").unlink()
    bare = replace(read_verdict(folder), latency_ms={}, slowest=[], order={}, clocks=[])
    bare.save(folder)
    page = write_report(folder).read_text()
    for element in ("landing", "slowest", "times"):
        assert f'id="{element}"' not in page


def test_a_run_without_a_verdict_has_no_report(folder: Path) -> None:
    (folder / "verdict.json").unlink()
    with pytest.raises(UsageError, match="has no verdict"):
        write_report(folder)


def test_a_browser_draws_every_figure_and_runs_nothing_that_was_smuggled_in(folder: Path) -> None:
    dom, _ = opened(write_report(folder))
    assert 'data-drawn="true"' in dom
    for figure in ("rate", "timeline", "latency", "landing", "heat", "shards", "shardload"):
        assert drawn(dom, figure)
    assert "<title>r-shown: fail</title>" in dom
    assert "owned</title>" not in dom


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_browser_has_nothing_to_complain_of_in_light_or_dark(folder: Path, scheme: str) -> None:
    """The page says what it drew with; the console must hold no error, the policy's among them."""
    dom, console = opened(write_report(folder), scheme=scheme)
    assert console == []
    assert f'data-theme="{scheme}"' in dom
    text = {"light": "rgb(31, 41, 55)", "dark": "rgb(229, 233, 239)"}[scheme]
    assert text in dom


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
    assert "| archive, from ack | 1,234 ms | 1,234 ms | 1,234 ms | 1,234 ms |" in page
    assert "| critical-readings | 2.0 s | 4.0 s | yes | yes |" in page
    assert "| timeseries | lost | dev-000003 | 4 | shardId-000000000002 |  |" in page
    assert "<" not in page
