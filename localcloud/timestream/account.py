"""Settings of the account: how queries are paid for, and how many compute units they may take at most.

Follows UpdateAccountSettings and "Timestream Compute Unit (TCU)". They bound nothing here: a query has
what the machine has.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from localcloud.http import AwsError

if TYPE_CHECKING:
    from collections.abc import Callable

DEFAULT_TCU = 200
MIN_TCU = 4
MAX_TCU = 1000
STEP_TCU = 4
# What accounts have had from the first since 2024-04-29, and what no account can leave again.
MODEL = "COMPUTE_UNITS"


class AccountSettings:
    """The settings of the one account that there is."""

    def __init__(self) -> None:
        self._max_tcu = DEFAULT_TCU

    def operations(self) -> dict[str, Callable[[dict[str, Any]], dict[str, Any]]]:
        """What answers each operation."""
        return {"DescribeAccountSettings": self._describe, "UpdateAccountSettings": self._update}

    def _describe(self, _: dict[str, Any]) -> dict[str, Any]:
        return {"MaxQueryTCU": self._max_tcu, "QueryPricingModel": MODEL}

    def _update(self, body: dict[str, Any]) -> dict[str, Any]:
        if "QueryCompute" in body:
            raise AwsError(
                "ValidationException",
                "QueryCompute is not supported by the local Timestream; AWS has it in ap-south-1 only.",
            )
        if body.get("QueryPricingModel", MODEL) != MODEL:
            raise AwsError(
                "ValidationException",
                f"QueryPricingModel must be {MODEL}: an account cannot go back to bytes scanned.",
            )
        wanted = body.get("MaxQueryTCU", self._max_tcu)
        if not MIN_TCU <= wanted <= MAX_TCU or wanted % STEP_TCU:
            raise AwsError(
                "ValidationException",
                f"MaxQueryTCU must be a multiple of {STEP_TCU} from {MIN_TCU} to {MAX_TCU}.",
            )
        self._max_tcu = wanted
        return self._describe(body)
