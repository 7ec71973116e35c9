"""Writes a folder that Grafana can be started with: data sources, dashboards, and where they lie.

Files: "Provision Grafana" of Grafana's documentation.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import yaml

from dashboards.grafana.boards import boards
from dashboards.grafana.panels import CLOUDWATCH, TIMESTREAM
from fleetcast.errors import UsageError
from fleetcast.target import LOCAL_ACCESS_KEY, LOCAL_SECRET_KEY
from stack.names import Names

if TYPE_CHECKING:
    from pathlib import Path

    from fleetcast.target import Target
    from stack.config import StackConfig

# Where Grafana sees the folder: a container mounts it there.
MOUNTED = "/etc/grafana/fleetcast"


def datasources(config: StackConfig, target: Target) -> dict[str, Any]:
    """The provisioning file of the two data sources."""
    names = Names(config.environment)
    shared: dict[str, Any] = {"defaultRegion": config.region, "authType": "default"}
    secrets: dict[str, Any] = {}
    if target.endpoint_url is not None:
        # Any key pair is good for the local cloud.
        shared |= {"authType": "keys", "endpoint": target.endpoint_url}
        secrets = {"secureJsonData": {"accessKey": LOCAL_ACCESS_KEY, "secretKey": LOCAL_SECRET_KEY}}
    timeseries = {
        **shared,
        # The plugin puts these into queries as they are.
        "defaultDatabase": f'"{names("telemetry")}"',
        "defaultTable": f'"{names("readings")}"',
        "defaultMeasure": "reading",
    }
    return {
        "apiVersion": 1,
        "datasources": [
            {"name": "fleetcast Timestream", **TIMESTREAM, "access": "proxy",
             "jsonData": timeseries, **secrets},
            {"name": "fleetcast CloudWatch", **CLOUDWATCH, "access": "proxy",
             "jsonData": shared, **secrets},
        ],
    }  # fmt: skip


def providers() -> dict[str, Any]:
    """The provisioning file that says where dashboards lie."""
    return {
        "apiVersion": 1,
        "providers": [
            {
                "name": "fleetcast", "folder": "fleetcast", "type": "file",
                "options": {"path": f"{MOUNTED}/dashboards"},
            }
        ],
    }  # fmt: skip


def write(config: StackConfig, target: Target, folder: Path) -> list[Path]:
    """Writes everything for an environment.

    Returns:
        The files.

    Raises:
        UsageError: the folder cannot be written to.
    """
    files = {
        "provisioning/datasources/fleetcast.yaml": _yaml(datasources(config, target)),
        "provisioning/dashboards/fleetcast.yaml": _yaml(providers()),
    }
    for name, made in boards(config).items():
        files[f"dashboards/{name}.json"] = json.dumps(made, indent=1, sort_keys=True) + "\n"
    written = []
    for name, text in files.items():
        path = folder / name
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
        except OSError as error:
            raise UsageError(f"cannot write {path}: {error.strerror}") from error
        written.append(path)
    return written


def _yaml(value: dict[str, Any]) -> str:
    text: str = yaml.safe_dump(value, sort_keys=False)
    return text
