"""What of a reading can be compared in what landed: all of it with our stack, less with others."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from fleetcast.pipeline.model import UNIT_MS

if TYPE_CHECKING:
    from fleetcast.pipeline.model import Columns, Fields, Pipeline


@dataclass(frozen=True, slots=True)
class Compared:
    """What a store keeps of a reading.

    Attributes:
        signals: Names of the signals; None are all.
        kind: Whether it keeps the class.
        site: Whether it keeps the site.
        unit_ms: To what the timestamp is kept, milliseconds; 0 where it is not.
        by_time: Whether a device's reading is told by its timestamp, not by its seq.
    """

    signals: frozenset[str] | None = None
    kind: bool = True
    site: bool = True
    unit_ms: int = 1
    by_time: bool = False

    @classmethod
    def by(cls, mapping: Columns | Fields) -> Compared:
        """What a pipeline's mapping tells."""
        names = mapping.names()
        return cls(
            frozenset(mapping.measures),
            "class" in names,
            "site" in names,
            UNIT_MS[mapping.time_unit] if "time" in names else 0,
            "sequence" not in names,
        )


@dataclass(frozen=True, slots=True)
class Asked:
    """What is asked of a run's readings.

    Attributes:
        series: What the time series keeps.
        fields: What an archive of lines of its own keeps; None where payloads lie as they were sent.
        refuses: Reasons for which the pipeline surely refuses readings, which of other broken
            ones lets it be open whether they land; None is our stack, which refuses for all.
    """

    series: Compared = Compared()
    fields: Compared | None = None
    refuses: frozenset[str] | None = None

    @classmethod
    def of(cls, pipeline: Pipeline) -> Asked:
        """What can be asked at a pipeline of others."""
        series, archive, quarantine = pipeline.timeseries, pipeline.archive, pipeline.quarantine
        fields = None if archive is None else archive.fields
        return cls(
            Compared() if series is None else Compared.by(series.columns),
            None if fields is None else Compared.by(fields),
            frozenset() if quarantine is None else frozenset(quarantine.refuses),
        )


STACK = Asked()
