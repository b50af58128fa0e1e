"""Events to plugins: a deliverer per plugin instance, each at its own place in the journal."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Sequence
from typing import Final

from gateway.delivery.deliverer import Deliverer
from gateway.delivery.suspicion import Suspicion
from gateway.journal.interface import HeldBy, Journal, JournalError, Track
from gateway.plugin_host.load import Plugin

TOP_UP: Final = 1.0


class Delivery:
    """All deliverers of one gateway."""

    def __init__(self, plugins: Sequence[Plugin], journal: Journal, clock: Callable[[], float] = time.time) -> None:
        suspicion = Suspicion(journal)
        self._journal = journal
        self._topping_up: asyncio.Task[None] | None = None
        self.deliverers = {
            plugin.name: Deliverer(plugin, journal, suspicion, clock) for plugin in plugins if plugin.takes_events
        }

    async def start(self) -> None:
        """Take up every plugin where it stands; the cursors of plugins that are gone begin to expire."""
        await self._journal.retire_cursors(list(self.deliverers))
        for name, deliverer in self.deliverers.items():
            standing = await self._journal.take_cursor(Track(name), deliverer.plugin.delivery.from_start)
            if isinstance(standing, HeldBy):
                raise JournalError(f"the cursor of plugin {name} is held by {standing.owner}")
            deliverer.start(standing)
        self._topping_up = asyncio.create_task(self._top_up())

    async def stop(self, seconds: float) -> None:
        """Let the plugins finish what they have, for so long; what is not through comes again at the next start."""
        deadline = time.monotonic() + seconds
        if self._topping_up is not None:
            self._topping_up.cancel()
            await asyncio.gather(self._topping_up, return_exceptions=True)
        await asyncio.gather(*(deliverer.stop(deadline) for deliverer in self.deliverers.values()))

    async def refresh(self, plugin: str | None = None) -> None:
        """Look again at what operators changed in the journal: retried dead letters and new replays."""
        for name, deliverer in self.deliverers.items():
            if plugin is None or plugin == name:
                await deliverer.look_again()

    async def _top_up(self) -> None:
        while True:
            await asyncio.sleep(TOP_UP)
            for deliverer in self.deliverers.values():
                if deliverer.wants_more:
                    with contextlib.suppress(JournalError):
                        await deliverer.look_again()

    def lag(self, name: str) -> int:
        """How many positions of the journal a plugin is behind."""
        return max(0, self._journal.newest - self.deliverers[name].cursor)
