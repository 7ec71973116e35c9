"""Load runs: Locust in a process of its own, and the search for the rate at which something gives.

Locust patches the process that imports it, so this one never does.
"""

from __future__ import annotations

import importlib.util
import json
import math
import secrets
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree as ET

from fleetcast import scenarios
from fleetcast.cloudctl import free_port
from fleetcast.errors import ExitCode, TargetError, UsageError
from fleetcast.home import runs_dir
from fleetcast.runs import new_id
from fleetcast.target import LOCAL_HOST
from simulator.events import read_events
from simulator.measure import RunSummary
from simulator.scenario import load

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from simulator.scenario import Scenario

# The search ends when what holds and what does not are this close together.
CLOSE = 0.1
MOST_TRIALS = 16
# Nothing lower than this part of the rate that was asked for is tried where nothing holds.
LEAST = 4
# A schedule later than this tells that it is the sender that does not keep up.
LATE_MS = 100.0
# Less than this part throttled is the unevenness of the devices' hashes, and is tried again.
THROTTLED = 0.001
RATE_ERROR_PCT = 1.0


@dataclass(frozen=True, slots=True)
class LoadRun:
    """What Locust is asked for; see `fleetcast load --help`."""

    scenario: str
    target: str = "local"
    environment: str = "dev"
    region: str | None = None
    workers: int = 1
    devices: int | None = None
    rate: str | None = None
    duration: str | None = None
    transport: str = "kinesis"
    per_connection: int | None = None
    connect_rate: float | None = None
    ordering: str = "relaxed"
    seed: int | None = None
    run_id: str | None = None
    aggregate: bool = False
    json: bool = False
    pipeline: Path | None = None
    limits: Mapping[str, float | None] = field(default_factory=dict)
    reports: Mapping[str, Any] = field(default_factory=dict)

    def command(self) -> list[str]:
        """The command line of Locust."""
        found = importlib.util.find_spec("loadtests")
        if found is None or not found.submodule_search_locations:
            raise UsageError("loadtests is not installed: install fleetcast from its source")
        options: dict[str, Any] = {
            "--users": self.workers,
            "--spawn-rate": self.workers,
            "--scenario": self.scenario,
            "--fleet-target": self.target,
            "--fleet-env": self.environment,
            "--fleet-region": self.region,
            "--fleet-pipeline": self.pipeline,
            "--fleet-transport": self.transport,
            "--devices-per-connection": self.per_connection,
            "--connect-rate": self.connect_rate,
            "--fleet-ordering": self.ordering,
            "--fleet-seed": self.seed,
            "--fleet-devices": self.devices,
            "--fleet-rate": self.rate,
            "--fleet-duration": self.duration,
            "--fleet-run-id": self.run_id,
            **(self._processes() if self.workers > 1 else {}),
            **self.limits,
            **self.reports,
        }
        return [
            *(sys.executable, "-m", "locust", "--headless", "--only-summary"),
            *("-f", str(Path(found.submodule_search_locations[0], "locustfile.py"))),
            *(["--fleet-aggregate"] if self.aggregate else []),
            *(["--fleet-json"] if self.json else []),
            *(
                word
                for option, value in options.items()
                if value is not None
                for word in (option, str(value))
            ),
        ]

    def _processes(self) -> dict[str, Any]:
        """Options for several processes, which meet on a port of their own.

        On Locust's usual port workers would join the run of another that is under way, and other
        machines could come to it.
        """
        port = free_port()
        return {
            "--processes": self.workers,
            "--master-bind-host": LOCAL_HOST,
            "--master-bind-port": port,
            "--master-host": LOCAL_HOST,
            "--master-port": port,
        }


def run(asked: LoadRun) -> int:
    """Runs Locust with its output, or prints the summary as JSON instead; its exit code.

    Raises:
        UsageError: the scenario or an option is wrong, or Locust is not installed.
    """
    _checked(asked)
    if not asked.json:
        return subprocess.run(asked.command(), check=False).returncode  # noqa: S603 - our own
    asked = replace(asked, run_id=asked.run_id or new_id())
    # Locust's table goes to standard error, so that the summary is all that stands on the other.
    done = subprocess.run(asked.command(), check=False, stdout=sys.stderr)  # noqa: S603 - our own
    # A run id that is taken is another run's, which has a summary as well.
    summary = {} if done.returncode == ExitCode.USAGE else _summary(str(asked.run_id))
    if summary:
        names = (one.name for one in fields(RunSummary))
        sys.stdout.write(json.dumps({name: summary[name] for name in names}) + "\n")
    return done.returncode


def _checked(asked: LoadRun) -> Scenario:
    """The scenario that is asked for.

    Raises:
        UsageError: it cannot be driven so.
    """
    if importlib.util.find_spec("locust") is None:
        raise UsageError("Locust is not installed: pip install 'fleetcast[load]'")
    plan = load(scenarios.find(asked.scenario)).with_overrides(
        devices=asked.devices, rate=asked.rate, duration=asked.duration, seed=asked.seed
    )
    if asked.workers > plan.fleet.devices:
        raise UsageError(f"--workers {asked.workers}: there are {plan.fleet.devices:,} devices")
    return plan


