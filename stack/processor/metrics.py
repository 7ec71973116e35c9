"""The processor's metrics, as lines of CloudWatch's embedded metric format.

A metric of one line may have a hundred values; a batch has more latencies than that, so it prints
several lines and the counts in the first. Written here because a library call for every reading
costs more than checking its signature does.
"""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

MAX_VALUES = 100


class Metrics:
    """Metrics of one namespace and environment.

    Args:
        namespace: CloudWatch namespace.
        environment: Value of the one dimension, `Environment`.
    """

    def __init__(self, namespace: str, environment: str) -> None:
        self._namespace = namespace
        self._environment = environment

    def publish(
        self, counts: Mapping[str, int], latency_name: str, latencies_ms: Sequence[int], now_ms: int
    ) -> None:
        """Prints counts, and latencies in milliseconds."""
        first: dict[str, Any] = dict(counts)
        units = dict.fromkeys(counts, "Count")
        for start in range(0, len(latencies_ms) or 1, MAX_VALUES):
            part = latencies_ms[start : start + MAX_VALUES]
            if part:
                first[latency_name] = part
                units[latency_name] = "Milliseconds"
            self._print(first, units, now_ms)
            first, units = {}, {}

    def _print(self, values: Mapping[str, Any], units: Mapping[str, str], now_ms: int) -> None:
        directive = {
            "Namespace": self._namespace,
            "Dimensions": [["Environment"]],
            "Metrics": [{"Name": name, "Unit": unit} for name, unit in units.items()],
        }
        line = {
            "_aws": {"Timestamp": now_ms, "CloudWatchMetrics": [directive]},
            "Environment": self._environment,
            **values,
        }
        sys.stdout.write(json.dumps(line, separators=(",", ":")) + "\n")
