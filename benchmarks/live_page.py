"""The live page in a headless Chromium while a thousand devices send a reading a second each.

Shown is the fleet: its map, and the table of devices. Frames are told twice: by the intervals of
requestAnimationFrame, which a busy machine stretches as well, and by the CPU time that the page's main
thread spends for a frame on scripts, style, layout and painting, of the browser's own performance
trace. What the screen's 60 frames a second leave is 16.7 ms. `--quick` watches for a third of the time.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
import tempfile
import time
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

# The driver of the browser is that of the tests.
sys.path.insert(0, str(Path(__file__).parents[1]))

from dashboards.live import Page, serve
from fleetcast import cloudctl
from fleetcast.target import Target
from stack.config import StackConfig
from stack.deploy import deploy
from tests.dashboards.browser import Browser, chromium

if TYPE_CHECKING:
    from stack.outputs import StackOutputs

ENVIRONMENT = "bench"
DEVICES, SITES = 1_000, 20
WATCHED_S = 30
FRAME_MS = 1000 / 60
CATEGORIES = ["devtools.timeline", "disabled-by-default-devtools.timeline"]
# Events of a trace that hold others; each has the time that is in none of those below it.
KINDS = {
    "script": ("FunctionCall", "EvaluateScript", "FireAnimationFrame", "TimerFire", "RunMicrotasks"),
    "style and layout": ("UpdateLayoutTree", "Layout", "ParseHTML", "HitTest"),
    "painting": ("PrePaint", "Paint", "Layerize", "UpdateLayer", "Commit"),
    "garbage collection": ("MinorGC", "MajorGC"),
}  # fmt: skip
# Frames of a time, milliseconds between them.
FRAMES = """new Promise((resolve) => {
  const seen = [], ends = performance.now() + %d;
  const next = (now) => { seen.push(now); if (now < ends) requestAnimationFrame(next); else resolve(seen); };
  requestAnimationFrame(next);
})"""
LISTED = "document.querySelectorAll('#devices tbody tr').length === 100"
MAPPED = "parseInt(document.getElementById('map-summary').textContent.replace(',', '')) >= %d"


async def send(target: Target, outputs: StackOutputs) -> None:
    """A reading of each device every second, until it is cancelled."""
    names = [
        [
            {"Name": "device", "Value": f"dev-{number:06d}"},
            {"Name": "class", "Value": "cold-chain"},
            {"Name": "site", "Value": f"site-{number % SITES:03d}"},
            {"Name": "run", "Value": "r-bench"},
        ]
        for number in range(DEVICES)
    ]
    value = [{"Name": "temperature", "Value": "4.2", "Type": "DOUBLE"}]
    async with target.client("timestream-write") as client:
        due_s = time.monotonic()
        while True:
            for first in range(0, DEVICES, 100):
                # A tenth of the fleet every tenth of a second, as devices are not in step.
                due_s += 0.1
                await asyncio.sleep(max(0.0, due_s - time.monotonic()))
                at = str(int(time.time() * 1000))
                await client.write_records(
                    DatabaseName=outputs.timeseries_database,
                    TableName=outputs.timeseries_table,
                    CommonAttributes={
                        "MeasureName": "reading", "MeasureValueType": "MULTI", "Time": at,
                        "MeasureValues": value,
                    },
                    Records=[{"Dimensions": one} for one in names[first : first + 100]],
                )  # fmt: skip


@dataclass(frozen=True)
class Watched:
    """What a time of frames came to.

    Attributes:
        intervals_ms: Between frames, shape (frames - 1,).
        work_ms: CPU of the main thread for each frame, shape (frames,).
        kinds_ms: CPU by kind of work, in all.
        drawn: Frames in which the map was drawn.
    """

    intervals_ms: Any
    work_ms: Any
    kinds_ms: dict[str, float]
    drawn: int


async def watch(browser: Browser, page: Page, seconds: int) -> Watched:
    """Watches the fleet for a time."""
    await browser.size(1280, 1000)
    await browser.open(f"{page.url}#fleet&token={page.token}")
    await browser.until(f"{LISTED} && {MAPPED % DEVICES}", 120)
    drawn = "import('/static/map.js').then((map) => map.drawing.frames)"
    before = await browser.run(drawn)
    seen, trace = await browser.traced(FRAMES % (seconds * 1000), CATEGORIES)
    frames = await browser.run(drawn)
    if browser.errors:
        raise SystemExit(f"the page failed: {browser.errors[0]}")
    work_ms, kinds_ms = worked(trace)
    return Watched(np.diff(seen), np.array(work_ms), kinds_ms, frames - before)


def worked(trace: list[dict[str, Any]]) -> tuple[list[float], dict[str, float]]:
    """CPU milliseconds of the page's main thread: of each frame, and by kind of work."""
    thread = main_thread(trace)
    events = sorted(
        # Without a time of the thread: the browser could not read its clock.
        (
            one
            for one in trace
            if "tts" in one and (one["ph"], one["pid"], one["tid"]) == ("X", *thread)
        ),
        key=lambda one: (one["tts"], -one.get("tdur", 0)),
    )
    of_kind = {name: kind for kind, names in KINDS.items() for name in names}
    kinds: Counter[str] = Counter()
    frames, frame_ms = [], 0.0
    # Events that are open: when each ends, and of which kind it is.
    around: list[tuple[float, str]] = []
    for one in events:
        start, took = one["tts"], one.get("tdur", 0)
        while around and around[-1][0] <= start:
            around.pop()
        kind = of_kind.get(one["name"], around[-1][1] if around else "other")
        if not around:
            frame_ms += took / 1000
        else:
            kinds[around[-1][1]] -= took
        kinds[kind] += took
        around.append((start + took, kind))
        if one["name"] == "FireAnimationFrame":
            frames.append(frame_ms)
            frame_ms = 0.0
    # What came before the first frame belongs to none.
    return frames[1:], {kind: took / 1000 for kind, took in kinds.items()}


