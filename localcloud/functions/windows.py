"""Tumbling windows: their bounds, and the state that a function carries through one.

Follows "Implementing stateful Kinesis Data Streams processing in Lambda".
"""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass, field
from typing import Any

import orjson

from localcloud.http import AwsError

MAX_STATE_BYTES = 1024 * 1024


@dataclass(slots=True)
class Window:
    """One open window of a shard. Bounds are epoch milliseconds, the end outside."""

    start_ms: int
    end_ms: int
    state: Any = field(default_factory=dict)

    @property
    def overflows(self) -> bool:
        """Whether the state is too large to go on with: the window ends early then."""
        return len(orjson.dumps(self.state)) > MAX_STATE_BYTES

    def members(self, shard: str, source: str, *, final: bool, early: bool) -> dict[str, Any]:
        """What an event has besides its records."""
        return {
            "window": {"start": _second(self.start_ms), "end": _second(self.end_ms)},
            "state": self.state,
            "shardId": shard,
            "eventSourceARN": source,
            "isFinalInvokeForWindow": final,
            "isWindowTerminatedEarly": early,
        }

    def take_state(self, payload: bytes) -> None:
        """Takes the state from a function's answer, if it has one."""
        try:
            answer = orjson.loads(payload or b"null")
        except orjson.JSONDecodeError:
            return
        if isinstance(answer, dict) and "state" in answer:
            self.state = answer["state"]

    def to_json(self) -> dict[str, Any]:
        """The window as a JSON value."""
        return {"start_ms": self.start_ms, "end_ms": self.end_ms, "state": self.state}

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Window:
        """The window that `to_json` gave."""
        return cls(value["start_ms"], value["end_ms"], value["state"])


def check_window(settings: dict[str, Any]) -> None:
    """Refuses what cannot be had together with a tumbling window here.

    Raises:
        AwsError: InvalidParameterValueException.
    """
    if settings.get("TumblingWindowInSeconds") and settings.get("ParallelizationFactor", 1) > 1:
        raise AwsError(
            "InvalidParameterValueException",
            "TumblingWindowInSeconds with a ParallelizationFactor above 1 is not supported locally",
        )


def _second(epoch_ms: int) -> str:
    return dt.datetime.fromtimestamp(epoch_ms / 1000, dt.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
