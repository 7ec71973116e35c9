"""Checks a synthesized stack before anything is deployed: names, policies, encryption, alarms.

Works on Terraform JSON, whoever wrote the constructs that it came from.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from stack.preflight.access import check_access
from stack.preflight.alarms import check_alarms
from stack.preflight.document import Document, Finding, read_document
from stack.preflight.expressions import check_expressions
from stack.preflight.naming import check_names
from stack.preflight.protection import check_protection

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["Document", "Finding", "check", "read_document"]

RULES = (check_expressions, check_names, check_access, check_protection, check_alarms)


def check(folder: Path, environment: str) -> list[Finding]:
    """What is wrong with the stack in a synthesized folder; empty where nothing is.

    Args:
        folder: Where its `cdk.tf.json` lies.
        environment: The suffix that every name must carry.

    Raises:
        UsageError: there is no stack, or it is no Terraform JSON.
    """
    document = read_document(folder, environment)
    return [finding for rule in RULES for finding in rule(document)]
