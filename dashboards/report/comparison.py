"""Two runs on one page: what changed, and both latencies over time in one chart."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import plotly.graph_objects as go

from dashboards.report.figures import BLUE, ORANGE, finished, points
from dashboards.report.rendering import write_page
from dashboards.report.series import Floats, bins_of, over_time
from fleetcast.errors import UsageError
from fleetcast.verify import landing

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from fleetcast.verify.compare import Compared, Comparison

TEMPLATE = "comparison.html.j2"
MARKS = {"worse": "fail", "better": "pass", "other": ""}
_LINES = ((0.5, "p50", "dot"), (0.99, "p99", "solid"))


def write_comparison(
    path: Path, comparison: Comparison, runs: Sequence[Compared], folders: Sequence[Path]
) -> Path:
    """Writes the page of two runs.

    Args:
        path: Where.
        comparison: What changed.
        runs: The first and the second.
        folders: Theirs.

    Returns:
        Where it is.

    Raises:
        UsageError: it cannot be written, or what a run keeps of its landing is not readable.
    """
    drawn = _figures(runs, [landing.read(folder) for folder in folders])
    try:
        return write_page(
            path, TEMPLATE, drawn, found=comparison, runs=runs, drawn=set(drawn), marks=MARKS
        )
    except OSError as error:
        raise UsageError(f"--html {path}: {error.strerror}") from error


def _figures(
    runs: Sequence[Compared], landings: Sequence[dict[str, Floats]]
) -> dict[str, dict[str, Any]]:
    acked = [(one.sending.due_s, one.sending.acked_ms) for one in runs]
    drawn = {"acked": _chart(runs, acked)}
    for figure, column in (("landing", "row_from_event"), ("archive", "object_from_ack")):
        told = [(kept["at_s"], kept[column]) if kept else None for kept in landings]
        if any(one is not None and np.isfinite(one[1]).any() for one in told):
            drawn[figure] = _chart(runs, told)
    return drawn


def _chart(
    runs: Sequence[Compared], told: Sequence[tuple[Floats, Floats] | None]
) -> dict[str, Any]:
    """The curves of both runs.

    Args:
        runs: The first and the second.
        told: Of each, when readings were due (seconds) and how long they took (milliseconds).
    """
    figure = go.Figure()
    for one, times, colour, place in zip(runs, told, (BLUE, ORANGE), ("A", "B"), strict=True):
        if times is None:
            continue
        at_s, values = times
        width_s, bins = bins_of(max(one.scenario.profile.duration_s, at_s.max(initial=0.0)))
        for share, percentile, dash in _LINES:
            figure.add_scatter(
                x=(np.arange(bins) * width_s).tolist(),
                y=points(over_time(values, at_s, width_s, bins, share)),
                name=f"{place} {one.run.id}, {percentile}",
                mode="lines",
                line={"color": colour, "dash": dash},
            )
    return finished(figure, "milliseconds", 320)
