"""The local cloud as a process of its own: start it, find it, stop it.

What is known of a running cloud lies in `cloud-PORT.json` in the state folder. A process is only
ever signalled when it is still the one that was started.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fleetcast.errors import TargetError, UsageError
from fleetcast.home import home
from fleetcast.target import LOCAL_HOST, local_port

if TYPE_CHECKING:
    from collections.abc import Iterator

START_S = 30.0
STOP_S = 20.0
HEALTH_S = 2.0
POLL_S = 0.05


@dataclass(frozen=True, slots=True)
class CloudInfo:
    """A running local cloud. `ours` is False where it ran before it was asked for."""

    port: int
    pid: int
    log: str
    ours: bool = True

    @property
    def endpoint_url(self) -> str:
        """Where it answers."""
        return f"http://{LOCAL_HOST}:{self.port}"


def free_port() -> int:
    """A port that nothing listens on now."""
    with socket.socket() as probe:
        probe.bind((LOCAL_HOST, 0))
        port: int = probe.getsockname()[1]
        return port


def start(port: int | None = None, *, iam: bool = True, data: Path | None = None) -> CloudInfo:
    """Starts the local cloud and waits until it serves; one that runs already is told as it is.

    Args:
        port: Where; `FLEETCAST_PORT` or 4566 if not given.
        iam: Whether it enforces policies.
        data: Folder that it goes on from and keeps everything in.

    Raises:
        UsageError: one runs already that does not keep its things there.
        TargetError: it did not start, or something else uses the port.
    """
    port = port or local_port()
    health = _health(port)
    if health is not None:
        _check_folder(port, data)
        return CloudInfo(port, health["pid"], str(_log_path(port)), ours=False)
    home().mkdir(parents=True, exist_ok=True)
    log = _log_path(port)
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as output:
        process = subprocess.Popen(  # noqa: S603 - our own module
            [
                *(sys.executable, "-m", "localcloud", "--port", str(port)),
                *(() if iam else ("--no-iam",)),
                *(() if data is None else ("--data", str(data.resolve()))),
            ],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    try:
        _wait_until_ready(process, port, log)
    except BaseException:
        _end(process.pid, port)
        process.wait()
        raise
    info = CloudInfo(port, process.pid, str(log))
    _info_path(port).write_text(json.dumps(asdict(info)) + "\n")
    return info


def _check_folder(port: int, data: Path | None) -> None:
    """Refuses a folder that the cloud that runs already does not keep its things in."""
    if data is None:
        return
    kept = (status(port).get("data") or {}).get("folder")
    if kept != str(data.resolve()):
        where = f"keeps everything in {kept}" if kept else "keeps everything in memory"
        raise UsageError(
            f"--data {data}: the local cloud on {LOCAL_HOST}:{port} {where}; stop it first"
        )


def stop(port: int | None = None) -> bool:
    """Stops the local cloud on a port; False where there is none."""
    port = port or local_port()
    health = _health(port)
    pid = health["pid"] if health else _remembered_pid(port)
    _info_path(port).unlink(missing_ok=True)
    if pid is None or not _is_cloud(pid, port):
        return False
    _end(pid, port)
    return True


def status(port: int | None = None) -> dict[str, Any]:
    """What the local cloud tells of itself; `{"running": False}` where there is none."""
    port = port or local_port()
    told = _get(port, "status")
    return {"running": False, "port": port} if told is None else {"running": True, **told}


def admin(port: int | None, method: str, page: str, body: Any = None) -> Any:
    """What the admin API of the local cloud answers.

    Args:
        port: Of the cloud; `FLEETCAST_PORT` or 4566 if not given.
        method: HTTP method.
        page: Path after `/_fleetcast/`.
        body: A JSON value to send.

    Raises:
        UsageError: it refuses what is asked.
        TargetError: no local cloud answers.
    """
    port = port or local_port()
    try:
        return _ask(port, method, page, body)
    except urllib.error.HTTPError as error:
        try:
            text = json.loads(error.read())["error"]
        except (OSError, ValueError, KeyError, TypeError):
            text = f"the local cloud answers {error.code}"
        raise UsageError(text) from error
    except (OSError, ValueError) as error:
        raise TargetError(
            f"no local cloud on {LOCAL_HOST}:{port}: run fleetcast cloud start"
        ) from error


def describe(report: dict[str, Any]) -> list[str]:
    """A status in lines for a person."""
    if not report.get("running"):
        return [f"no local cloud on {LOCAL_HOST}:{report['port']}: run fleetcast cloud start"]
    lines = [
        (
            f"local cloud {report['version']} on {report['endpoint_url']}, pid {report['pid']}, "
            f"up {report['uptime_s']:.0f} s, {report['memory_mib']} MiB "
            f"({report['max_memory_mib']} at most), {report['cpu_s']} CPU s"
        )
    ]
    enforced = "enforced" if report["iam"]["enforced"] else "not enforced (--no-iam)"
    lines.append(f"  IAM and key policies: {enforced}, {report['iam']['denied']} requests denied")
    data = report["data"]
    lines.append(
        "  kept in memory alone"
        if data is None
        else f"  kept in {data['folder']}: {data['mib']} MiB, "
        f"{data['requests_made_again']} requests made again at the start"
    )
    for consumer in report["backlog"]:
        waits = ", ".join(f"{value} {unit}" for unit, value in consumer["waiting"].items())
        lines.append(f"  backlog of {consumer['consumer']}: {waits}")
    lines += [f"  fault {describe_fault(fault)}" for fault in report["faults"]]
    for name, told in report["services"].items():
        rest = {key: value for key, value in told.items() if key != "unsupported"}
        lines.append(f"  {name}: {json.dumps(rest)}")
        if told.get("unsupported"):
            lines.append(f"    not served: {', '.join(told['unsupported'])}")
    lines.append(f"  others: {report['by_moto']}")
    lines += [f"  not served: {text}" for text in report["unsupported"]]
    return lines


def describe_fault(fault: dict[str, Any]) -> str:
    """A fault, as the admin API tells it, in a line for a person."""
    words = [f"{fault['id']}: {fault['kind']} on {fault['service']}:{fault['operation']}"]
    words += [
        f"{name} {'-'.join(map(str, value)) if isinstance(value, list) else value}"
        for name in ("code", "status", "latency_ms", "records", "calls")
        if (value := fault.get(name)) is not None
    ]
    if fault["share"] < 1:
        words.append(f"share {fault['share']}")
    if fault.get("ends_in_s") is not None and fault.get("state", "active") != "ended":
        words.append(f"ends in {fault['ends_in_s']:.0f} s")
    words.append(f"{fault.get('state', 'active')}, fired {fault['fired']}")
    return ", ".join(words)


@contextmanager
def running(
    port: int | None = None, *, keep: bool = False, iam: bool = True
) -> Iterator[CloudInfo]:
    """A local cloud for the time of a block: one that runs already, or one of its own.

    Args:
        port: Where; `FLEETCAST_PORT` or 4566 if not given.
        keep: Leaves a cloud that was started here running.
        iam: Whether one of its own enforces policies.

    Raises:
        TargetError: it did not start.
    """
    info = start(port, iam=iam)
    try:
        yield info
    finally:
        if info.ours and not keep:
            stop(info.port)


def _wait_until_ready(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline:
        if process.poll() is not None:
            lines = log.read_text(errors="replace").strip().splitlines() or ["no output"]
            raise TargetError(f"the local cloud did not start: {lines[-1]} (log: {log})")
        health = _health(port)
        if health is not None and health["pid"] == process.pid:
            if health["ready"]:
                return
            if health.get("restoring"):
                # As long as it takes: it tells that it is at it.
                deadline = time.monotonic() + START_S
        time.sleep(POLL_S)
    raise TargetError(f"the local cloud did not start within {START_S:.0f} s (log: {log})")


def _end(pid: int, port: int) -> None:
    """Ends a cloud: asks first, and insists when it does not end."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGTERM)
    deadline = time.monotonic() + STOP_S
    while time.monotonic() < deadline:
        with contextlib.suppress(ChildProcessError):
            os.waitpid(pid, os.WNOHANG)
        if not _is_cloud(pid, port):
            return
        time.sleep(POLL_S)
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


