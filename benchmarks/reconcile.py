"""What it costs to compare ten million readings with what landed, time and memory, on one core.

The run is not driven: its ledger, its archive's objects and what Timestream tells per device are
made from the scenario, in a process before the one that is measured. Each defect of `DEFECTS` is
then planted, alone, in a landed data set of a million, and must be found, and nothing else.
"""

from __future__ import annotations
