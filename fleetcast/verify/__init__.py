"""Verification: what landed is compared with the ledger, reading by reading, and judged."""

from __future__ import annotations

from fleetcast.verify.reconcile import verify_run
from fleetcast.verify.verdict import Verdict, read_verdict

__all__ = ["Verdict", "read_verdict", "verify_run"]
