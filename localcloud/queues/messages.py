"""Messages of a standard queue, so kept that a call costs the same however many there are."""

from __future__ import annotations

import heapq
import itertools
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from collections.abc import Iterator

State = Literal["visible", "delayed", "received", "gone"]
# Handles whose second deletion is still known to be one.
_DELETED_KEPT = 100_000


@dataclass(slots=True, eq=False)
class Entry:
    """A message in its queue.

    Attributes:
        message: moto's.
        state: Where it is.
        in_line: Whether it stands in the line of visible messages, perhaps for nothing.
        due_ms: When it becomes visible, where it is not.
        handles: Receipt handles that it was ever given out with.
    """

    message: Any
    state: State = "visible"
    in_line: bool = False
    due_ms: float = 0.0
    handles: list[str] = field(default_factory=list)


class Messages:
    """The messages of one standard queue, in the order in which they became visible.

    Attributes:
        counts: How many there are in each state.
    """

    def __init__(self) -> None:
        self.counts: dict[str, int] = {"visible": 0, "delayed": 0, "received": 0, "gone": 0}
        self._visible: deque[Entry] = deque()
        self._later: list[tuple[float, int, Entry]] = []
        self._numbers = itertools.count()
        self._by_handle: dict[str, Entry] = {}
        self._deleted: dict[str, None] = {}

    def add(self, message: Any, now_ms: float) -> None:
        """Takes a message; it is delayed as it says."""
        entry = Entry(message)
        self.counts["visible"] += 1
        if message.delayed_until > now_ms:
            self._hide(entry, "delayed", message.delayed_until)
        else:
            self._line_up(entry)

    def settle(self, now_ms: float) -> None:
        """Makes visible what is due."""
        while self._later and self._later[0][0] <= now_ms:
            due_ms, _, entry = heapq.heappop(self._later)
            if entry.due_ms == due_ms and entry.state in ("delayed", "received"):
                self._become(entry, "visible")
                self._line_up(entry)

    def next_due_ms(self) -> float | None:
        """When the next message may become visible by itself."""
        return self._later[0][0] if self._later else None

    def take(self) -> Entry | None:
        """The next visible message, out of its line; to be received or dropped."""
        while self._visible:
            entry = self._visible.popleft()
            entry.in_line = False
            # What was deleted, or hidden again by a handle, is only skipped when its turn comes.
            if entry.state == "visible":
                return entry
        return None

    def receive(self, entry: Entry, visibility_s: int) -> None:
        """Hands a message out that was taken; without a time-out it stays visible."""
        message = entry.message
        message.mark_received(visibility_timeout=visibility_s)
        entry.handles.append(message.receipt_handle)
        self._by_handle[message.receipt_handle] = entry
        if visibility_s:
            self._hide(entry, "received", message.visible_at)
        else:
            self._line_up(entry)

    def drop(self, entry: Entry) -> None:
        """Forgets a message."""
        self._become(entry, "gone")
        for handle in entry.handles:
            self._by_handle.pop(handle, None)

    def by_handle(self, handle: str) -> Entry | None:
        """The message that was received with this handle, or ever was."""
        return self._by_handle.get(handle)

    def delete(self, handle: str) -> bool:
        """Deletes by a handle; False where it is none. Twice is as good as once."""
        entry = self._by_handle.get(handle)
        if entry is None:
            return handle in self._deleted
        self._deleted.update(dict.fromkeys(entry.handles))
        while len(self._deleted) > _DELETED_KEPT:
            del self._deleted[next(iter(self._deleted))]
        self.drop(entry)
        return True

    def show_at(self, entry: Entry, due_ms: float, now_ms: float) -> None:
        """Changes when a message becomes visible."""
        if due_ms > now_ms:
            self._hide(entry, "received", due_ms)
        elif entry.state != "visible":
            self._become(entry, "visible")
            self._line_up(entry)

    def clear(self) -> None:
        """Drops all messages."""
        for entry in list(self):
            self.drop(entry)

    def __iter__(self) -> Iterator[Entry]:
        yield from [entry for entry in self._visible if entry.state == "visible"]
        for due_ms, _, entry in list(self._later):
            if entry.due_ms == due_ms and entry.state in ("delayed", "received"):
                yield entry

    def _line_up(self, entry: Entry) -> None:
        if not entry.in_line:
            entry.in_line = True
            self._visible.append(entry)

    def _hide(self, entry: Entry, state: State, due_ms: float) -> None:
        self._become(entry, state)
        entry.due_ms = due_ms
        heapq.heappush(self._later, (due_ms, next(self._numbers), entry))

    def _become(self, entry: Entry, state: State) -> None:
        self.counts[entry.state] -= 1
        self.counts[state] += 1
        entry.state = state
