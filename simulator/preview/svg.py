"""A preview as a picture: SVG by itself, or in a page of HTML. Nothing is loaded from anywhere."""

from __future__ import annotations

from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from simulator.preview.sample import Floats, Line, Preview

WIDTH, LEFT, RIGHT = 960, 74, 16
PANEL, GAP, HEAD = 110, 34, 72
SPAN = 15
COLOURS = ("#1f6feb", "#2da44e", "#bf3989", "#9a6700", "#8250df", "#0a7ea4")
_STYLE = (
    "text{font:12px system-ui,sans-serif;fill:#1f2328}"
    ".title{font-size:17px;font-weight:600}.dim{fill:#59636e;font-size:11px}"
    ".line{fill:none;stroke-width:1.3}.frame{fill:#f6f8fa;stroke:#d1d9e0}"
    ".bars{fill:#c8d9f5}.fault{fill:#cf222e}.span{fill:#ffd8d3;stroke:#cf222e;stroke-width:.5}"
)


@dataclass(frozen=True, slots=True)
class _Axes:
    """Where a panel lies, and what its ends mean."""

    top: float
    end_s: float
    low: float
    high: float

    def x(self, at_s: Floats) -> Floats:
        return LEFT + at_s / max(self.end_s, 1e-9) * (WIDTH - LEFT - RIGHT)

    def y(self, values: Floats) -> Floats:
        span = self.high - self.low
        return self.top + PANEL - (values - self.low) / (span or 1.0) * PANEL


def svg(preview: Preview) -> str:
    """The picture."""
    parts: list[str] = []
    top = float(HEAD)
    parts += _rate(preview, top)
    top += PANEL + GAP
    names = list(dict.fromkeys(span.name for span in preview.spans))
    for row, name in enumerate(names):
        parts += _spans(preview, name, top + row * (SPAN + 4))
    top += len(names) * (SPAN + 4) + (GAP - 8 if names else 0)
    for panel in preview.panels:
        parts += _panel(preview, panel.lines, f"{panel.kind}: {panel.signal}", panel.unit, top)
        top += PANEL + GAP
    height = round(top)
    about = f"{preview.total:,} readings in {preview.duration_s:g} s"
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" '
        f'width="{WIDTH}" height="{height}" role="img" '
        f'aria-label="Preview of scenario {escape(preview.name)}">'
        f"<style>{_STYLE}</style><rect width='100%' height='100%' fill='#fff'/>"
        f'<text class="title" x="16" y="26">{escape(preview.name)}</text>'
        f'<text class="dim" x="16" y="44">{about}; red: a fault is on the reading</text>'
    )
    return head + "".join(parts) + "</svg>\n"


def html(preview: Preview) -> str:
    """The picture in a page of its own."""
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta http-equiv="Content-Security-Policy" content="default-src \'none\'; '
        "style-src 'unsafe-inline'\">"
        f"<title>{escape(preview.name)}: preview</title></head><body>{svg(preview)}</body></html>\n"
    )


def _rate(preview: Preview, top: float) -> list[str]:
    arrivals = preview.arrivals
    high = max(float(preview.rate.max()), 0.0 if arrivals is None else float(arrivals.max()))
    axes = _Axes(top, preview.duration_s, 0.0, high * 1.05 or 1.0)
    parts = [_frame(axes, "rate", "/s")]
    if arrivals is not None:
        width = (WIDTH - LEFT - RIGHT) / len(arrivals)
        ys = axes.y(arrivals)
        bars = "".join(
            f"M{x - width / 2:.1f} {top + PANEL:.1f}V{y:.1f}h{width:.2f}V{top + PANEL:.1f}z"
            for x, y in zip(axes.x(preview.at_s).tolist(), ys.tolist(), strict=True)
        )
        parts.append(f'<path class="bars" d="{bars}"><title>readings due</title></path>')
    parts.append(_path(axes, preview.at_s, preview.rate, COLOURS[0]))
    return parts


def _spans(preview: Preview, name: str, top: float) -> list[str]:
    axes = _Axes(top, preview.duration_s, 0.0, 1.0)
    mine = [span for span in preview.spans if span.name == name]
    parts = []
    for span in mine:
        first, last = axes.x(np.array([span.start_s, span.end_s])).tolist()
        parts.append(
            f'<rect class="span" x="{first:.1f}" y="{top:.0f}" width="{max(1, last - first):.1f}" '
            f'height="{SPAN}"><title>{escape(name)}: {escape(span.kind)}</title></rect>'
        )
    first = float(axes.x(np.array([mine[0].start_s]))[0])
    parts.append(
        f'<text class="dim" x="{min(first + 4, WIDTH - 260):.1f}" y="{top + 11:.0f}">'
        f"{escape(name)} ({escape(mine[0].kind)})</text>"
    )
    return parts


def _panel(preview: Preview, lines: list[Line], title: str, unit: str, top: float) -> list[str]:
    seen = np.concatenate([line.values for line in lines] or [np.zeros(0)])
    seen = seen[np.isfinite(seen)]
    low, high = (float(seen.min()), float(seen.max())) if len(seen) else (0.0, 1.0)
    margin = (high - low) * 0.05 or max(abs(high) * 0.05, 0.5)
    axes = _Axes(top, preview.shown_s or 1.0, low - margin, high + margin)
    parts = [_frame(axes, title, unit)]
    for index, line in enumerate(lines):
        parts.append(
            _path(axes, line.at_s, line.values, COLOURS[index % len(COLOURS)], line.device)
        )
        marked = line.faulty & np.isfinite(line.values)
        xs, ys = axes.x(line.at_s[marked]).tolist(), axes.y(line.values[marked]).tolist()
        parts += [
            f'<circle class="fault" r="1.6" cx="{x:.1f}" cy="{y:.1f}"/>'
            for x, y in zip(xs, ys, strict=True)
        ]
    return parts


def _frame(axes: _Axes, title: str, unit: str) -> str:
    bottom = axes.top + PANEL
    unit = f" {escape(unit)}" if unit else ""
    return (
        f'<rect class="frame" x="{LEFT}" y="{axes.top:.0f}" width="{WIDTH - LEFT - RIGHT}" '
        f'height="{PANEL}"/><text x="{LEFT}" y="{axes.top - 6:.0f}">{escape(title)}{unit}</text>'
        f'<text class="dim" x="{LEFT - 6}" y="{axes.top + 10:.0f}" text-anchor="end">'
        f'{axes.high:.4g}</text><text class="dim" x="{LEFT - 6}" y="{bottom:.0f}" '
        f'text-anchor="end">{axes.low:.4g}</text>'
        f'<text class="dim" x="{WIDTH - RIGHT}" y="{bottom + 13:.0f}" text-anchor="end">'
        f"{axes.end_s:g} s</text>"
    )


def _path(axes: _Axes, at_s: Floats, values: Floats, colour: str, title: str = "") -> str:
    """A line with gaps where there is no value."""
    there = np.isfinite(values)
    xs, ys = axes.x(at_s), axes.y(np.where(there, values, 0.0))
    steps, pen = [], "M"
    for x, y, is_there in zip(xs.tolist(), ys.tolist(), there.tolist(), strict=True):
        if is_there:
            steps.append(f"{pen}{x:.1f} {y:.1f}")
        pen = "L" if is_there else "M"
    tip = f"<title>{escape(title)}</title>" if title else ""
    return f'<path class="line" stroke="{colour}" d="{"".join(steps)}">{tip}</path>'
