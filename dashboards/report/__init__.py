"""The report of a run, and that of two: HTML pages that open without a network."""

from __future__ import annotations

from dashboards.report.comparison import write_comparison
from dashboards.report.page import write_report

__all__ = ["write_comparison", "write_report"]