def _is_cloud(pid: int, port: int) -> bool:
    """Whether a process is a local cloud on that port."""
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except OSError:
        if sys.platform == "linux":
            return False
        found = subprocess.run(  # noqa: S603
            ["ps", "-o", "command=", "-p", str(pid)],  # noqa: S607
            capture_output=True,
            check=False,
        )
        words = found.stdout.split()
    return b"localcloud" in words and str(port).encode() in words


def _remembered_pid(port: int) -> int | None:
    try:
        pid: int = json.loads(_info_path(port).read_text())["pid"]
    except (OSError, ValueError, KeyError):
        return None
    return pid


def _health(port: int) -> dict[str, Any] | None:
    return _get(port, "health")


def _get(port: int, page: str) -> dict[str, Any] | None:
    """An admin page, or None where no local cloud answers on the port."""
    try:
        told = _ask(port, "GET", page)
    except (OSError, ValueError):
        return None
    return told if isinstance(told, dict) and "pid" in told else None


def _ask(port: int, method: str, page: str, body: Any = None) -> Any:
    """The JSON that the admin API answers with."""
    request = urllib.request.Request(
        f"http://{LOCAL_HOST}:{port}/_fleetcast/{page}",
        method=method,
        data=None if body is None else json.dumps(body).encode(),
        headers={"Content-Type": "application/json"},
    )
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(request, timeout=HEALTH_S) as answer:
        return json.loads(answer.read())


def _info_path(port: int) -> Path:
    return home() / f"cloud-{port}.json"


def _log_path(port: int) -> Path:
    return home() / f"cloud-{port}.log"
