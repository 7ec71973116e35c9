"""What cannot be asked of a run at a pipeline of others, and why: a verdict must not be silent of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fleetcast.verify.verdict import NotChecked

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fleetcast.pipeline.model import Columns, Fields, Pipeline
    from fleetcast.verify.truth import Truth

_CONTENT = ("time", "class", "site")


def not_checked(pipeline: Pipeline, truth: Truth) -> Iterator[NotChecked]:
    """What the pipeline does not have, or its file does not name."""
    if pipeline.timeseries is None:
        yield NotChecked("timeseries", "the pipeline's file names no table")
        yield NotChecked("landing_latency", "the pipeline's file names no table")
    else:
        columns = pipeline.timeseries.columns
        yield from _content("timeseries.content", columns, _CONTENT, truth)
        missing = [field for field in ("time", "written") if field not in columns.names()]
        if missing:
            yield NotChecked("landing_latency", f"the table has no column for {missing[0]}")
        if "written" in missing:
            yield NotChecked("timeseries.late", "the table has no column for written")
    if pipeline.archive is None:
        yield NotChecked("archive", "the pipeline's file names no bucket")
    elif pipeline.archive.fields is not None:
        yield from _content("archive.content", pipeline.archive.fields, ("time",), truth)
    yield from _refused(pipeline, truth)
    expected = [alarm.name for alarm in truth.scenario.expect.alarms]
    unknown = [name for name in expected if name not in pipeline.alarms]
    if not pipeline.alarms:
        asked = f"; the scenario asks for {', '.join(unknown)}" if unknown else ""
        yield NotChecked("alarms", f"the pipeline's file names none{asked}")
    else:
        for name in unknown:
            yield NotChecked(f"alarm.{name}", "the pipeline's file names no alarm for it")


def _content(
    name: str, mapping: Columns | Fields, kept: tuple[str, ...], truth: Truth
) -> Iterator[NotChecked]:
    """Parts of a reading that a store does not keep."""
    names = mapping.names()
    lacking = [field for field in kept if field not in names]
    lacking += [s for s in truth.fleet.signal_names if s not in mapping.measures]
    if lacking:
        yield NotChecked(name, f"not mapped: {', '.join(lacking)}")


def _refused(pipeline: Pipeline, truth: Truth) -> Iterator[NotChecked]:
    """Broken readings of which nothing is known."""
    count = int((truth.left_open & (truth.refusal > 0)).sum())
    told = f"{count:,} readings that faults broke may have landed or not" if count else ""
    if pipeline.quarantine is None:
        yield NotChecked("refused", told or "the pipeline's file names no quarantine")
    elif told:
        yield NotChecked("refused.others", told)
