"""The live log on its way to one plugin: read on past the cursor, in a window of bounded size."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from functools import partial
from typing import Final

import msgspec

from gateway.delivery.items import Window
from gateway.delivery.patience import patiently
from gateway.events import Event
from gateway.journal.interface import Cursors

WINDOW: Final = 2048
"""Events between the cursor and the newest that was read: the most that comes again after a crash."""
WINDOW_BYTES: Final = 32 * 2**20
PAGE: Final = 256
FULL_PAUSE: Final = 0.25
"""Seconds after which a window that stays full is looked at again."""


class Reading:
    """Reads while `wanted`. `admit` gets each event, with whether it might have taken the process down; `changed` is
    called after some of them, `full` when there is no room for more."""

    def __init__(
        self,
        journal: Cursors,
        wanted: Callable[[], bool],
        admit: Callable[[int, Event, bool], None],
        changed: Callable[[], None],
        full: Callable[[], None],
    ) -> None:
        self._journal = journal
        self._wanted = wanted
        self._admit = admit
        self._changed = changed
        self._full = full
        self._wake = asyncio.Event()
        self._window = Window(0)
        self._position = 0
        self._again_until = 0
        self._again_left = 0
        self._careful = False
        self._last_careful = 0

    @property
    def cursor(self) -> int:
        """Up to here all is settled."""
        return self._window.position

    @property
    def position(self) -> int:
        """Up to here all was read."""
        return self._position

    @property
    def cautious(self) -> bool:
        """Whether what might have taken the process down is not all through."""
        unread = self._again_left > 0 and self._position < self._again_until
        return self._careful and (unread or self.cursor < self._last_careful)

    def __len__(self) -> int:
        return len(self._window)

    def start(self, cursor: int, crashed: bool) -> asyncio.Task[None]:
        """Read from the cursor on. Whatever end the last run came to, what comes first may have come before."""
        self._careful = crashed
        self._from(cursor, self._journal.newest)
        self._journal.on_commit.append(self._wake.set)
        return asyncio.create_task(self._run())

    def stop(self) -> None:
        self._journal.on_commit.remove(self._wake.set)

    def rewind(self) -> None:
        """Go back to the cursor: what was delivered past it counts for nothing."""
        self._careful = self.cautious
        self._from(self.cursor, self._position)

    def go_on(self) -> None:
        """There may be room."""
        self._wake.set()

    def settle(self, seq: int) -> None:
        """This event needs the window no more."""
        self._window.settle(seq)

    def is_open(self, seq: int) -> bool:
        return self._window.is_open(seq)

    def advance(self) -> int | None:
        """Move the cursor over all that is settled; its new place, or None where it stays."""
        return self.cursor if self._window.advance() else None

    def _from(self, cursor: int, again_until: int) -> None:
        self._window = Window(cursor)
        self._position = cursor
        self._again_until, self._again_left = again_until, WINDOW
        self._wake.set()

    def _has_room(self) -> bool:
        return len(self._window) < WINDOW and self._window.size <= WINDOW_BYTES

    async def _run(self) -> None:
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(None if self._has_room() else FULL_PAUSE):
                    await self._wake.wait()
            self._wake.clear()
            while self._has_room() and self._wanted():
                window, limit = self._window, min(PAGE, WINDOW - len(self._window))
                entries = await patiently(partial(self._journal.read, self._position, limit))
                if window is not self._window:
                    continue
                if not entries or not self._wanted():
                    break
                for seq, event in entries:
                    self._read(seq, event)
                self._changed()
            if not self._has_room():
                self._full()

    def _read(self, seq: int, event: Event) -> None:
        self._position = seq
        self._window.add(seq, len(event.raw))
        again = self._again_left > 0 and seq <= self._again_until
        if again:
            self._again_left -= 1
            event = msgspec.structs.replace(event, redelivered=True)
        careful = again and self._careful
        if careful:
            self._last_careful = seq
        self._admit(seq, event, careful)
