"""What the machine keeps of events: items, their conversations, batches and windows."""

from __future__ import annotations

from collections import deque

from gateway.delivery.state import TRANSITIONS, State
from gateway.events import Event
from gateway.journal.attempts import Attempt
from gateway.journal.interface import Parked


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
        """This event no longer needs the window: it is settled, or parked."""
        size = self._sizes.get(seq, -1)
        if size >= 0:
            self._sizes[seq] = ~size

    def drop(self, seq: int) -> None:
        """This event was not handed out, and is not going to be."""
        size = self._sizes.pop(seq, 0)
        self.size -= max(0, size)

    def advance(self) -> int:
        """Move the position over all that is settled without a gap; returns over how many events."""
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


class Conversation:
    """The events of one conversation that are not with the plugin, in order of position; how many events are with the
    plugin; how many of all of these are parked; and whether the conversation is listed as ready."""

    __slots__ = ("key", "listed", "parked", "queue", "running")

    def __init__(self, key: str) -> None:
        self.key = key
        self.queue: deque[Item] = deque()
        self.running = 0
        self.parked = 0
        self.listed = False


class Item:
    """One event on its way to one plugin. `key` names its conversation.

    `row` is set once it is parked; an item that is parked and not with the plugin holds no `event`. `window` is the
    one that it keeps open, until it is parked or settled. A `careful` item might kill the process, and is delivered
    singly. `due` is when a retrying item is due, by the event loop's clock. `recovery` is the attempt with which a
    parked event succeeded.

    Of its attempts: `failures` counts those of this process. `mark` is how many events the plugin had taken at the last
    one, and `counted_at` when one last counted, by the event loop's clock. `works` is whether the plugin had taken
    another event between the last one and the present one."""

    __slots__ = (
        "careful", "conversation", "counted_at", "due", "event", "failures", "key", "mark", "recovery", "replay", "row",
        "seq", "state", "window", "works",
    )  # fmt: skip

    def __init__(
        self,
        seq: int,
        event: Event | None,
        key: str | None,
        window: Window | None = None,
        *,
        row: Parked | None = None,
        careful: bool = False,
        replay: bool = False,
    ) -> None:
        self.seq = seq
        self.event = event
        self.key = key
        self.window = window
        self.row = row
        self.careful = careful
        self.replay = replay
        self.state = State.UNREAD
        self.due = 0.0
        self.failures = 0
        self.mark = 0
        self.counted_at = 0.0
        self.works = False
        self.conversation: Conversation | None = None
        self.recovery: Attempt | None = None

    def move_to(self, state: State) -> None:
        """Change the state, as far as `TRANSITIONS` has it."""
        if (self.state, state) not in TRANSITIONS:
            raise RuntimeError(f"event {self.seq} cannot go from {self.state} to {state}")
        self.state = state

    def close(self) -> None:
        """The window is no longer kept open for this event."""
        if self.window is not None:
            self.window.settle(self.seq)
            self.window = None


class Batch:
    """Events that are handed to the plugin together; `began` is by the event loop's clock."""

    __slots__ = ("began", "items")

    def __init__(self, items: list[Item], began: float) -> None:
        self.items = items
        self.began = began
