"""CloudWatch's embedded metric format: metrics out of JSON in log events.

Follows "Specification: Embedded metric format" of the CloudWatch user guide.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import orjson

if TYPE_CHECKING:
    from localcloud.seams import MetricSink

MAX_METRICS = 100
MAX_DIMENSIONS = 30
MAX_NAME = 1024
UNITS = {
    "Seconds", "Microseconds", "Milliseconds", "Bytes", "Kilobytes", "Megabytes", "Gigabytes",
    "Terabytes", "Bits", "Kilobits", "Megabits", "Gigabits", "Terabits", "Percent", "Count",
    "Bytes/Second", "Kilobytes/Second", "Megabytes/Second", "Gigabytes/Second", "Terabytes/Second",
    "Bits/Second", "Kilobits/Second", "Megabits/Second", "Gigabits/Second", "Terabits/Second",
    "Count/Second", "None",
}  # fmt: skip
RESOLUTIONS = (1, 60)
# What JSON's numbers are; a truth value is none of them.
_NUMBERS = frozenset({int, float})

Entry = tuple[str, str, list[float], str, dict[str, str]]


class MalformedEmfError(ValueError):
    """An event claims to be of the embedded metric format and is not.

    Args:
        message: What is wrong.
        parsed: Whether it is JSON at least.
    """

    def __init__(self, message: str, *, parsed: bool) -> None:
        super().__init__(message)
        self._parsed = parsed

    def count(self, group: str, sink: MetricSink) -> None:
        """Publishes the error, as CloudWatch Logs does, for the log group."""
        sink.put(
            "AWS/Logs",
            "EMFValidationErrors" if self._parsed else "EMFParsingErrors",
            1,
            unit="Count",
            dimensions={"LogGroupName": group},
        )


def looks_like_emf(message: str) -> bool:
    """Whether a log event should be read as the embedded metric format."""
    return '"_aws"' in message and '"CloudWatchMetrics"' in message


def extract(message: str, sink: MetricSink) -> int:
    """Publishes the metrics of one event; returns how many samples there were.

    What Lambda puts before a document (level, time, request id) is passed over.

    Raises:
        MalformedEmfError: the event does not keep to the specification; nothing was published.
    """
    try:
        root = orjson.loads(message[max(0, message.find("{")) :])
    except orjson.JSONDecodeError as error:
        raise MalformedEmfError(str(error), parsed=False) from error
    try:
        metadata = root["_aws"]
        timestamp_s = metadata["Timestamp"] / 1000
        found = [
            entry
            for directive in metadata["CloudWatchMetrics"]
            for entry in _entries(root, directive)
        ]
    except (KeyError, TypeError, AttributeError) as error:
        raise MalformedEmfError(f"{type(error).__name__}: {error}", parsed=True) from error
    samples = 0
    for namespace, name, values, unit, dimensions in found:
        sink.put(namespace, name, values, unit=unit, dimensions=dimensions, timestamp_s=timestamp_s)
        samples += len(values)
    return samples


def _entries(root: dict[str, Any], directive: dict[str, Any]) -> list[Entry]:
    namespace = _name(directive["Namespace"], "Namespace")
    metrics = directive["Metrics"]
    if len(metrics) > MAX_METRICS:
        raise _invalid(f"more than {MAX_METRICS} metrics")
    definitions = [_definition(root, metric) for metric in metrics]
    entries: list[Entry] = []
    for names in directive["Dimensions"]:
        if len(names) > MAX_DIMENSIONS:
            raise _invalid(f"more than {MAX_DIMENSIONS} dimensions")
        dimensions = {name: root[name] for name in names}
        for name, value in dimensions.items():
            if not isinstance(value, str):
                raise _invalid(f"dimension {name} is not a string")
        entries += [(namespace, name, vs, unit, dimensions) for name, vs, unit in definitions]
    return entries


def _definition(root: dict[str, Any], metric: dict[str, Any]) -> tuple[str, list[float], str]:
    """(name, values, unit) of one metric."""
    name = _name(metric["Name"], "Name")
    unit = metric.get("Unit", "None")
    if unit not in UNITS:
        raise _invalid(f"metric {name} has the unit {unit}, which CloudWatch does not know")
    if metric.get("StorageResolution", 60) not in RESOLUTIONS:
        raise _invalid(f"metric {name} must have a StorageResolution of 1 or 60")
    value = root[name]
    values = value if isinstance(value, list) else [value]
    if not _NUMBERS.issuperset(map(type, values)):
        raise _invalid(f"metric {name} is not a number")
    if len(values) > MAX_METRICS:
        raise _invalid(f"metric {name} has more than {MAX_METRICS} values")
    return name, values, unit


def _name(value: Any, what: str) -> str:
    if not isinstance(value, str) or not 1 <= len(value) <= MAX_NAME:
        raise _invalid(f"{what} must be a text of 1 to {MAX_NAME} characters")
    return value


def _invalid(message: str) -> MalformedEmfError:
    return MalformedEmfError(message, parsed=True)
