"""What pages have in common: templates, inlined scripts, and JSON that stays within its element."""

from __future__ import annotations

import base64
import hashlib
import json
from importlib.resources import files
from typing import TYPE_CHECKING, Any

import jinja2
from markupsafe import Markup
from plotly.offline import get_plotlyjs
from plotly.utils import PlotlyJSONEncoder

from fleetcast import __version__

if TYPE_CHECKING:
    from pathlib import Path

SCRIPT = "report.js"


def write_page(path: Path, template: str, figures: dict[str, Any], **values: Any) -> Path:
    """Writes a page, whole or not at all.

    Args:
        path: Where.
        template: Its template's name.
        figures: Plotly's figures by the id of the element that each is drawn in.
        **values: What the template shows.

    Raises:
        OSError: it cannot be written there.
    """
    scripts = [Markup(get_plotlyjs()), Markup(_text(SCRIPT))]  # noqa: S704 - the package's own
    page = _environment().get_template(template).render(
        figures=_json(figures),
        scripts=scripts,
        hashes=[_hash(script) for script in scripts],
        version=__version__,
        **values,
    )  # fmt: skip
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
    environment.filters["ms"] = _ms
    return environment


def _seconds(value: float | None) -> str:
    return "never" if value is None else f"{value:.1f} s"


def _ms(value: float | None) -> str:
    return "" if value is None else f"{value:,.0f} ms"


def _json(value: Any) -> Markup:
    """JSON that cannot end the script element that it stands in."""
    text = json.dumps(value, cls=PlotlyJSONEncoder, separators=(",", ":"))
    return Markup(text.replace("<", "\\u003c").replace("\u2028", "\\u2028"))  # noqa: S704 - escaped


def _hash(script: str) -> str:
    """What the content security policy lets run: this script, by its hash, and no other."""
    digest = hashlib.sha256(script.encode()).digest()
    return f"'sha256-{base64.b64encode(digest).decode()}'"


def _text(name: str) -> str:
    return files("dashboards.report").joinpath(name).read_text(encoding="utf-8")
