"""Where each event stands for one plugin: every change of an event's state begins here.

The machine does no input or output and has no tasks. The readers admit events, the dispatcher takes batches and reports
their outcomes, the retry loop takes what is due, the settler takes what the plugin took. Each waits for a signal of
its own: `conversations.scheduled`, `ready`, `unsettled`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final

import msgspec

from gateway.delivery.attempts import CountedAttempts
from gateway.delivery.conversations import Conversations
from gateway.delivery.crash_guard import CRASHES
from gateway.delivery.health import Health
from gateway.delivery.items import Batch, Conversation, Item
from gateway.delivery.parked import ParkedEvents
from gateway.delivery.retry import RetryPolicy
from gateway.delivery.state import State
from gateway.events import Event
from gateway.hookspecs import Retry
from gateway.journal.attempts import Attempt
from gateway.journal.interface import RETRYING, WAITING, Parked, Standing
from gateway.plugin_host.call import PluginFault, Stuck
from gateway.plugin_host.event_calls import SKIPPED, Outcome
from gateway.text import describe

SLOW: Final = 1.0
"""Seconds with the plugin after which an event no longer keeps the window open."""


class Machine:
    """All events between the journal and one plugin."""

    def __init__(
        self,
        standing: Standing,
        policy: RetryPolicy,
        health: Health,
        clock: Callable[[], float],
        buffers: bool = False,
    ) -> None:
        """`buffers` is whether the plugin has a checkpoint, so that what it takes is durable only after that."""
        self.ready = asyncio.Event()
        """There may be something to dispatch."""
        self.unsettled = asyncio.Event()
        """There may be something to settle."""
        self.attempts = CountedAttempts(policy)
        self.crashes = standing.crashes
        self.parked = ParkedEvents(clock, standing.parked, standing.dead_ahead)
        self.conversations = Conversations(standing.cursor, self.parked, policy, clock, self.ready)
        self.batches: set[Batch] = set()
        self._policy = policy
        self._health = health
        self._clock = clock
        self._loop = asyncio.get_running_loop()
        self._taken: list[Item] = []
        self._buffers = buffers
        self._proving = 0
        """How many events the plugin had taken when the settlement began."""
        now = clock()  # after an unclean end, what is due may have been with the plugin
        self.take_up(standing.parked, {r.seq for r in standing.parked if not standing.clean and r.next_at <= now})

    @property
    def idle(self) -> bool:
        """Whether every event that came is settled or a dead letter, and the journal is told so."""
        busy = self.parked.items or self.parked.unwritten or self.parked.wants_more or self.batches or self._taken
        return not busy and self.conversations.next_item() is None

    @property
    def cautious(self) -> bool:
        """Whether a parked event that might kill the process is still to be tried."""
        return any(item.careful for item in self.parked.items.values())

    # From the journal

    def reached(self, seq: int) -> bool:
        """The live log has been read up to this event. Returns whether it is parked or dead, and so not admitted."""
        self.conversations.position = seq
        item = self.parked.items.get(seq)
        if item is None:
            return seq in self.parked.dead_ahead
        self.conversations.reach(item)
        return True

    def passed(self, after: int, through: int) -> None:
        """The live log has been read from one position up to another, also where it gave no event."""
        self.conversations.position = through
        for seq in sorted(seq for seq in self.parked.items if after < seq <= through):
            self.conversations.reach(self.parked.items[seq])

    def admit(self, item: Item) -> None:
        """Add an event that was read."""
        if not (item.careful and self._has_killed(item)):
            self.conversations.append(item)

    def take_up(self, rows: Iterable[Parked], careful: Iterable[int] = ()) -> None:
        """Add parked events, those at `careful` positions to be delivered singly."""
        for row in rows:
            item = Item(row.seq, None, row.conversation, row=row, careful=row.seq in self.crashes or row.seq in careful)
            self.attempts.take_up(item, max(0.0, self._clock() - row.since), self._loop.time())
            self.parked.items[row.seq] = item
            self.parked.dead_ahead.discard(row.seq)
            self.conversations.take_up(item, row.conversation)

    def fetched(self, items: Sequence[Item], events: Mapping[int, Event]) -> None:
        """Parked events that were due have been read again, but for what the journal no longer has."""
        for item in items:
            row, event = item.row, events.get(item.seq)
            if item.state is not State.FETCHING or row is None:
                continue  # a checkpoint failed, or an earlier event of its conversation was taken up
            if event is None:
                item.move_to(State.SETTLED)
                self.parked.release(item)
                self.conversations.leave(item)
                self._go_on(item)
                continue
            item.event = msgspec.structs.replace(event, redelivered=True, replayed=row.replayed)
            if not (item.careful and self._has_killed(item)):
                self.conversations.load(item)

    # To the plugin and back

    def take(self, most: int) -> Batch | None:
        """Hand out at most `most` events, a careful one alone."""
        items = self.conversations.take(most)
        if not items:
            return None
        for item in items:
            if item.row is not None:
                self.attempts.begin(item, self._loop.time())
        batch = Batch(items, self._loop.time())
        self.batches.add(batch)
        return batch

    def over(self, batch: Batch, outcomes: Sequence[Outcome], seconds: Sequence[float]) -> None:
        """A batch has ended, with outcomes for those of its events that were begun, and how long each of them took."""
        if batch not in self.batches:
            return  # a checkpoint failed meanwhile: these events come again
        self.batches.remove(batch)
        touched: dict[Conversation, None] = {}
        for item in batch.items:
            if item.conversation is not None:
                item.conversation.running -= 1
                touched[item.conversation] = None
        if self._health.tracing is not None:
            calls = zip(batch.items, outcomes, seconds, strict=False)
            self._health.trace([(item.event, outcome, took) for item, outcome, took in calls if outcome is not SKIPPED])
        before = len(self._taken)
        back: list[Item] = []
        for index, item in enumerate(batch.items):
            outcome = outcomes[index] if index < len(outcomes) else SKIPPED
            if outcome is SKIPPED or isinstance(outcome, Stuck):
                back.append(item)
                if outcome is not SKIPPED:
                    self._health.blocked = describe(outcome)
                continue
            self._health.calls.observe(seconds[index])
            if outcome is None:
                number = 0 if item.event is None else item.event.attempt
                item.move_to(State.TAKEN)
                self.attempts.taken += 1
                self._taken.append(item)
                if item.row is not None:
                    self.conversations.leave(item)
                    item.recovery = self._attempt(item, number, seconds[index])
            else:
                self._failed(item, outcome, seconds[index])
        if len(self._taken) > before:
            self._health.succeeded(len(self._taken) - before)
            if not self._buffers:
                self._prove(self.attempts.taken)
        for item in reversed(back):
            if item.conversation is None:
                self.conversations.put_back(item)
        for item in back:
            if item.conversation is not None:
                self.conversations.place(item, item.conversation)
        for conversation in touched:
            self.conversations.go_on(conversation)
        self.ready.set()
        self.unsettled.set()

    def _attempt(self, item: Item, number: int, seconds: float | None, error: str = "") -> Attempt:
        return Attempt(item.seq, number, self._clock(), None if seconds is None else round(seconds * 1000, 2), error)

    def _failed(self, item: Item, outcome: BaseException, seconds: float) -> None:
        error = outcome.cause if isinstance(outcome, PluginFault) else outcome
        reason, now = self._health.faults.located(error), self._loop.time()
        self._health.failed(error, now, item.seq, None if item.event is None else item.event.id)
        item.careful = False
        if item.replay and item.row is None:
            if item.seq in self.parked.items:  # an operator has had its dead letter retried: that one comes
                item.move_to(State.SETTLED)
                item.close()
                return
            item.conversation = None  # what a replay parks is in no order
        attempts, last = self.attempts.failed(item, error, now)
        if last:
            self._bury(item, attempts, reason, seconds)
            return
        number = attempts if item.event is None else item.event.attempt
        self.parked.attempts.append(self._attempt(item, number, seconds, reason))
        pause = self._policy.pause(max(attempts, item.failures), error)
        row = self.parked.park(item, RETRYING)
        row.attempts, row.error, row.asked = attempts, reason, isinstance(error, Retry) and error.after is not None
        row.next_at, row.since = self._clock() + pause, self._clock() - (now - item.counted_at)
        self.conversations.unload(item)
        if item.conversation is None:
            self.conversations.retry(item, pause)
        else:
            self.conversations.place(item, item.conversation, pause)

    def _has_killed(self, item: Item) -> bool:
        """Bury an event with which the process has died too often."""
        crashes = self.crashes.get(item.seq, 0)
        if crashes < CRASHES:
            return False
        self._bury(item, crashes, f"the process died {crashes} times while this plugin had the event")
        self._go_on(item)
        return True

    def _bury(self, item: Item, attempts: int, reason: str, seconds: float | None = None) -> None:
        item.move_to(State.DEAD)
        self.parked.attempts.append(self._attempt(item, attempts, seconds, reason))
        self.parked.bury(item, attempts, reason)
        self._health.buried(str(item.seq) if item.event is None else item.event.id, attempts)
        self.conversations.leave(item)

    def _go_on(self, item: Item) -> None:
        """It may be the turn of the event behind this one, which has left its conversation."""
        if item.conversation is not None:
            self.conversations.go_on(item.conversation)
        self.unsettled.set()

    # Settlements

    def take_taken(self) -> list[Item]:
        """What the plugin has taken since the last time."""
        batch, self._taken, self._proving = self._taken, [], self.attempts.taken
        return batch

    def settle(self, taken: Sequence[Item]) -> None:
        """The plugin has made durable what it took."""
        if taken and self._buffers:
            self._prove(self._proving)
        for item in taken:
            item.move_to(State.SETTLED)
            if item.row is not None or item.replay:
                self.parked.release(item)
            if item.recovery is not None:
                self.parked.attempts.append(item.recovery)
            item.close()

    def _prove(self, taken: int) -> None:
        """The plugin works: what it had taken by then is durable."""
        now = self._loop.time()
        self.attempts.prove(taken, now)
        if self._health.outage.failures:
            self._health.outage.end(now)
            self.ready.set()

    def rewind(self, taken: Iterable[Item], cursor: int) -> None:
        """A checkpoint failed, so nothing that is not settled counts, `taken` neither. What is parked is tried again in
        its order; the rest is to be read again from `cursor` on."""
        parked = sorted(self.parked.items.values(), key=_position)
        items = {*parked, *self.conversations, *self._taken, *taken}
        items.update(item for batch in self.batches for item in batch.items)
        for item in items:
            item.move_to(State.UNREAD)
        self.batches, self._taken, self.parked.items = set(), [], {}
        self.attempts.rewind()
        self.conversations.clear(cursor)
        self.take_up([item.row for item in parked if item.row is not None], {i.seq for i in parked if i.careful})

    def park_slow(self) -> None:
        """Park events that the plugin has had for long, and those behind them, so that the window can move on."""
        slow = [batch for batch in self.batches if self._loop.time() - batch.began >= SLOW]
        for item in (item for batch in slow for item in batch.items):
            if not item.replay and item.row is None:
                self.parked.park(item, RETRYING)
                if item.conversation is not None:
                    self.conversations.hold(item.conversation)
        self.unsettled.set()

    def park_all(self) -> None:
        """The gateway stops: park what is queued or with the plugin, so that it keeps no cursor back."""
        for item in [*self.conversations, *(item for batch in self.batches for item in batch.items)]:
            if item.row is None and item.seq not in self.parked.items:
                self.parked.park(item, WAITING)
            if item.state is State.QUEUED:
                self.conversations.wait(item)


def _position(item: Item) -> int:
    return item.seq
