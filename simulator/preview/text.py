"""A preview in a terminal: a row of blocks for the rate, and one for each signal of a device."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from collections.abc import Iterator

    from simulator.preview.sample import Floats, Preview

BLOCKS = "▁▂▃▄▅▆▇█"
COLUMNS = 60


def tables(preview: Preview) -> Iterator[Table]:
    """What rich prints."""
    rates = Table(box=None, pad_edge=False, show_header=False)
    shown = preview.rate if preview.arrivals is None else preview.arrivals
    rates.add_row("rate", _blocks(preview.at_s, shown, preview.duration_s), _range(shown, "/s"))
    for name in dict.fromkeys(span.name for span in preview.spans):
        rates.add_row(name, _windows(preview, name), _kind(preview, name))
    yield rates
    signals = Table(box=None, pad_edge=False, show_header=False)
    for panel in preview.panels:
        for line in panel.lines:
            text = _blocks(line.at_s, line.values, preview.shown_s or 1.0)
            for column in _columns(line.at_s[line.faulty], preview.shown_s or 1.0):
                text.stylize("red", column, column + 1)
            signals.add_row(
                f"{panel.kind} {panel.signal}", line.device, text, _range(line.values, panel.unit)
            )
    yield signals


def _columns(at_s: Floats, end_s: float) -> list[int]:
    columns: list[int] = np.minimum((at_s / end_s * COLUMNS).astype(int), COLUMNS - 1).tolist()
    return columns


def _blocks(at_s: Floats, values: Floats, end_s: float) -> Text:
    """Means of the values over equal times, as blocks; a blank where there are none."""
    there = np.isfinite(values)
    # Where there are fewer readings than columns, each is several columns wide.
    bins = max(1, min(COLUMNS, int(len(values) * 0.8)))
    places = np.minimum((at_s[there] / end_s * bins).astype(int), bins - 1)
    counts = np.bincount(places, minlength=bins)
    sums = np.bincount(places, values[there], minlength=bins)
    means = np.divide(sums, counts, out=np.full(bins, np.nan), where=counts > 0)
    means = means[np.arange(COLUMNS) * bins // COLUMNS]
    seen = means[np.isfinite(means)]
    if not len(seen):
        return Text(" " * COLUMNS)
    low, span = float(seen.min()), float(seen.max() - seen.min()) or 1.0
    return Text(
        "".join(
            " " if np.isnan(mean) else BLOCKS[min(7, int((mean - low) / span * 8))]
            for mean in means.tolist()
        )
    )


def _windows(preview: Preview, name: str) -> Text:
    row = [" "] * COLUMNS
    for span in preview.spans:
        if span.name == name:
            ends = np.array([span.start_s, span.end_s - 1e-9])
            first, last = _columns(ends, preview.duration_s)
            row[first : last + 1] = "█" * (last - first + 1)
    return Text("".join(row), style="red")


def _kind(preview: Preview, name: str) -> str:
    return next(span.kind for span in preview.spans if span.name == name)


def _range(values: Floats, unit: str) -> str:
    seen = values[np.isfinite(values)]
    if not len(seen):
        return "nothing is sent"
    return f"{seen.min():.5g} to {seen.max():.5g} {unit}".rstrip()
