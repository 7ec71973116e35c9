"""The report's figures, as plotly's JSON. Colours that depend on the page's theme are left to it."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import plotly.graph_objects as go

from dashboards.report.series import HEAT_MS, over_time

if TYPE_CHECKING:
    from collections.abc import Mapping

    from dashboards.report.series import Floats, Series, Span

BLUE, ORANGE, GREEN, RED, VIOLET = "#3b82f6", "#f59e0b", "#10b981", "#ef4444", "#8b5cf6"
_MARGIN = {"l": 60, "r": 20, "t": 34, "b": 45}


def figures(series: Series, landings: Mapping[str, Floats]) -> dict[str, dict[str, Any]]:
    """Figures by the id of the element that they are drawn in.

    Args:
        series: Of the run.
        landings: What verification kept of its landing; without it, that is not drawn.
    """
    landed = {"landing": _landing(series, landings)} if landings else {}
    return landed | {
        "rate": _rate(series),
        "timeline": _timeline(series),
        "latency": _latency(series),
        "shards": _shards(series),
        "heat": _heat(series),
        "shardload": _shard_load(series),
    }


def _rate(series: Series) -> dict[str, Any]:
    figure = go.Figure()
    for name, values, colour, dash in (
        ("due", series.due, "#94a3b8", "dot"),
        ("sent", series.sent, BLUE, "solid"),
        ("acknowledged", series.acked, GREEN, "solid"),
    ):
        figure.add_scatter(
            x=series.at_s.tolist(), y=values.tolist(), name=name,
            mode="lines", line={"color": colour, "dash": dash, "shape": "hv"},
        )  # fmt: skip
    for span in series.spans:
        if span.kind.startswith("fault"):
            figure.add_vrect(
                x0=span.start_s, x1=span.end_s, fillcolor=RED, opacity=0.08, line_width=0
            )
    return finished(figure, "readings per second", 260)


def _latency(series: Series) -> dict[str, Any]:
    figure = go.Figure()
    for name, values, colour in (
        ("due to sent, p99", series.lag_ms, ORANGE),
        ("sent to acknowledged, p99", series.answer_ms, VIOLET),
    ):
        figure.add_scatter(
            x=series.at_s.tolist(),
            y=points(values),
            name=name, mode="lines", line={"color": colour},
        )  # fmt: skip
    return finished(figure, "milliseconds", 240)


def _landing(series: Series, landings: Mapping[str, Floats]) -> dict[str, Any]:
    figure = go.Figure()
    bins = len(series.at_s)
    for name, column, share, colour, dash in (
        ("timestamp to row, p50", "row_from_event", 0.5, BLUE, "dot"),
        ("timestamp to row, p99", "row_from_event", 0.99, BLUE, "solid"),
        ("acknowledged to row, p99", "row_from_ack", 0.99, GREEN, "solid"),
        ("acknowledged to object, p99", "object_from_ack", 0.99, VIOLET, "solid"),
    ):
        values = over_time(landings[column], landings["at_s"], series.width_s, bins, share)
        figure.add_scatter(
            x=series.at_s.tolist(), y=points(values), name=name,
            mode="lines", line={"color": colour, "dash": dash},
        )  # fmt: skip
    return finished(figure, "milliseconds", 260)


def _timeline(series: Series) -> dict[str, Any]:
    figure = go.Figure()
    end_s = max([float(series.at_s[-1]) + series.width_s, *(_end(s, 0.0) for s in series.spans)])
    for kind, colour in (("fault", RED), ("alarm", ORANGE)):
        spans = [span for span in series.spans if span.kind.startswith(kind)]
        figure.add_bar(
            orientation="h",
            name=f"{kind}s",
            y=[f"{kind} {span.name}" for span in spans],
            base=[span.start_s for span in spans],
            x=[_end(span, end_s) - span.start_s for span in spans],
            marker={"color": colour},
            hovertext=[_told(span) for span in spans],
            hoverinfo="text",
        )
    rows = len({(span.kind, span.name) for span in series.spans})
    told = finished(figure, "", 90 + 34 * rows)
    told["layout"]["yaxis"] |= {"autorange": "reversed", "automargin": True}
    told["layout"] |= {"barmode": "overlay", "hovermode": "closest"}
    return told


def _shards(series: Series) -> dict[str, Any]:
    figure = go.Figure()
    total = max(1, sum(series.shards.values()))
    figure.add_bar(
        x=[_short(shard) for shard in series.shards],
        y=[round(count / total * 100, 2) for count in series.shards.values()],
        marker={"color": BLUE},
        hovertext=[f"{shard}: {count:,} readings" for shard, count in series.shards.items()],
        hoverinfo="text",
    )
    told = finished(figure, "per cent of readings", 220)
    told["layout"]["xaxis"] |= {"title": {"text": "shard"}, "type": "category"}
    told["layout"]["hovermode"] = "closest"
    return told


def _heat(series: Series) -> dict[str, Any]:
    labels = [f"to {ms:,} ms" if ms < 1000 else f"to {ms / 1000:g} s" for ms in HEAT_MS.tolist()]  # noqa: PLR2004 - a second
    labels[-1] = f"more than {HEAT_MS[-2] / 1000:g} s"
    used = np.flatnonzero(series.heat.any(axis=1))
    last = int(used[-1]) + 1 if len(used) else 1
    return _map(series, series.heat[:last], labels[:last], "readings", 90 + 22 * last)


def _shard_load(series: Series) -> dict[str, Any]:
    labels = [f"shard {_short(shard)}" for shard in series.shards]
    height = 90 + max(10, min(24, 480 // max(1, len(labels)))) * len(labels)
    return _map(series, series.shard_load, labels, "readings per second", height)


def _map(series: Series, values: Any, labels: list[str], what: str, height: int) -> dict[str, Any]:
    """A heat map over time; bins without anything stay empty."""
    figure = go.Figure()
    figure.add_heatmap(
        x=series.at_s.tolist(),
        y=labels,
        z=[[value or None for value in row] for row in values.tolist()],
        colorscale=[[0, "#bfdbfe"], [1, "#1e3a8a"]],
        hovertemplate="%{x:.0f} s, %{y}: %{z:,.0f} " + what + "<extra></extra>",
        showscale=False,
        hoverongaps=False,
    )
    told = finished(figure, "", height)
    told["layout"]["yaxis"] |= {"type": "category", "automargin": True}
    told["layout"]["hovermode"] = "closest"
    return told


def _short(shard: str) -> str:
    return shard.removeprefix("shardId-").lstrip("0") or "0"


def _end(span: Span, otherwise_s: float) -> float:
    return otherwise_s if span.end_s is None else span.end_s


def _told(span: Span) -> str:
    end = "did not end" if span.end_s is None else f"to {span.end_s:.1f} s"
    return f"{span.name} ({span.kind}): from {span.start_s:.1f} s {end}"


def points(values: Floats) -> list[float | None]:
    """Values of a line, rounded; None is a gap."""
    return [round(value, 3) if math.isfinite(value) else None for value in values.tolist()]


def finished(figure: go.Figure, title: str, height: int) -> dict[str, Any]:
    """A figure as JSON, without what the page's theme decides."""
    figure.update_layout(
        template="none",
        height=height,
        margin=_MARGIN,
        hovermode="x unified",
        paper_bgcolor="rgba(0,0,0,0)",
        plot_bgcolor="rgba(0,0,0,0)",
        legend={"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0},
        xaxis={
            "title": {"text": "seconds from the start"},
            "rangemode": "tozero",
            "zeroline": False,
        },
        yaxis={"title": {"text": title}, "rangemode": "tozero", "zeroline": False},
    )
    told: dict[str, Any] = figure.to_plotly_json()
    told["layout"].pop("template", None)
    return told
