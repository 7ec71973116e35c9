"""When a composite alarm's actions are held back by its suppressor: a pure state machine.

Follows "Suppressing composite alarm actions" of the CloudWatch user guide: on entering ALARM the
suppressor has the wait period to go into ALARM, too; while it is in ALARM, and for the extension
period after that, actions are held back. What was held back is made up for when that ends, for the
state that the composite alarm is in by then.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

By = Literal["WaitPeriod", "ExtensionPeriod", "Alarm"]


@dataclass(slots=True)
class Suppression:
    """Whether actions are suppressed, by what, and until when.

    Attributes:
        by: What suppresses; None for nothing.
        until_s: When a period ends, on the clock of the callers.
        owed: Whether there was a transition whose actions were held back.
    """

    by: By | None = None
    until_s: float = 0.0
    owed: bool = False

    def entered(
        self, state: str, *, suppressor_in_alarm: bool, wait_s: float, now_s: float
    ) -> bool:
        """The composite alarm entered a state; whether its actions are to be taken now."""
        if self.by == "WaitPeriod":
            # Whatever it waited for is over.
            self.by = None
        if suppressor_in_alarm:
            self.by = "Alarm"
        elif self.by is None and state == "ALARM" and wait_s > 0:
            self.by, self.until_s = "WaitPeriod", now_s + wait_s
        self.owed = self.by is not None
        return not self.owed

    def suppressor_changed(self, *, in_alarm: bool, extension_s: float, now_s: float) -> bool:
        """The suppressor changed its state; whether actions that were owed are to be taken now."""
        if in_alarm:
            self.by = "Alarm"
            return False
        if self.by != "Alarm":
            return False
        self.by, self.until_s = "ExtensionPeriod", now_s + extension_s
        return self.passed(now_s)

    def passed(self, now_s: float) -> bool:
        """Time has passed; whether actions that were owed are to be taken now."""
        if self.by not in {"WaitPeriod", "ExtensionPeriod"} or now_s < self.until_s:
            return False
        self.by = None
        owed, self.owed = self.owed, False
        return owed

    def lifted(self) -> bool:
        """There is no suppressor any more; whether actions that were owed are to be taken now."""
        self.by = None
        owed, self.owed = self.owed, False
        return owed
