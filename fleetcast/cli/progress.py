"""How a run's progress is drawn: a live line on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Self

import typer
from rich.console import Console
from rich.live import Live
from rich.text import Text

if TYPE_CHECKING:
    from types import TracebackType

    from simulator.engine import Progress

PLAIN_INTERVAL_S = 5.0


def one_line(now: Progress) -> str:
    """One line of numbers: where the run is against where its schedule is."""
    return (
        f"{now.elapsed_s:5.1f}/{now.duration_s:.0f} s  sent {now.sent:,}/{now.total:,}  "
        f"acked {now.acked:,}  failed {now.failed:,}  in flight {now.in_flight:,}  "
        f"backlog {now.backlog:,}  rate {now.rate_per_s:,.0f}/{now.target_rate_per_s:,.0f} /s  "
        f"lag p99 {now.lag_p99_ms:.0f} ms"
    )


class RunProgress:
    """Draws `Progress` values on standard error; use as a context manager and call it."""

    def __init__(self) -> None:
        self._live = (
            Live(console=Console(stderr=True), refresh_per_second=4, transient=True)
            if sys.stderr.isatty()
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
        if self._live:
            self._live.update(Text(one_line(now)))
        elif time.monotonic() >= self._next_plain:
            self._next_plain = time.monotonic() + PLAIN_INTERVAL_S
            typer.echo("  " + one_line(now), err=True)
