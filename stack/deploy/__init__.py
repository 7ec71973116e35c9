"""Deploys the stack: two engines behind one seam.

`builtin` applies the synthesized JSON to the local cloud through its APIs, in seconds; `terraform`
runs the real thing, on the local cloud or on AWS.
"""

from __future__ import annotations

from stack.deploy.engine import Engine, changes, choose_engine, deploy, destroy
from stack.deploy.options import AwsOptions

__all__ = ["AwsOptions", "Engine", "changes", "choose_engine", "deploy", "destroy"]
