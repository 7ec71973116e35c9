"""The page: a template filled with the verdict, and plotly's script and the figures inlined."""

from __future__ import annotations

import datetime as dt
from collections import Counter
from typing import TYPE_CHECKING

from dashboards.report.figures import figures
from dashboards.report.rendering import write_page
from dashboards.report.series import build
from fleetcast.verify import exceptions, landing
from fleetcast.verify.quarantine import read_quarantine
from fleetcast.verify.verdict import read_verdict
from simulator import ledger
from simulator.events import read_events
from simulator.scenario import load_run

if TYPE_CHECKING:
    from pathlib import Path

FILE_NAME = "report.html"
TEMPLATE = "report.html.j2"


def write_report(run_dir: Path) -> Path:
    """Writes the report of a verified run into its folder, whole or not at all.

    Returns:
        Where it is.

    Raises:
        UsageError: the run has no verdict yet, or something of it is not readable.
    """
    verdict = read_verdict(run_dir)
    scenario, run = load_run(run_dir)
    events = read_events(run_dir)
    series = build(scenario, run, ledger.read(run_dir), events)
    landings = landing.read(run_dir)
    return write_page(
        run_dir / FILE_NAME,
        TEMPLATE,
        figures(series, landings),
        verdict=verdict,
        scenario=scenario,
        run=run,
        started=dt.datetime.fromtimestamp(run.start_ms / 1000, dt.UTC),
        reasons=sorted(Counter(str(e.get("reason")) for e in read_quarantine(run_dir)).items()),
        exceptions=exceptions.read(run_dir),
        landed_over_time=bool(landings),
    )
