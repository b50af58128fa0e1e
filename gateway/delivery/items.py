"""What a deliverer handles: an event on its way to one plugin, and the order in which such events are settled."""

from __future__ import annotations

from typing import Final, Literal

from gateway.events import Event
from gateway.journal import Parked

Key = str
"""What order is kept within: an organisation's conversation, as `organisation/conversation`."""

Origin = Literal["log", "parked", "replay"]


class Item:
    """One event on its way to one plugin. `row` is set when it is parked; a `careful` one might take the process
    down and is delivered singly."""

    __slots__ = ("careful", "event", "key", "origin", "row", "seq")

    def __init__(
        self, seq: int, event: Event, key: Key | None, origin: Origin, row: Parked | None = None, careful: bool = False
    ) -> None:
        self.seq = seq
        self.event = event
        self.key = key
        self.origin = origin
        self.row = row
        self.careful = careful


class Window:
    """The events between a position that is settled and the newest that was read."""

    _OPEN: Final = 0
    _PASSED: Final = 1

    def __init__(self, position: int) -> None:
        self.position = position
        self._states: dict[int, int] = {}

    def __len__(self) -> int:
        return len(self._states)

    def add(self, seq: int) -> None:
        self._states[seq] = self._OPEN

    def settle(self, seq: int) -> None:
        """This event needs the window no more: it was delivered and is durable, or it is parked."""
        if seq in self._states:
            self._states[seq] = self._PASSED

    def is_open(self, seq: int) -> bool:
        return self._states.get(seq) == self._OPEN

    def advance(self) -> int:
        """Move the position over all that is settled without a gap; returns how many events that were."""
        count = 0
        for seq, state in self._states.items():
            if state == self._OPEN:
                break
            self.position = seq
            count += 1
        if count == len(self._states):
            self._states.clear()
        else:
            for seq in list(self._states)[:count]:
                del self._states[seq]
        return count
