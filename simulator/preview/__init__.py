"""What a scenario would do, as a picture, before anything is sent."""

from __future__ import annotations

from simulator.preview.sample import Preview, sample

__all__ = ["Preview", "sample"]
