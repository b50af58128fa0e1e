"""Finding the event whose delivery takes the process down.

After an unclean end, the events that may have been in flight are delivered singly, each recorded before its call.
One that was recorded when the process died again is delivered with nothing else of this kind beside it, so that the
next death is its own; after the third it becomes a dead letter. Clean running pays nothing for this.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from gateway.journal.interface import Cursors, Track

CRASHES: Final = 3


class Suspicion:
    """Shared by all deliverers: many unsuspected deliveries at once, or one that is suspected."""

    def __init__(self, journal: Cursors) -> None:
        self._journal = journal
        self._running = 0
        self._alone = False
        self._changed = asyncio.Condition()

    @asynccontextmanager
    async def recorded(self, track: Track, epoch: int, seq: int, suspected: bool) -> AsyncIterator[None]:
        """Record that this delivery runs now, and afterwards that it took nothing down."""
        await self._enter(suspected)
        try:
            await self._journal.mark_running(track, epoch, seq)
            yield
            await self._journal.mark_survived(track, epoch, seq)
        finally:
            await self._leave()

    async def _enter(self, suspected: bool) -> None:
        async with self._changed:
            await self._changed.wait_for(lambda: not self._alone and (self._running == 0 or not suspected))
            self._running += 1
            self._alone = suspected

    async def _leave(self) -> None:
        async with self._changed:
            self._running -= 1
            self._alone = False
            self._changed.notify_all()