@dataclass(frozen=True, slots=True)
class Trial:
    """One rate that was tried.

    Attributes:
        rate_per_s: Its peak.
        ok: Whether all that was asked for held.
        limit: What gave; empty where nothing did.
    """

    rate_per_s: float
    ok: bool
    limit: str = ""


def stress(asked: LoadRun) -> Iterator[str]:
    """Searches for the highest rate at which everything holds; tells each trial and the result.

    The rate is doubled until something gives, then the gap is halved until it is small. There are
    more devices at a higher rate, not faster ones.

    Raises:
        UsageError: the scenario or an option is wrong.
        TargetError: nothing could be sent.
    """
    plan = _checked(asked)
    if asked.limits.get("--max-rate-error") is None:
        asked = replace(asked, limits={**asked.limits, "--max-rate-error": RATE_ERROR_PCT})
    name = asked.run_id or f"s-{secrets.token_hex(3)}"
    holds = Trial(0.0, ok=True)
    gives: Trial | None = None
    rate = plan.profile.peak
    for number in range(MOST_TRIALS):
        devices = math.ceil(plan.fleet.devices * max(1.0, rate / plan.profile.peak))
        trial = _tried(replace(asked, devices=devices), f"{name}-{number}", rate)
        yield f"{rate:,.0f}/s: {'holds' if trial.ok else trial.limit}"
        holds, gives = (trial, gives) if trial.ok else (holds, trial)
        if not holds.rate_per_s and rate <= plan.profile.peak / LEAST:
            yield f"holds at none of the rates that were tried; at {rate:,.0f}/s {trial.limit}"
            return
        if gives is None:
            rate = holds.rate_per_s * 2
        elif gives.rate_per_s - holds.rate_per_s <= CLOSE * gives.rate_per_s:
            break
        else:
            rate = (holds.rate_per_s + gives.rate_per_s) / 2
    if gives is None:
        yield f"holds up to {holds.rate_per_s:,.0f}/s, the highest that was tried"
    else:
        yield f"holds up to {holds.rate_per_s:,.0f}/s; at {gives.rate_per_s:,.0f}/s {gives.limit}"


def _tried(asked: LoadRun, run_id: str, rate: float) -> Trial:
    with tempfile.TemporaryDirectory() as folder:
        junit = Path(folder, "junit.xml")
        one = replace(asked, rate=f"{rate}/s", run_id=run_id, reports={"--junit": junit})
        done = subprocess.run(  # noqa: S603 - our own
            one.command(), check=False, capture_output=True, text=True
        )
        if done.returncode == 0:
            return Trial(rate, ok=True)
        failed = _failed(junit)
    if done.returncode in {int(ExitCode.USAGE), int(ExitCode.TARGET)} or not failed:
        lines = [line for line in done.stderr.splitlines() if "fleetcast: " in line]
        text = lines[-1].rpartition("fleetcast: ")[2] if lines else "Locust ended without a result"
        if done.returncode == ExitCode.USAGE:
            raise UsageError(text)
        raise TargetError(text)
    return Trial(rate, ok=False, limit=limit_of(_summary(run_id), failed))


def _failed(junit: Path) -> dict[str, str]:
    """Checks that failed, and why."""
    if not junit.exists():
        return {}
    suite = ET.fromstring(junit.read_text())  # noqa: S314 - our own
    return {
        str(case.get("name")): str(failure.get("message"))
        for case in suite
        if (failure := case.find("failure")) is not None
    }


def _summary(run_id: str) -> dict[str, Any]:
    events = read_events(runs_dir() / run_id)
    return next((event for event in events if event["event"] == "run_ended"), {})


def limit_of(summary: Mapping[str, Any], failed: Mapping[str, str]) -> str:
    """What gave, in words, from what the senders saw and what did not hold.

    Args:
        summary: The run's, as events.jsonl has it.
        failed: Checks that failed, and why.
    """
    name, detail = next(iter(failed.items()))
    what = f"{name} does not hold ({detail})"
    throttled, sent = summary.get("throttled", 0), max(1, summary.get("sent", 1))
    if throttled > THROTTLED * sent:
        shards = summary.get("shards") or {}
        return (
            f"the stream throttles {throttled / sent:.1%} of what is sent to its "
            f"{len(shards)} shards: {what}"
        )
    if summary.get("errors"):
        return f"the stream refuses or does not answer ({summary.get('last_error')}): {what}"
    late_ms = (summary.get("schedule_lag_ms") or {}).get("p99", 0.0)
    if late_ms > LATE_MS:
        return f"the senders do not keep up (schedule lag p99 {late_ms:,.0f} ms): {what}"
    return f"what comes after the stream does not keep up: {what}"
