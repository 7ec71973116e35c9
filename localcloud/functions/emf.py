"""CloudWatch's embedded metric format: metrics out of JSON lines in a function's log.

Follows "Specification: Embedded metric format" of the CloudWatch user guide.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import orjson

if TYPE_CHECKING:
    from localcloud.seams import MetricSink

MAX_METRICS = 100
MAX_DIMENSIONS = 30


class MalformedEmfError(ValueError):
    """A line claims to be of the embedded metric format and is not."""


def looks_like_emf(line: str) -> bool:
    """Whether a log line should be read as the embedded metric format."""
    return line.startswith("{") and '"_aws"' in line and '"CloudWatchMetrics"' in line


def extract(line: str, sink: MetricSink) -> int:
    """Publishes the metrics of one line; returns how many samples there were.

    Raises:
        MalformedEmfError: the line does not keep to the specification; nothing was published.
    """
    try:
        root = orjson.loads(line)
        metadata = root["_aws"]
        timestamp_s = metadata["Timestamp"] / 1000
        directives = metadata["CloudWatchMetrics"]
        found = [entry for directive in directives for entry in _entries(root, directive)]
    except (orjson.JSONDecodeError, KeyError, TypeError, AttributeError) as error:
        raise MalformedEmfError(f"{type(error).__name__}: {error}") from error
    samples = 0
    for namespace, name, values, unit, dimensions in found:
        sink.put(namespace, name, values, unit=unit, dimensions=dimensions, timestamp_s=timestamp_s)
        samples += len(values)
    return samples


def _entries(
    root: dict[str, Any], directive: dict[str, Any]
) -> list[tuple[str, str, list[float], str, dict[str, str]]]:
    namespace = directive["Namespace"]
    metrics = directive["Metrics"]
    if len(metrics) > MAX_METRICS:
        raise MalformedEmfError(f"more than {MAX_METRICS} metrics")
    entries = []
    for names in directive["Dimensions"]:
        if len(names) > MAX_DIMENSIONS:
            raise MalformedEmfError(f"more than {MAX_DIMENSIONS} dimensions")
        dimensions = {name: str(root[name]) for name in names}
        for metric in metrics:
            value = root[metric["Name"]]
            values = value if isinstance(value, list) else [value]
            if not all(isinstance(v, int | float) and not isinstance(v, bool) for v in values):
                raise MalformedEmfError(f"metric {metric['Name']} is not a number")
            if len(values) > MAX_METRICS:
                raise MalformedEmfError(f"metric {metric['Name']} has more than 100 values")
            entries.append(
                (namespace, metric["Name"], values, metric.get("Unit", "None"), dimensions)
            )
    return entries
