"""What a deliverer handles: an event on its way to one plugin, and the order in which such events are settled."""

from __future__ import annotations

from typing import Literal

from gateway.events import Event
from gateway.journal.interface import Parked

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
    """The events between a position that is settled and the newest that was read; `size` is their bytes."""

    def __init__(self, position: int) -> None:
        self.position = position
        self.size = 0
        self._sizes: dict[int, int] = {}
        """By position, in order; the complement of its size for an event that is settled."""

    def __len__(self) -> int:
        return len(self._sizes)

    def add(self, seq: int, size: int) -> None:
        self._sizes[seq] = size
        self.size += size

    def settle(self, seq: int) -> None:
        """This event needs the window no more: it was delivered and is durable, or it is parked."""
        if self.is_open(seq):
            self._sizes[seq] = ~self._sizes[seq]

    def is_open(self, seq: int) -> bool:
        return self._sizes.get(seq, -1) >= 0

    def advance(self) -> int:
        """Move the position over all that is settled without a gap; returns how many events that were."""
        count = 0
        for seq, size in self._sizes.items():
            if size >= 0:
                break
            self.position = seq
            self.size -= ~size
            count += 1
        if count == len(self._sizes):
            self._sizes.clear()
        else:
            for seq in list(self._sizes)[:count]:
                del self._sizes[seq]
        return count
