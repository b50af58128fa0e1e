"""One plugin's way through the journal: hand out what was read, park what failed, settle what is done.

Everything here runs in the event loop; the plugin itself is called in `run` and `invoke` only.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Final

import msgspec

from gateway.delivery.health import Health
from gateway.delivery.items import Item, Key
from gateway.delivery.lanes import Lanes
from gateway.delivery.parking import Parking
from gateway.delivery.reading import WINDOW, Reading
from gateway.delivery.replaying import Replaying
from gateway.delivery.run import SKIPPED, Outcome, calls_of
from gateway.delivery.settling import Settling
from gateway.delivery.suspicion import CRASHES, Suspicion
from gateway.events import Event
from gateway.journal.interface import RETRYING, WAITING, Cursors, JournalError, Standing, Track
from gateway.plugin_host.call import PluginFault, Stuck, describe
from gateway.plugin_host.load import Plugin

log = logging.getLogger("gateway.delivery")

SLOW: Final = 1.0
"""Seconds with the plugin after which an event need not be waited for."""
PARKED: Final = 10_000
"""With so many events parked a plugin reads no further until some are through."""


class Deliverer:
    """Delivers the journal's events to one plugin."""

    def __init__(
        self, plugin: Plugin, journal: Cursors, suspicion: Suspicion, clock: Callable[[], float] = time.time
    ) -> None:
        self.plugin = plugin
        self.health = Health(plugin.name)
        self._journal = journal
        self._calls = calls_of(plugin)
        self._lanes = Lanes(plugin, suspicion, self.health, self._over, lambda: journal.newest, self._ended)
        self._parking = Parking(
            plugin.name,
            plugin.delivery,
            journal,
            clock,
            self.health,
            self._deliver_parked,
            self._moved,
            lambda: self._log.position,
        )
        self._log = Reading(journal, self._wants_to_read, self._admit, self._lanes.dispatch, self._park_slow)
        self._replaying = Replaying(journal, lambda: self.cursor, self._admit_replayed, self._replay_read, self._ended)
        self._settling = Settling(
            plugin, journal, self.health, self._log, self._replaying, self._parking, self._settle_place, self._undo
        )
        self._tasks: list[asyncio.Task[None]] = []
        self._looking = asyncio.Lock()
        self._careful_replays = 0
        self._crashed = False

    @property
    def cursor(self) -> int:
        """Up to here every event is through or parked."""
        return self._log.cursor

    @property
    def parked(self) -> int:
        """How many events are retrying or held behind one that is."""
        return len(self._parking)

    @property
    def idle(self) -> bool:
        """Whether all there is was taken and settled; dead letters are."""
        busy = self.parked or len(self._log) or len(self._lanes) or not self._settling.idle
        behind = self.cursor < self._journal.newest or not self._replaying.idle
        return not (busy or behind)

    def start(self, standing: Standing) -> None:
        """Take up where the plugin stands."""
        self._crashed = crashed = not standing.clean
        self._lanes.epoch = self._settling.epoch = standing.epoch
        self._lanes.crashes = standing.crashes
        self._careful_replays = WINDOW if crashed else 0
        reading = self._log.start(standing.cursor, crashed)
        retrying = self._parking.start(standing, crashed)
        self._replaying.take_up(standing.replays)
        self._tasks = [reading, asyncio.create_task(self._settling.run())]
        for task in (*self._tasks, retrying):
            task.add_done_callback(self._ended)

    async def stop(self, deadline: float) -> None:
        """Hand out no more, wait for what the plugin has now until `deadline` (monotonic), settle what is done."""
        self._settling.hurry()
        self._lanes.closed = True
        await self._parking.stop()
        await self._replaying.stop()
        reading, settling = self._tasks
        reading.cancel()
        await self._lanes.drain(max(0.0, deadline - time.monotonic()))
        for item in [*self._lanes.running(), *self._lanes.waiting()]:
            if item.row is None:  # parked, it keeps nobody back whom the plugin has had already
                self._parking.park(item, WAITING)
        self._settling.drained()
        await asyncio.wait((settling,), timeout=max(0.1, deadline - time.monotonic()))
        settling.cancel()
        await asyncio.gather(reading, settling, return_exceptions=True)
        self._log.stop()
        clean = not (self._crashed and self.cautious)
        try:
            await self._journal.release_cursor(Track(self.plugin.name), self._settling.epoch, clean)
        except JournalError as error:
            log.error("plugin %s: its cursor cannot be released cleanly: %s", self.plugin.name, error)

    @property
    def cautious(self) -> bool:
        """Whether an event that might have taken the process down is still to come."""
        return self._log.cautious or self._parking.cautious or (self._careful_replays > 0 and not self._replaying.idle)

    @property
    def wants_more(self) -> bool:
        """Whether it is time to look into the journal again for parked events."""
        return self._parking.wants_more

    async def look_again(self) -> None:
        """Take up what operators wrote into the journal: dead letters to retry, and replays."""
        async with self._looking:
            self._replaying.take_up(await self._parking.look_again())

    def _ended(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            self.health.broken = f"internal error: {describe(error)}"
            log.critical("plugin %s gets nothing any more, until a restart", self.plugin.name, exc_info=error)

    # What comes in

    def _wants_to_read(self) -> bool:
        return self.parked < PARKED and not self._lanes.closed

    def _admit(self, seq: int, event: Event, careful: bool) -> None:
        if self._parking.meet(seq) or not self._calls(event):
            self._log.settle(seq)
            self._settling.due()
            return
        item = Item(seq, event, self._key(event), "log", careful=careful or seq in self._lanes.crashes)
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
        careful = self._careful_replays > 0
        self._careful_replays -= careful
        careful = careful or seq in self._lanes.crashes
        self._put(Item(seq, event, None if key is None else f"replay:{key}", "replay", careful=careful))

    def _replay_read(self) -> None:
        self._lanes.dispatch()
        self._settling.due()

    def _deliver_parked(self, items: list[Item]) -> None:
        for item in items:
            self._put(item)
        self._lanes.dispatch()
        self._settling.due()

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
                self._settling.take(item)
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
            if not self._settling.failures:
                self.health.blocked = None
        self._put_back([*again, *items[len(outcomes) :]])
        for key in {item.key for item in items if item.key is not None and self._parking.holds(item.key)}:
            self._put_back(self._lanes.take_back(key))
        self._settling.due()

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
        self._settling.due()

    def _settle_place(self, item: Item) -> None:
        """An item is through or parked: it keeps no cursor back."""
        if item.origin == "replay":
            self._replaying.settle(item.seq)
        else:
            self._log.settle(item.seq)

    def _park_slow(self) -> None:
        """The window is full. Where that is behind events that take long, park them as they are with what waits for
        them, so that the others go on. While all fails, there is nobody to make way for."""
        if self.health.down:
            return
        slow = {item for item in self._lanes.running(SLOW) if item.origin == "log" and self._log.is_open(item.seq)}
        keys = {item.key for item in slow if item.key is not None}
        for item in slow:
            if item.row is None:
                self._parking.park(item, RETRYING)
        for item in self._lanes.waiting() if keys else ():
            if item.key in keys and item.origin == "log" and item.row is None:
                self._parking.park(item, WAITING)

    async def _undo(self, error: Exception, failures: int) -> None:
        """The checkpoint failed: what is not settled counts as not delivered, and comes again after a pause."""
        cause = error.cause if isinstance(error, PluginFault) else error
        self.health.blocked = f"its checkpoint fails: {type(cause).__name__}"
        self.health.failed(self.health.blocked)
        self._lanes.closed = True
        await self._lanes.drain(self.plugin.delivery.timeout + 1)
        self._lanes.clear()
        if self._settling.stopping:
            return
        self._settling.forget()
        self._log.rewind()
        self._replaying.rewind()
        self._parking.go_back()
        await self._settling.nap(self._parking.pause(failures, error))
        self._lanes.closed = self._settling.stopping
        self._log.go_on()
        self._lanes.dispatch()
        self._settling.due()
