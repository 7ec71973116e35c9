"""Account settings: the minimum throughput billing commitment, which unlocks warm throughput."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from localcloud.http import AwsError

if TYPE_CHECKING:
    from collections.abc import Callable

    from localcloud.kinesis.control import ControlPlane

COMMITTED_S = 86_400


class Account:
    """The commitment of one account, which lasts at least a day.

    Args:
        control: Is told whether the commitment holds.
    """

    def __init__(self, control: ControlPlane) -> None:
        self._control = control
        self._started_s: float | None = None
        self._ended_s: float | None = None
        self._ending = False

    def operations(self) -> dict[str, Callable[[dict[str, Any]], Any]]:
        """The operations by API name."""
        return {
            "DescribeAccountSettings": lambda _body: self._describe(),
            "UpdateAccountSettings": self._update,
        }

    def settle(self) -> None:
        """Ends a commitment whose end was asked for and whose day is over."""
        now_s = self._control.clock.epoch_s()
        if self._ending and self._started_s is not None and now_s >= self._started_s + COMMITTED_S:
            self._started_s, self._ended_s, self._ending = None, now_s, False
        self._control.committed = self._started_s is not None

    def _update(self, body: dict[str, Any]) -> dict[str, Any]:
        status = body["MinimumThroughputBillingCommitment"].get("Status")
        if status not in {"ENABLED", "DISABLED"}:
            raise AwsError("ValidationException", f"Status {status!r} is not ENABLED or DISABLED")
        if status == "ENABLED" and self._started_s is None:
            self._started_s, self._ended_s = self._control.clock.epoch_s(), None
        self._ending = status == "DISABLED" and self._started_s is not None
        return self._describe()

    def _describe(self) -> dict[str, Any]:
        self.settle()
        told: dict[str, Any] = {"Status": "DISABLED"}
        if self._started_s is not None:
            told = {
                "Status": "ENABLED_UNTIL_EARLIEST_ALLOWED_END" if self._ending else "ENABLED",
                "StartedAt": self._started_s,
                "EarliestAllowedEndAt": self._started_s + COMMITTED_S,
            }
        elif self._ended_s is not None:
            told["EndedAt"] = self._ended_s
        return {"MinimumThroughputBillingCommitment": told}
