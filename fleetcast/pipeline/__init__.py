"""Pipelines of others: what a file says of an AWS pipeline that our stack did not deploy."""

from __future__ import annotations

from fleetcast.pipeline.file import complaints, load, of_run
from fleetcast.pipeline.fit import fitted
from fleetcast.pipeline.model import Pipeline

__all__ = ["Pipeline", "complaints", "fitted", "load", "of_run"]
