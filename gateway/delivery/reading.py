"""The live log on its way to one plugin: read on past the cursor, in a window of bounded size."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Final, TypeVar

import msgspec

from gateway.delivery.health import Health
from gateway.delivery.items import Item, Window
from gateway.delivery.machine import Machine
from gateway.events import Event
from gateway.journal.interface import Cursors, JournalError, LeaseLost, Standing, Track
from gateway.log import RateLimit
from gateway.plugin_host.load import Plugin

T = TypeVar("T")
log = RateLimit(logging.getLogger("gateway.delivery"))

WINDOW: Final = 2048
"""Events between the cursor and the newest that was read. Twice as many can come again after a crash, since the window
moves on while a settlement is being written."""
WINDOW_BYTES: Final = 32 * 2**20
PAGE: Final = 256
FILTERED_PAGE: Final = 32
"""Events that are read at once for a plugin with a `where`, which takes 10 to 40 µs for each."""
FULL_PAUSE: Final = 0.25
"""Seconds after which a window that stays full is looked at again."""
PARKED: Final = 10_000
"""Parked events at which a plugin reads no further until some have left."""
PASSED: Final = 0.3
"""Seconds until the cursor follows over events of other shards."""
AGAIN: Final = 0.5
"""Seconds until a journal that could not be read is read again."""


async def until_read(read: Callable[[], Awaitable[T]]) -> T:
    """What `read` returns, once it does: a disk may stutter, or too many files be open."""
    while True:
        try:
            return await read()
        except LeaseLost:
            raise
        except JournalError as error:
            log.warning("trying again in %g s: %s", AGAIN, error)
            await asyncio.sleep(AGAIN)


class LogReader:
    """Reads the log from the cursor on, while there is room."""

    def __init__(
        self,
        plugin: Plugin,
        track: Track,
        journal: Cursors,
        machine: Machine,
        health: Health,
        standing: Standing,
    ) -> None:
        self.wake = asyncio.Event()
        """There may be more to read, or room for it."""
        self._plugin = plugin
        self._track = track
        self._journal = journal
        self._machine = machine
        self._health = health
        self._careful = not standing.clean
        self._last_careful = 0
        self.window = Window(standing.cursor)
        self._again_until, self._again_left = journal.newest, 2 * WINDOW * standing.owners
        """However the last run ended, the first events may have come before."""
        self._passing: asyncio.TimerHandle | None = None

    @property
    def cursor(self) -> int:
        """Up to here everything is settled or parked."""
        return self.window.position

    @property
    def cautious(self) -> bool:
        """Whether an event that might kill the process is still to come from the log."""
        unread = self._again_left > 0 and self._machine.conversations.position < self._again_until
        return self._careful and (unread or self.cursor < self._last_careful)

    def rewind(self) -> None:
        """Go back to the cursor: what was delivered past it does not count."""
        self._careful = self.cautious
        self._again_until = max(self._again_until, self._machine.conversations.position)
        self._again_left += len(self.window)
        self.window = Window(self.cursor)
        self.wake.set()

    def _has_room(self) -> bool:
        return len(self.window) < WINDOW and self.window.size <= WINDOW_BYTES

    def _wants_more(self) -> bool:
        """Events that are parked already are read past in any case, since they wait for that. Where nothing else is
        left to hand out, twice as many may be parked: events that can never be taken would keep all others out."""
        parked = self._machine.parked.items
        most = PARKED if len(self.window) else 2 * PARKED
        return len(parked) < most or self._machine.conversations.position < max(parked)

    async def run(self) -> None:
        self.wake.set()
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(None if self._has_room() else FULL_PAUSE):
                    await self.wake.wait()
            self.wake.clear()
            while self._has_room() and self._wants_more():
                page = PAGE if self._plugin.where.expression is None else FILTERED_PAGE
                window, limit = self.window, min(page, WINDOW - len(self.window))
                position = self._machine.conversations.position
                found = await until_read(partial(self._journal.read_track, self._track, position, limit))
                if window is not self.window:
                    continue  # a checkpoint failed meanwhile
                for seq, event in found.entries:
                    self._read(seq, event)
                if found.through == position:
                    break
                if not found.entries or found.through > found.entries[-1].seq:
                    self._pass(position, found.through)
                await asyncio.sleep(0)  # what was read may be dispatched
            if not (
                self._has_room() or self._health.outage.probing
            ):  # while all fails, there is nothing to make way for
                self._machine.park_slow()

    def _pass(self, after: int, through: int) -> None:
        """Between two positions, what was not read belongs to other shards. The cursor follows a little later."""
        self._machine.passed(after, through)
        self.window.add(through, 0)
        self.window.settle(through)
        if self._passing is None:
            self._passing = asyncio.get_running_loop().call_later(PASSED, self._passed)

    def _passed(self) -> None:
        self._passing = None
        self._machine.unsettled.set()

    def _read(self, seq: int, event: Event) -> None:
        self.window.add(seq, len(event.raw))
        again = self._again_left > 0 and seq <= self._again_until
        if again:
            self._again_left -= 1
            event = msgspec.structs.replace(event, redelivered=True)
        careful = again and self._careful
        if careful:
            self._last_careful = seq
        if self._machine.reached(seq) or not self._plugin.calls(event) or self._is_held_back(seq, event):
            self.window.settle(seq)
            self._machine.unsettled.set()
            return
        careful = careful or seq in self._machine.crashes
        self._machine.admit(Item(seq, event, self._plugin.conversation_of(event), self.window, careful=careful))

    def _is_held_back(self, seq: int, event: Event) -> bool:
        """Whether the plugin's `where` holds the event back, which the journal is told."""
        if self._plugin.where.admits(event):
            if event.redelivered:  # another `where` may have held it back when it came before
                self._machine.parked.not_held_back(seq)
            return False
        self._machine.parked.hold_back(seq)
        return True
