"""What Lambda itself writes into a function's log: START, END and REPORT, as text or as JSON.

Follows "Configuring JSON and plain text log formats" and the Telemetry API's event schema.
"""

from __future__ import annotations

import datetime as dt
import platform
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import orjson

if TYPE_CHECKING:
    from collections.abc import Callable

LogFormat = Literal["Text", "JSON"]
_LEVELS = ("DEBUG", "INFO", "WARN")


@dataclass(frozen=True, slots=True)
class Report:
    """The figures of one invocation. `status` is success, error or timeout."""

    request_id: str
    duration_ms: float
    memory_mb: int
    max_memory_mb: int | None
    init_ms: float | None = None
    status: str = "success"
    error_type: str | None = None

    @property
    def billed_ms(self) -> int:
        """Duration and initialization, rounded up."""
        return int(self.duration_ms + (self.init_ms or 0)) + 1


@dataclass(frozen=True, slots=True)
class PlatformLog:
    """Writes for one environment.

    Attributes:
        write: Takes a line.
        name: The function's name.
        runtime: Such as `python3.12`.
        log_format: Text or JSON.
        level: System log level, which only JSON has.
    """

    write: Callable[[str], None]
    name: str
    runtime: str
    log_format: LogFormat = "Text"
    level: str = "INFO"

    def init_start(self) -> None:
        """A process is started."""
        version = f"python:{platform.python_version()}.local"
        if self.log_format == "Text":
            self.write(f"INIT_START Runtime Version: {version}")
        else:
            self._event(
                "INFO",
                "platform.initStart",
                initializationType="on-demand",
                phase="init",
                runtimeVersion=version,
                functionName=self.name,
                functionVersion="$LATEST",
            )

    def init_failed(self, init_ms: float, status: str, error_type: str | None) -> None:
        """A process did not come to ask for its first event."""
        if self.log_format == "Text":
            kind = f"\tError Type: {error_type}" if error_type else ""
            self.write(
                f"INIT_REPORT Init Duration: {init_ms:.2f} ms\tPhase: init\tStatus: {status}{kind}"
            )
        else:
            self._event(
                "WARN",
                "platform.initReport",
                initializationType="on-demand",
                phase="init",
                status=status,
                errorType=error_type,
                metrics={"durationMs": round(init_ms, 3)},
            )

    def start(self, request_id: str) -> None:
        """An invocation begins."""
        if self.log_format == "Text":
            self.write(f"START RequestId: {request_id} Version: $LATEST")
        else:
            self._event("INFO", "platform.start", requestId=request_id, version="$LATEST")

    def end(self, report: Report) -> None:
        """An invocation ended."""
        succeeded = report.status == "success"
        if self.log_format == "Text":
            self.write(f"END RequestId: {report.request_id}")
            self.write(_text(report))
            return
        metrics: dict[str, Any] = {
            "durationMs": round(report.duration_ms, 3),
            "billedDurationMs": report.billed_ms,
            "memorySizeMB": report.memory_mb,
        }
        if report.max_memory_mb is not None:
            metrics["maxMemoryUsedMB"] = report.max_memory_mb
        if report.init_ms is not None:
            metrics["initDurationMs"] = round(report.init_ms, 3)
        level = "INFO" if succeeded else "WARN"
        told: dict[str, Any] = {"requestId": report.request_id, "status": report.status,
                                "errorType": report.error_type}  # fmt: skip
        self._event(
            "DEBUG" if succeeded else "WARN",
            "platform.runtimeDone",
            metrics={"durationMs": round(report.duration_ms, 3)},
            **told,
        )
        self._event(level, "platform.report", metrics=metrics, **told)

    def _event(self, level: str, kind: str, **record: Any) -> None:
        if _LEVELS.index(level) < _LEVELS.index(self.level):
            return
        told = {name: value for name, value in record.items() if value is not None}
        self.write(orjson.dumps({"time": now(), "type": kind, "record": told}).decode())


def _text(report: Report) -> str:
    parts = [
        f"REPORT RequestId: {report.request_id}",
        f"Duration: {report.duration_ms:.2f} ms",
        f"Billed Duration: {report.billed_ms} ms",
        f"Memory Size: {report.memory_mb} MB",
    ]
    if report.max_memory_mb is not None:
        parts.append(f"Max Memory Used: {report.max_memory_mb} MB")
    if report.init_ms is not None:
        parts.append(f"Init Duration: {report.init_ms:.2f} ms")
    if report.status != "success":
        parts.append(f"Status: {report.status}")
    if report.error_type:
        parts.append(f"Error Type: {report.error_type}")
    return "\t".join(parts)


def now() -> str:
    """The time as Lambda's lines have it."""
    moment = dt.datetime.now(dt.UTC)
    return moment.strftime("%Y-%m-%dT%H:%M:%S.") + f"{moment.microsecond // 1000:03d}Z"
