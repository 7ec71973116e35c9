"""From a configuration to Terraform JSON: the same bytes each time, on any machine."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from stack.config import StackConfig

FILE_NAME = "cdk.tf.json"


def synthesize(config: StackConfig, out_dir: Path) -> Path:
    """Writes OUT_DIR/stacks/fleetcast-ENVIRONMENT/cdk.tf.json and the files that go with it.

    Returns:
        The stack's folder, which Terraform can be run in.

    Raises:
        UsageError: Node or the bindings are missing, or the constructs use them wrongly.
    """
    # These start Node and load the bindings.
    from stack.bindings import cdktf  # noqa: PLC0415
    from stack.telemetry import TelemetryStack  # noqa: PLC0415

    out_dir.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="fleetcast-build-") as build:
        app = cdktf.App(outdir=str(out_dir.absolute()))
        TelemetryStack(app, config, Path(build))
        app.synth()
    return out_dir.absolute() / "stacks" / f"fleetcast-{config.environment}"