def main_thread(trace: list[dict[str, Any]]) -> tuple[int, int]:
    """The thread on which the page's frames fire; a browser has several pages' processes."""
    fired = Counter(
        (one["pid"], one["tid"]) for one in trace if one["name"] == "FireAnimationFrame"
    )
    if not fired:
        raise SystemExit("the browser traced no frame")
    return fired.most_common(1)[0][0]


async def measure(folder: Path, seconds: int) -> Watched:
    """A cloud, a stack, a fleet and a page of their own."""
    with cloudctl.running(cloudctl.free_port()) as cloud:
        target = Target.named("local", port=cloud.port)
        config = StackConfig.for_target("local", ENVIRONMENT, region=target.region)
        outputs = await deploy(config, target, "builtin", progress=lambda _: None)
        sending = asyncio.create_task(send(target, outputs))
        try:
            async with (
                serve(target, ENVIRONMENT) as page,
                chromium(folder / "profile") as browser,
            ):
                return await watch(browser, page, seconds)
        finally:
            sending.cancel()
            with suppress(asyncio.CancelledError):
                await sending


def told(name: str, values: Any) -> str:
    """One row: percentiles of milliseconds."""
    marks = np.percentile(values, [50, 95, 99, 100])
    return f"| {name} | " + " | ".join(f"{mark:.1f} ms" for mark in marks) + " |"


def main() -> None:
    """Prints tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a third of the time")
    seconds = WATCHED_S // 3 if parser.parse_args().quick else WATCHED_S
    with tempfile.TemporaryDirectory() as folder:
        os.environ["FLEETCAST_HOME"] = f"{folder}/home"
        os.environ["FLEETCAST_RUNS"] = f"{folder}/runs"
        seen = asyncio.run(measure(Path(folder), seconds))
    frames = len(seen.intervals_ms)
    dropped = int(np.maximum(0, np.round(seen.intervals_ms / FRAME_MS) - 1).sum())
    print(
        f"{DEVICES:,} devices, a reading a second each; map and table shown for {seconds} s: "
        f"{frames / (seen.intervals_ms.sum() / 1000):.1f} frames a second, {dropped:,} of "
        f"{frames + dropped:,} dropped; the map was drawn in {seen.drawn:,} of them.\n"
    )
    print("| of a frame | p50 | p95 | p99 | most |")
    print("|---|---|---|---|---|")
    print(told("time since the one before", seen.intervals_ms))
    print(told("CPU of the page's main thread", seen.work_ms))
    parts = sorted(seen.kinds_ms.items(), key=lambda one: -one[1])
    text = ", ".join(f"{kind} {took / seconds:.1f}" for kind, took in parts)
    print(f"\nMain thread, CPU milliseconds a second: {text}.")


if __name__ == "__main__":
    main()
