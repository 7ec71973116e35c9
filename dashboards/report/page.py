"""The page: a template filled with the verdict, and plotly's script and the figures inlined."""

from __future__ import annotations

import base64
import datetime as dt
import hashlib
import json
from collections import Counter
from typing import TYPE_CHECKING, Any

import jinja2
from markupsafe import Markup
from plotly.offline import get_plotlyjs
from plotly.utils import PlotlyJSONEncoder

from dashboards.report.figures import figures
from dashboards.report.series import build
from fleetcast import __version__
from fleetcast.verify import exceptions
from fleetcast.verify.quarantine import read_quarantine
from fleetcast.verify.verdict import read_verdict
from simulator import ledger
from simulator.events import read_events
from simulator.scenario import load_run

if TYPE_CHECKING:
    from pathlib import Path

FILE_NAME = "report.html"
TEMPLATE = "report.html.j2"
SCRIPT = "report.js"


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
    scripts = [Markup(get_plotlyjs()), Markup(_text(SCRIPT))]  # noqa: S704 - the package's own
    page = _environment().get_template(TEMPLATE).render(
        verdict=verdict,
        scenario=scenario,
        run=run,
        started=dt.datetime.fromtimestamp(run.start_ms / 1000, dt.UTC),
        reasons=sorted(Counter(str(e.get("reason")) for e in read_quarantine(run_dir)).items()),
        exceptions=exceptions.read(run_dir),
        figures=_json(figures(series)),
        scripts=scripts,
        hashes=[_hash(script) for script in scripts],
        version=__version__,
    )  # fmt: skip
    path = run_dir / FILE_NAME
    temporary = path.with_suffix(".tmp")
    temporary.write_text(page, encoding="utf-8")
    temporary.replace(path)
    return path


def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("dashboards.report", "."),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["count"] = lambda value: f"{value:,}"
    environment.filters["seconds"] = _seconds
    return environment


def _seconds(value: float | None) -> str:
    return "never" if value is None else f"{value:.1f} s"


def _json(value: Any) -> Markup:
    """JSON that cannot end the script element that it stands in."""
    text = json.dumps(value, cls=PlotlyJSONEncoder, separators=(",", ":"))
    return Markup(text.replace("<", "\\u003c").replace("\u2028", "\\u2028"))  # noqa: S704 - escaped


def _hash(script: str) -> str:
    """What the content security policy lets run: this script, by its hash, and no other."""
    digest = hashlib.sha256(script.encode()).digest()
    return f"'sha256-{base64.b64encode(digest).decode()}'"


def _text(name: str) -> str:
    from importlib.resources import files  # noqa: PLC0415

    return files("dashboards.report").joinpath(name).read_text(encoding="utf-8")
