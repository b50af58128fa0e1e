"""One plugin's way through the journal: read on, hand out to lanes, park what failed, settle what is done.

Everything here runs in the event loop; the plugin itself is called in `run` and `invoke` only.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Final

import msgspec

from gateway.delivery.health import Health
from gateway.delivery.items import Item, Key, Window
from gateway.delivery.lanes import Lanes
from gateway.delivery.parking import Parking
from gateway.delivery.replaying import Replaying
from gateway.delivery.run import SKIPPED, Outcome, calls_of
from gateway.delivery.suspicion import CRASHES, Suspicion
from gateway.events import Event
from gateway.invoke import CallTimeout, PluginFault, Stuck, describe
from gateway.journal import (
    HELD,
    RETRYING,
    Journal,
    JournalFailed,
    JournalFull,
    Settlement,
    Standing,
)
from gateway.loader import Plugin

log = logging.getLogger("gateway.delivery")

WINDOW: Final = 2048
"""Events between the cursor and the newest that was read: the most that comes again after a crash."""
WINDOW_BYTES: Final = 32 * 2**20
PARKED: Final = 10_000
"""With so many events parked a plugin reads no further until some are through."""
PAGE: Final = 256
SETTLE_PAUSE: Final = 0.02
SETTLE_ROWS: Final = 200
"""Parked events written in one transaction: acknowledgements wait for it."""
TRY_AGAIN: Final = 0.5
"""Seconds until the journal is asked again when it had no room."""


class Deliverer:
    """Delivers the journal's events to one plugin."""

    def __init__(
        self, plugin: Plugin, journal: Journal, suspicion: Suspicion, clock: Callable[[], float] = time.time
    ) -> None:
        self.plugin = plugin
        self.health = Health(plugin.name)
        self._journal = journal
        self._calls = calls_of(plugin)
        self._checkpoint = plugin.hooks.get("checkpoint")
        self._checkpoint_failures = 0
        self._lanes = Lanes(plugin, suspicion, self.health, self._over, lambda: journal.last_seq)
        self._parking = Parking(
            plugin.name, plugin.delivery, journal, clock, self.health, self._deliver_parked, self._moved
        )
        self._replaying = Replaying(journal, lambda: self.cursor, self._admit_replayed, self._replay_read)
        self._wake = asyncio.Event()
        self._dirty = asyncio.Event()
        self._stopping = asyncio.Event()
        self._committing = False
        self._drained = False
        self._tasks: list[asyncio.Task[None]] = []
        self._careful = False
        self._careful_replayed = WINDOW
        self._redelivered_until = 0
        self._redelivered_left = 0
        self._reset(0)

    def _reset(self, cursor: int) -> None:
        self._window = Window(cursor)
        self._position = cursor
        self._in_window = 0
        self._completed: list[Item] = []

    @property
    def cursor(self) -> int:
        """Up to here every event is through or parked."""
        return self._window.position

    @property
    def parked(self) -> int:
        """How many events are retrying or held behind one that is."""
        return len(self._parking)

    @property
    def idle(self) -> bool:
        """Whether all there is was taken and settled; dead letters are."""
        busy = self.parked or self._completed or self._parking.unsettled or len(self._window) or len(self._lanes)
        behind = self.cursor < self._journal.last_seq or not self._replaying.idle
        return not (busy or behind or self._committing or self._dirty.is_set())

    def start(self, standing: Standing, crashed: bool) -> None:
        """Take up where the plugin stands."""
        self._reset(standing.cursor)
        self._lanes.crashes = standing.crashes
        # whatever end the last run came to, the events right after the cursor may have been delivered before
        self._redelivered_until, self._redelivered_left = self._journal.last_seq, WINDOW
        self._careful = crashed
        self._parking.start(standing.parked, standing.dead_ahead, crashed)
        self._replaying.take_up(standing.replays)
        self._journal.on_commit.append(self._wake.set)
        self._tasks = [asyncio.create_task(self._feed()), asyncio.create_task(self._settling())]
        for task in self._tasks:
            task.add_done_callback(self._ended)
        self._wake.set()

    async def stop(self, deadline: float) -> None:
        """Hand out no more, wait for what the plugin has now until `deadline` (monotonic), settle what is done."""
        self._stopping.set()
        self._lanes.closed = True
        await self._parking.stop()
        await self._replaying.stop()
        feed, settling = self._tasks
        feed.cancel()
        await self._lanes.drain(max(0.0, deadline - time.monotonic()))
        for item in [*self._lanes.running(), *self._lanes.waiting()]:
            if item.row is None:  # parked, it keeps nobody back whom the plugin has had already
                self._parking.park(item, HELD)
        self._drained = True
        self._dirty.set()
        await asyncio.wait((settling,), timeout=max(0.1, deadline - time.monotonic()))
        settling.cancel()
        await asyncio.gather(feed, settling, return_exceptions=True)
        self._journal.on_commit.remove(self._wake.set)

    @property
    def wants_more(self) -> bool:
        """Whether it is time to look into the journal again for parked events."""
        return self._parking.wants_more

    async def look_again(self) -> None:
        """Take up what operators wrote into the journal: dead letters to retry, and replays."""
        self._parking.look_again()
        parked, replays = await self._journal.changes(self.plugin.name)
        self._parking.take_up(parked)
        self._replaying.take_up(replays)

    def _ended(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            self.health.blocked = f"internal error: {describe(error)}"
            log.critical("plugin %s gets nothing any more", self.plugin.name, exc_info=error)

    # Reading on

    async def _feed(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            while self._has_room():
                entries = await self._journal.read(self._position, min(PAGE, WINDOW - len(self._window)))
                if not entries or self._lanes.closed:
                    break
                for seq, event in entries:
                    self._admit(seq, event)
                self._lanes.dispatch()
            full = len(self._window) >= WINDOW or self._in_window > WINDOW_BYTES
            if full and not self.health.down:  # while all fails, there is nobody to make way for
                self._park_slow()

    def _has_room(self) -> bool:
        room = len(self._window) < WINDOW and self._in_window <= WINDOW_BYTES and self.parked < PARKED
        return room and not self._lanes.closed

    def _admit(self, seq: int, event: Event) -> None:
        self._position = seq
        self._window.add(seq)
        self._in_window += len(event.raw)
        if self._parking.knows(seq) or not self._calls(event):
            self._window.settle(seq)
            self._dirty.set()
            return
        careful = False
        if self._redelivered_left > 0 and seq <= self._redelivered_until:
            self._redelivered_left -= 1
            event = msgspec.structs.replace(event, redelivered=True)
            careful = self._careful
        item = Item(seq, event, self._key(event), "log", careful=careful)
        if self._parking.holds(item.key):
            self._parking.hold(item)
        else:
            self._put(item)

    def _admit_replayed(self, seq: int, event: Event) -> None:
        if self._parking.has(seq) or not self._calls(event):  # what is parked comes anyway
            self._replaying.settle(seq)
            return
        key = self._key(event)
        event = msgspec.structs.replace(event, redelivered=True, replayed=True)
        careful = self._careful and self._careful_replayed > 0
        self._careful_replayed -= 1
        self._put(Item(seq, event, None if key is None else f"replay:{key}", "replay", careful=careful))

    def _replay_read(self) -> None:
        self._lanes.dispatch()
        self._dirty.set()

    def _deliver_parked(self, items: list[Item]) -> None:
        for item in items:
            self._put(item)
        self._lanes.dispatch()
        self._dirty.set()

    def _key(self, event: Event) -> Key | None:
        if event.conversation_id is None or not self.plugin.delivery.ordered:
            return None
        return f"{event.organisation}/{event.conversation_id}"

    def _put(self, item: Item) -> None:
        crashes = self._lanes.crashes.get(item.seq, 0) if item.careful else 0
        if crashes >= CRASHES:
            reason = f"the process died {crashes} times while this plugin had the event"
            self._parking.bury(item, crashes, reason)
        else:
            self._lanes.put(item)

    # Outcomes

    def _over(self, items: Sequence[Item], outcomes: Sequence[Outcome]) -> None:
        delivered = 0
        again: list[Item] = []
        for item, outcome in zip(items, outcomes, strict=False):
            if outcome is None:
                delivered += 1
                self._completed.append(item)
                self._parking.through(item)
            elif isinstance(outcome, Stuck):
                self.health.blocked = describe(outcome)
                again.append(item)
            elif outcome is SKIPPED:
                again.append(item)
            else:
                self._parking.failed(item, outcome)
        if delivered:
            self.health.succeeded(delivered)
            if not self._checkpoint_failures:
                self.health.blocked = None
        self._put_back([*again, *items[len(outcomes) :]])
        for key in {item.key for item in items if item.key is not None and self._parking.holds(item.key)}:
            self._put_back(self._lanes.take_back(key))
        self._dirty.set()

    def _put_back(self, items: Iterable[Item]) -> None:
        """Items that were not attempted: behind a failed one of their conversation, where there is one."""
        free = []
        for item in items:
            if item.origin == "log" and self._parking.holds(item.key):
                self._parking.hold(item)
            else:
                free.append(item)
        for item in reversed(free):
            self._lanes.put_back(item)

    def _moved(self, item: Item) -> None:
        self._settle_place(item)
        self._dirty.set()

    def _settle_place(self, item: Item) -> None:
        """An item is through or parked: it keeps no cursor back."""
        if item.origin == "replay":
            self._replaying.settle(item.seq)
        else:
            self._window.settle(item.seq)

    def _park_slow(self) -> None:
        """The window is full behind events that take long: park them as they are, so that the others go on."""
        for item in self._lanes.running():
            if item.origin == "log" and item.row is None and self._window.is_open(item.seq):
                self._parking.park(item, RETRYING)
        for item in self._lanes.waiting():
            if item.origin == "log" and item.row is None:
                self._parking.park(item, HELD)

    # Settling

    async def _settling(self) -> None:
        while True:
            await self._dirty.wait()
            self._dirty.clear()
            batch, self._completed = self._completed, []
            if await self._made_durable(batch):
                await self._settle(batch)
            if self._drained and not self._dirty.is_set():
                return
            await self._nap(SETTLE_PAUSE)

    async def _nap(self, seconds: float) -> None:
        """Sleep, but not through a stop."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._stopping.wait()

    async def _made_durable(self, batch: list[Item]) -> bool:
        """Whether the plugin made durable what it took."""
        if self._checkpoint is None or not batch:
            return True
        try:
            await self.plugin.caller.call(self._checkpoint, timeout=self.plugin.delivery.timeout)
        except (PluginFault, CallTimeout, Stuck) as error:
            await self._go_back(error)
            return False
        self._checkpoint_failures = 0
        self.health.blocked = None
        return True

    async def _go_back(self, error: Exception) -> None:
        """The checkpoint failed: what is not settled counts as not delivered, and comes again after a pause."""
        self._checkpoint_failures += 1
        cause = error.cause if isinstance(error, PluginFault) else error
        self.health.blocked = f"its checkpoint fails: {type(cause).__name__}"
        self.health.failed(self.health.blocked)
        self._lanes.closed = True
        await self._lanes.drain(self.plugin.delivery.timeout + 1)
        self._lanes.clear()
        if self._stopping.is_set():
            return
        self._redelivered_until, self._redelivered_left = self._position, WINDOW
        self._reset(self.cursor)
        self._replaying.rewind()
        self._parking.go_back()
        await self._nap(self._parking.pause(self._checkpoint_failures, error))
        self._lanes.closed = self._stopping.is_set()
        self._wake.set()
        self._lanes.dispatch()
        self._dirty.set()

    async def _settle(self, batch: list[Item]) -> None:
        """One transaction: the cursor, what is newly parked, and what is parked no more."""
        for item in batch:
            self._settle_place(item)
        before = self.cursor
        self._window.advance()
        if self._position == self.cursor:
            self._in_window = 0
        park, release = self._parking.settled(batch, self.cursor)
        while len(park) > SETTLE_ROWS:  # before the cursor moves past them
            await self._commit(Settlement(plugin=self.plugin.name, park=park[:SETTLE_ROWS]))
            park = park[SETTLE_ROWS:]
        settlement = Settlement(
            plugin=self.plugin.name,
            cursor=self.cursor if self.cursor != before else None,
            park=park,
            release=release,
            replay=self._replaying.progress(),
        )
        if settlement != Settlement(plugin=self.plugin.name):
            await self._commit(settlement)
        self._replaying.go_on()
        self._wake.set()

    async def _commit(self, settlement: Settlement) -> None:
        self._committing = True
        while self._committing:
            try:
                await self._journal.settle(settlement)
                self._committing = False
            except JournalFull:
                await asyncio.sleep(TRY_AGAIN)
            except JournalFailed:
                return  # the gateway stops, and the next start goes on from what is durable
