"""When one plugin's progress is written: once it has made durable what it took, in short transactions."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from typing import Final

from gateway.delivery.health import Health
from gateway.delivery.items import Item
from gateway.delivery.parking import Parking
from gateway.delivery.reading import Reading
from gateway.delivery.replaying import Replaying
from gateway.journal.interface import Cursors, JournalFailed, JournalFull, LeaseLost, Settlement, Track
from gateway.plugin_host.call import CallTimeout, PluginFault, Stuck
from gateway.plugin_host.load import Plugin

PAUSE: Final = 0.02
ROWS: Final = 200
"""Parked events written in one transaction: acknowledgements wait for it."""
TRY_AGAIN: Final = 0.5
"""Seconds until the journal is asked again when it had no room."""


class Settling:
    """Collects what a plugin took and settles it, a batch at a time. `passed` is told of each item that is durable;
    `undo` is called where the checkpoint fails, with the error and how many times in a row that was."""

    def __init__(
        self,
        plugin: Plugin,
        journal: Cursors,
        health: Health,
        log: Reading,
        replaying: Replaying,
        parking: Parking,
        passed: Callable[[Item], None],
        undo: Callable[[Exception, int], Awaitable[None]],
    ) -> None:
        self.failures = 0
        self.epoch = 0
        self._plugin = plugin
        self._journal = journal
        self._health = health
        self._log = log
        self._replaying = replaying
        self._parking = parking
        self._passed = passed
        self._undo = undo
        self._checkpoint = plugin.hooks.get("checkpoint")
        self._taken: list[Item] = []
        self._due = asyncio.Event()
        self._stopping = asyncio.Event()
        self._drained = False
        self._committing = False

    @property
    def idle(self) -> bool:
        """Whether nothing is left to be settled."""
        return not (self._taken or self._parking.unsettled or self._committing or self._due.is_set())

    @property
    def stopping(self) -> bool:
        return self._stopping.is_set()

    def take(self, item: Item) -> None:
        """The plugin took this item."""
        self._taken.append(item)

    def due(self) -> None:
        """Something is to be settled."""
        self._due.set()

    def forget(self) -> None:
        """What the plugin took is not to be settled: it comes again."""
        self._taken = []

    def hurry(self) -> None:
        """No pauses any more."""
        self._stopping.set()

    def drained(self) -> None:
        """Nothing more comes: `run` returns once all is settled."""
        self._drained = True
        self._due.set()

    async def nap(self, seconds: float) -> None:
        """Sleep, but not through a stop."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._stopping.wait()

    async def run(self) -> None:
        while True:
            await self._due.wait()
            self._due.clear()
            batch, self._taken = self._taken, []
            if await self._made_durable(batch):
                await self._settle(batch)
            if self._drained and not self._due.is_set():
                return
            await self.nap(PAUSE)

    async def _made_durable(self, batch: list[Item]) -> bool:
        if self._checkpoint is None or not batch:
            return True
        try:
            await self._plugin.caller.call(self._checkpoint, timeout=self._plugin.delivery.timeout)
        except (PluginFault, CallTimeout, Stuck) as error:
            self.failures += 1
            await self._undo(error, self.failures)
            return False
        self.failures = 0
        self._health.blocked = None
        return True

    async def _settle(self, batch: list[Item]) -> None:
        """The cursor, what is newly parked, and what is parked no more."""
        for item in batch:
            self._passed(item)
        cursor, replay = self._log.advance(), self._replaying.progress()
        park, release = self._parking.settled(batch, self._log.cursor)
        track = Track(self._plugin.name)
        while len(park) > ROWS:  # before the cursor moves past them
            await self._commit(Settlement(track=track, epoch=self.epoch, park=park[:ROWS]))
            park = park[ROWS:]
        if cursor is not None or park or release or replay:
            await self._commit(
                Settlement(track=track, epoch=self.epoch, cursor=cursor, park=park, release=release, replay=replay)
            )
        self._replaying.go_on()
        self._log.go_on()

    async def _commit(self, settlement: Settlement) -> None:
        self._committing = True
        while self._committing:
            try:
                await self._journal.settle(settlement)
                self._committing = False
            except JournalFull:
                await asyncio.sleep(TRY_AGAIN)
            except (JournalFailed, LeaseLost):
                return  # the gateway stops, and the next start goes on from what is durable
