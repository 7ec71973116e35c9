"""The report of a run: one HTML page that opens without a network."""

from __future__ import annotations

from dashboards.report.page import write_report

__all__ = ["write_report"]
