"""The faults that are there: which of them a call meets, and how often each fired."""

from __future__ import annotations

import asyncio
import datetime as dt
import itertools
import random
import secrets
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from localcloud.faults.spec import FaultSpec, Kind

MAX_FAULTS = 1000


@dataclass(slots=True)
class Fault:
    """One fault and what it did. Times of its own are monotonic seconds."""

    id: str
    spec: FaultSpec
    seed: int
    begins_s: float
    ends_s: float | None
    added: dt.datetime
    matched: int = 0
    fired: int = 0
    not_applied: int = 0
    cleared: bool = False
    over: asyncio.Event = field(default_factory=asyncio.Event)
    draws: random.Random = field(init=False)

    def __post_init__(self) -> None:
        self.draws = random.Random(self.seed)  # noqa: S311 - reproducible on purpose

    def state(self, now_s: float) -> str:
        """waiting, active or ended."""
        spent = self.spec.calls is not None and self.fired >= self.spec.calls
        if self.cleared or spent or (self.ends_s is not None and now_s >= self.ends_s):
            return "ended"
        return "waiting" if now_s < self.begins_s else "active"

    def strikes(self) -> bool:
        """Whether it happens to the call that it has just met; counts the call."""
        self.matched += 1
        if self.spec.share < 1 and self.draws.random() >= self.spec.share:
            return False
        self.fired += 1
        return True

    def latency_s(self) -> float:
        """How long this call is delayed."""
        latency = self.spec.latency_ms
        if isinstance(latency, tuple):
            return self.draws.uniform(*latency) / 1000
        return (latency or 0.0) / 1000

    def describe(self, now_s: float) -> dict[str, Any]:
        """The fault as the admin API tells it."""
        return {
            "id": self.id,
            **self.spec.model_dump(exclude_none=True),
            "seed": self.seed,
            "state": self.state(now_s),
            "added": self.added.isoformat(timespec="milliseconds"),
            "ends_in_s": None if self.ends_s is None else round(max(0.0, self.ends_s - now_s), 3),
            "matched": self.matched,
            "fired": self.fired,
            "not_applied": self.not_applied,
        }


class FaultBoard:
    """All faults of one cloud, in the order in which they were added.

    Args:
        clock: Monotonic seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._faults: dict[str, Fault] = {}
        self._ids = itertools.count(1)
        # What may still strike, by service: the only thing that a call without a fault looks at.
        self.by_service: dict[str, list[Fault]] = {}

    def add(self, spec: FaultSpec) -> Fault:
        """Adds a fault; it begins `after_s` from now.

        Raises:
            ValueError: there are too many.
        """
        if len(self._faults) >= MAX_FAULTS:
            raise ValueError(f"there are {MAX_FAULTS} faults: clear some")
        begins_s = self._clock() + spec.after_s
        fault = Fault(
            f"f-{next(self._ids)}",
            spec,
            secrets.randbelow(2**31) if spec.seed is None else spec.seed,
            begins_s,
            None if spec.for_s is None else begins_s + spec.for_s,
            dt.datetime.now(dt.UTC),
        )
        self._faults[fault.id] = fault
        self.by_service.setdefault(spec.service, []).append(fault)
        return fault

    def get(self, fault_id: str) -> Fault | None:
        """The fault of that id."""
        return self._faults.get(fault_id)

    def clear(self, fault_id: str | None = None) -> list[str]:
        """Removes one fault, or all; returns the ids of what was there."""
        removed = [f for f in self._faults.values() if fault_id in (None, f.id)]
        for fault in removed:
            fault.cleared = True
            self._end(fault)
            del self._faults[fault.id]
        return [fault.id for fault in removed]

    def describe(self) -> list[dict[str, Any]]:
        """Every fault with its state and counts."""
        now_s = self._clock()
        return [fault.describe(now_s) for fault in self._faults.values()]

    def active(self) -> list[dict[str, Any]]:
        """Those that strike now, in short."""
        now_s = self._clock()
        names = ("id", "service", "operation", "kind", "share", "fired", "ends_in_s")
        described = (f.describe(now_s) for f in self._faults.values() if f.state(now_s) == "active")
        return [{name: told[name] for name in names} for told in described]

    def strike(
        self, service: str, operation: str, kinds: Collection[Kind] | None = None
    ) -> list[Fault]:
        """The faults that happen to one call: every latency, and at most one other, the oldest.

        Args:
            service: Signing name.
            operation: API name.
            kinds: Looks at these alone.
        """
        now_s = self._clock()
        struck: list[Fault] = []
        decided = False
        for fault in tuple(self.by_service.get(service, ())):
            state = fault.state(now_s)
            if state == "ended":
                self._end(fault)
                continue
            delays = fault.spec.kind == "latency"
            if (
                state == "waiting"
                or fault.spec.operation not in {"*", operation}
                or (kinds is not None and fault.spec.kind not in kinds)
                or (decided and not delays)
            ):
                continue
            if fault.strikes():
                struck.append(fault)
                decided = decided or not delays
        return struck

    async def wait_until_over(self, fault: Fault) -> None:
        """Waits until a fault's time has passed or it is cleared."""
        left_s = None if fault.ends_s is None else max(0.0, fault.ends_s - self._clock())
        try:
            await asyncio.wait_for(fault.over.wait(), left_s)
        except TimeoutError:
            return

    def _end(self, fault: Fault) -> None:
        if fault.cleared:
            fault.over.set()
        remaining = [f for f in self.by_service.get(fault.spec.service, ()) if f is not fault]
        if remaining:
            self.by_service[fault.spec.service] = remaining
        else:
            self.by_service.pop(fault.spec.service, None)
