"""Finds the event whose delivery kills the process.

After an unclean end, the events that may have been in flight are delivered singly, each marked in the journal before
its call. An event that was marked when the process died again is delivered while no other marked one runs, so that the
next death is certainly its own; after the third it becomes a dead letter. A clean run pays nothing for this.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from gateway.journal.interface import Cursors, Track

CRASHES: Final = 3
"""Deaths of the process with one event, after which the event is a dead letter."""


class CrashGuard:
    """Shared by all plugins: many marked deliveries at once, or one of an event that is suspected."""

    def __init__(self, journal: Cursors) -> None:
        self._journal = journal
        self._running = 0
        self._alone = False
        self._changed = asyncio.Condition()

    @asynccontextmanager
    async def marked(self, track: Track, epoch: int, seq: int, suspected: bool) -> AsyncIterator[None]:
        """Mark that this delivery runs now, and afterwards that the process survived it."""
        async with self._changed:
            await self._changed.wait_for(lambda: not self._alone and (self._running == 0 or not suspected))
            self._running += 1
            self._alone = suspected
        try:
            await self._journal.mark_running(track, epoch, seq)
            yield
            await self._journal.mark_survived(track, epoch, seq)
        finally:
            async with self._changed:
                self._running -= 1
                self._alone = False
                self._changed.notify_all()
