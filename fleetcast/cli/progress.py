"""How a run's progress is drawn: live on a terminal, plain lines elsewhere, JSON for machines."""

from __future__ import annotations

import json
import sys
import time
from dataclasses import asdict
from typing import TYPE_CHECKING, Self

import typer
from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from types import TracebackType

    from rich.console import RenderableType

    from simulator.engine import Progress

PLAIN_INTERVAL_S = 5.0
# More shards than this are told by their extremes.
SHOWN_SHARDS = 12
# As far off the rate as this, it is drawn as a warning.
OFF_RATE = 0.02


def one_line(now: Progress) -> str:
    """One line of numbers: where the run is against where its schedule is."""
    text = (
        f"{now.elapsed_s:5.1f}/{now.duration_s:.0f} s  sent {now.sent:,}/{now.total:,}  "
        f"acked {now.acked:,}  failed {now.failed:,}  in flight {now.in_flight:,}  "
        f"backlog {now.backlog:,}  rate {now.rate_per_s:,.0f}/{now.target_rate_per_s:,.0f} /s  "
        f"lag p99 {now.lag_p99_ms:.0f} ms"
    )
    if now.throttled or now.errors:
        text += f"  throttled {now.throttled:,}  errors {now.errors:,}"
    return text


def drawn(now: Progress) -> RenderableType:
    """A few lines for a terminal: the rate against its target, and what stands in its way."""
    table = Table.grid(padding=(0, 2))
    for _ in range(3):
        table.add_column()
    off = abs(now.rate_per_s - now.target_rate_per_s) > OFF_RATE * now.target_rate_per_s
    table.add_row(
        Text(f"{now.elapsed_s:.1f}/{now.duration_s:.0f} s"),
        ProgressBar(total=max(1, now.total), completed=now.sent, width=40),
        Text(f"{now.sent:,}/{now.total:,} sent"),
    )
    table.add_row(
        Text("rate"),
        ProgressBar(
            total=max(1.0, now.target_rate_per_s, now.rate_per_s),
            completed=now.rate_per_s,
            width=40,
            complete_style="yellow" if off else "green",
            finished_style="green",
        ),
        Text(f"{now.rate_per_s:,.0f} of {now.target_rate_per_s:,.0f} /s"),
    )
    counts = Text.assemble(
        f"acked {now.acked:,}  ",
        (f"failed {now.failed:,}", "red" if now.failed else ""),
        f"  unknown {now.unknown:,}  in flight {now.in_flight:,}  ",
        (f"backlog {now.backlog:,}", "yellow" if now.backlog else ""),
        f"  window {now.window}  {now.bytes / 1e6:,.1f} MB",
    )
    lags = Text.assemble(
        f"lag p99 {now.lag_p99_ms:.1f} ms  latency p99 {now.latency_p99_ms:.1f} ms  ",
        (f"throttled {now.throttled:,}", "yellow" if now.throttled else ""),
        f"  sent again {now.retries:,}  ",
        (f"errors {now.errors:,}", "red" if now.errors else ""),
    )
    return Group(table, counts, lags, *_shards(now.shards))


def _shards(shares: dict[str, float]) -> list[Text]:
    if not shares:
        return []
    if len(shares) <= SHOWN_SHARDS:
        cells = [f"{_short(shard)} {share:.1%}" for shard, share in shares.items()]
        return [Text("shards " + "  ".join(cells))]
    least, most = min(shares, key=shares.__getitem__), max(shares, key=shares.__getitem__)
    return [
        Text(
            f"{len(shares)} shards, from {_short(least)} with {shares[least]:.2%} "
            f"to {_short(most)} with {shares[most]:.2%}"
        )
    ]


def _short(shard: str) -> str:
    """The number of a shard."""
    return shard.rpartition("-")[2].lstrip("0") or "0"


class RunProgress:
    """Draws `Progress` values on standard error; use as a context manager and call it.

    Args:
        json_lines: Writes each value as a line of JSON instead.
    """

    def __init__(self, *, json_lines: bool = False) -> None:
        self._json_lines = json_lines
        self._live = (
            Live(console=Console(stderr=True), refresh_per_second=4, transient=True)
            if sys.stderr.isatty() and not json_lines
            else None
        )
        self._next_plain = 0.0

    def __enter__(self) -> Self:
        if self._live:
            self._live.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._live:
            self._live.stop()

    def __call__(self, now: Progress) -> None:
        """Draws one value."""
        if self._json_lines:
            typer.echo(json.dumps({"event": "progress", **asdict(now)}), err=True)
        elif self._live:
            self._live.update(drawn(now))
        elif time.monotonic() >= self._next_plain:
            self._next_plain = time.monotonic() + PLAIN_INTERVAL_S
            typer.echo("  " + one_line(now), err=True)
