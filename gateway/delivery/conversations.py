"""The order in which one plugin gets its events: queues by conversation, and retries by time.

Events of a conversation that are not with the plugin stand in its queue, in order of position. Behind a parked one, all
are `WAITING`. Only the first can be `RETRYING` or `FETCHING`, and only once the live log has been read past it: until
then an earlier event may come that a crash or a failed checkpoint has brought back.
"""

from __future__ import annotations

import asyncio
import heapq
from collections import deque
from collections.abc import Callable, Collection, Iterator
from itertools import count, islice
from typing import Final

from gateway.delivery.items import Conversation, Item
from gateway.delivery.parked import ParkedEvents
from gateway.delivery.retry import RetryPolicy
from gateway.delivery.state import State
from gateway.journal.interface import WAITING

LOADED: Final = 256
"""Parked events in memory at most; the others wait in the journal although they are due."""


class Conversations:
    """The queues of one plugin. `Machine` is its only user."""

    def __init__(
        self, position: int, parked: ParkedEvents, policy: RetryPolicy, clock: Callable[[], float], ready: asyncio.Event
    ) -> None:
        self.position = position
        """How far the live log has been read."""
        self.scheduled = asyncio.Event()
        """The next event that is to be retried may be another one."""
        self._ready = ready
        self._parked = parked
        self._policy = policy
        self._clock = clock
        self._loop = asyncio.get_running_loop()
        self._by_key: dict[str, Conversation] = {}
        self._ready_queue: deque[Conversation | Item] = deque()
        """Events without a conversation, and conversations whose first event is queued and has none running."""
        self._due: list[tuple[float, int, Item]] = []
        self._number = count()
        self._loaded: set[Item] = set()

    def __iter__(self) -> Iterator[Item]:
        """Every event that is in a queue."""
        for conversation in self._by_key.values():
            yield from conversation.queue
        for head in self._ready_queue:
            if isinstance(head, Item) and head.state is State.QUEUED:
                yield head

    def clear(self, position: int) -> None:
        """Forget everything; the live log is read again from a position on."""
        self.position = position
        self._by_key.clear()
        self._ready_queue.clear()
        self._due.clear()
        self._loaded.clear()

    # In

    def append(self, item: Item) -> None:
        """Queue an event that was read."""
        if item.key is None:
            self._list(item)
            return
        conversation = self.join(item, item.key)
        if conversation.parked:
            self.place(item, conversation)
            self.go_on(conversation)
            return
        item.move_to(State.QUEUED)
        conversation.queue.append(item)
        if not (conversation.listed or conversation.running):
            self._list(conversation)

    def join(self, item: Item, key: str) -> Conversation:
        """Make an event one of its conversation."""
        conversation = self._by_key.get(key)
        if conversation is None:
            conversation = self._by_key[key] = Conversation(key)
        item.conversation = conversation
        return conversation

    def take_up(self, item: Item, key: str | None) -> None:
        """Add an event that is parked in the journal."""
        if key is None:
            item.move_to(State.WAITING)
        else:
            conversation = self.join(item, key)
            conversation.parked += 1
            self.place(item, conversation)
        self.reach(item)

    def place(self, item: Item, conversation: Conversation, pause: float | None = None) -> None:
        """Put an event among those of its conversation, and in the state that this place means. `pause` is given, in
        seconds, for one that is to be retried. `go_on` must follow."""
        queue = conversation.queue
        index = len(queue)
        while index and queue[index - 1].seq > item.seq:
            index -= 1
        before = queue[index - 1] if index else None
        queue.insert(index, item)
        if pause is not None and before is None and not conversation.running:
            self.retry(item, pause)
        elif item.event is not None and pause is None and not self._is_behind(conversation, before):
            if item.state is not State.QUEUED:
                item.move_to(State.QUEUED)
        else:
            self.wait(item)
        if item.row is not None:
            self.hold(conversation, index + 1)

    def _is_behind(self, conversation: Conversation, before: Item | None) -> bool:
        """Whether an event after `before` has to wait, because that one is parked, or one that is with the plugin."""
        if before is not None:
            return before.row is not None
        return conversation.running > 0 and conversation.parked > sum(
            item.row is not None for item in conversation.queue
        )

    def hold(self, conversation: Conversation, start: int = 0) -> None:
        """Let those from an index on wait: one before them is parked."""
        for item in islice(conversation.queue, start, None):
            if item.state is State.WAITING:
                break  # and so are all behind it
            self.wait(item)

    def wait(self, item: Item) -> None:
        """Park an event until it is its turn."""
        if item.row is None:
            self._parked.park(item, WAITING)
        item.move_to(State.WAITING)
        self.unload(item)

    # On

    def reach(self, item: Item) -> None:
        """The live log has been read up to this parked event, or it was just taken up."""
        if item.conversation is not None:
            self.go_on(item.conversation)
        elif item.state is State.WAITING and item.seq <= self.position:
            self.retry(item)

    def go_on(self, conversation: Conversation) -> None:
        """If nothing of a conversation is with the plugin, it is the turn of its first event."""
        if conversation.running:
            return
        if not conversation.queue:
            self._by_key.pop(conversation.key, None)
            return
        first = conversation.queue[0]
        if first.state is State.QUEUED and not conversation.listed:
            self._list(conversation)
        elif first.state is State.WAITING and first.seq <= self.position:
            self.retry(first)

    def _list(self, head: Conversation | Item) -> None:
        if isinstance(head, Item):
            head.move_to(State.QUEUED)
        else:
            head.listed = True
        self._ready_queue.append(head)
        self._ready.set()

    def retry(self, item: Item, pause: float | None = None) -> None:
        """Try a parked event again in `pause` seconds, or when its row says."""
        if pause is None:
            pause = 0.0 if item.row is None else self._policy.left(item.row, self._clock())
        item.move_to(State.RETRYING)
        item.due = self._loop.time() + pause
        heapq.heappush(self._due, (item.due, next(self._number), item))
        self.scheduled.set()

    # Out

    def next_item(self) -> Item | None:
        """The event that is to be handed out next."""
        while self._ready_queue:
            head = self._ready_queue[0]
            if isinstance(head, Item):
                if head.state is State.QUEUED:
                    return head
            elif head.queue and head.queue[0].state is State.QUEUED and not head.running:
                return head.queue[0]
            else:
                head.listed = False
            self._ready_queue.popleft()
        return None

    def prefer(self, failed: bool) -> None:
        """Bring the next event forward that has failed before, or has not, if there is one."""
        for _ in range(len(self._ready_queue)):
            item = self.next_item()
            if item is None or (item.row is not None and item.row.attempts > 0) == failed:
                return
            self._ready_queue.rotate(-1)

    def take(self, most: int) -> list[Item]:
        """Hand out at most `most` events, a careful one alone."""
        items: list[Item] = []
        while len(items) < most and (item := self.next_item()) is not None:
            if item.careful:
                if items:
                    break
                most = 1
            head = self._ready_queue.popleft()
            if isinstance(head, Item):
                head.move_to(State.RUNNING)
                items.append(head)
                continue
            head.listed, queue = False, head.queue
            while queue and len(items) < most and queue[0].state is State.QUEUED and not (items and queue[0].careful):
                item = queue.popleft()
                item.move_to(State.RUNNING)
                head.running += 1
                items.append(item)
        return items

    def put_back(self, item: Item) -> None:
        """Queue an event without a conversation before all others: it was not attempted."""
        item.move_to(State.QUEUED)
        self._ready_queue.appendleft(item)

    def next_due(self) -> float | None:
        """When the next event is due, by the event loop's clock; None also while there is no room for one."""
        return self._due[0][0] if self._due and len(self._loaded) < LOADED else None

    def take_due(self, most: int) -> list[Item]:
        """At most `most` events whose time has come, to be read again."""
        items: list[Item] = []
        while len(items) < most and (due := self.next_due()) is not None and due <= self._loop.time():
            _, _, item = heapq.heappop(self._due)
            if item.state is State.RETRYING and item.due == due:
                item.move_to(State.FETCHING)
                self._loaded.add(item)
                items.append(item)
        return items

    def load(self, item: Item) -> None:
        """An event that was due has been read again."""
        if item.conversation is None:
            self._list(item)
        else:
            item.move_to(State.QUEUED)
            self.go_on(item.conversation)

    def unload(self, item: Item) -> None:
        """An event is not needed in memory."""
        item.event = None
        if item in self._loaded:
            self._loaded.remove(item)
            self.scheduled.set()

    def leave(self, item: Item) -> None:
        """An event has left its conversation: it was taken, is dead or gone. `go_on` must follow."""
        self.unload(item)
        conversation = item.conversation
        if conversation is not None and item.row is not None:
            conversation.parked -= 1
        if conversation is not None and conversation.queue and conversation.queue[0] is item:
            conversation.queue.popleft()

    def withdraw(self, items: Collection[Item], state: State) -> None:
        """Take events out that are not with the plugin: they go to this state, and others take their turn."""
        gone, touched = set(items), dict[Conversation, None]()
        for item in items:
            item.move_to(state)
            self.unload(item)
            if item.conversation is not None:
                item.conversation.parked -= item.row is not None
                touched[item.conversation] = None
        for conversation in touched:
            conversation.queue = deque(item for item in conversation.queue if item not in gone)
            self.go_on(conversation)
