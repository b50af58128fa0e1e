"""Events to plugins: a consumer for each plugin instance, with a cursor of its own."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Collection, Sequence
from typing import Final

from gateway.delivery.consumer import Consumer
from gateway.delivery.crash_guard import CrashGuard
from gateway.journal.interface import Delivers, Journal, JournalError, Track
from gateway.plugin_host.load import Plugin

TOP_UP: Final = 1.0
"""Seconds between looks for retried dead letters that the journal did not return at once."""


class Delivery:
    """All consumers of one gateway, by the plugin's name."""

    def __init__(self, plugins: Sequence[Plugin], journal: Journal, clock: Callable[[], float] = time.time) -> None:
        guard = CrashGuard(journal)
        self._journal = journal
        self._topping_up: asyncio.Task[None] | None = None
        self._stopping = False
        self.consumers = {
            plugin.name: Consumer(plugin, journal, guard, clock) for plugin in plugins if plugin.takes_events
        }

    async def start(self) -> None:
        """Begin to deliver to every plugin where it stands; the cursors of all others begin to expire."""
        await self._journal.retire_cursors(list(self.consumers))
        await self._journal.announce(self._deliveries)
        for consumer in self.consumers.values():
            await consumer.start()
        self._topping_up = asyncio.create_task(self._top_up())

    def _deliveries(self) -> dict[str, Delivers]:
        """To which plugins this gateway delivers."""
        if self._stopping:
            return {}
        plugins = {name: consumer.plugin for name, consumer in self.consumers.items()}
        return {name: Delivers(one.delivery.shards, one.startup.done.is_set()) for name, one in plugins.items()}

    async def stop(self, seconds: float) -> None:
        """Let the plugins finish what they have, for at most `seconds`; the rest comes again at the next start."""
        deadline = asyncio.get_running_loop().time() + seconds
        self._stopping = True
        with contextlib.suppress(JournalError, TimeoutError):
            async with asyncio.timeout(seconds / 4):
                await self._journal.announce(self._deliveries)  # others take over at once what this one releases
        await self._stop_topping_up()
        await asyncio.gather(*(consumer.stop(deadline) for consumer in self.consumers.values()))

    async def abandon(self) -> None:
        """Do what the death of the process does: nothing more is called, written or settled."""
        await self._stop_topping_up()
        await asyncio.gather(*(consumer.abandon() for consumer in self.consumers.values()))

    async def refresh(self, plugin: str | None = None) -> None:
        """Take up what operators changed in the journal: retried dead letters and new replays."""
        for name, consumer in self.consumers.items():
            if plugin is None or plugin == name:
                await consumer.look_again()

    async def take_back(self, number: int) -> None:
        """Make those events of a retry dead letters again that their plugins have not got yet. `JournalError`."""
        for plugin, seqs in (await self._journal.retried(number)).items():
            if (consumer := self.consumers.get(plugin)) is not None:
                await consumer.take_back(number, seqs)
            else:
                await self._journal.take_back(Track(plugin), number, seqs)

    async def end_replay(self, plugin: str, number: int) -> None:
        """Hand out nothing more of a replay that was cancelled in the journal, and wait until the plugin has returned
        what it has of it."""
        if (consumer := self.consumers.get(plugin)) is not None:
            await consumer.end_replay(number)

    async def start_over(self, gone: Collection[int]) -> dict[str, str]:
        """See `Consumer.start_over`, for every plugin; returns what went wrong, by plugin."""
        names = list(self.consumers)
        results = await asyncio.gather(
            *(self.consumers[name].start_over(gone) for name in names), return_exceptions=True
        )
        late = "it did not return the events that it had in time"
        return {name: late for name, result in zip(names, results, strict=True) if isinstance(result, Exception)}

    def apply(self) -> None:
        """Take over what changed in the delivery settings of the plugins."""
        for consumer in self.consumers.values():
            consumer.apply()

    def lag(self, name: str) -> int:
        """How many positions of the journal a plugin is behind."""
        return max(0, self._journal.newest - self.consumers[name].cursor)

    async def _top_up(self) -> None:
        while True:
            await asyncio.sleep(TOP_UP)
            for consumer in self.consumers.values():
                if consumer.wants_more:
                    with contextlib.suppress(JournalError):
                        await consumer.look_again()

    async def _stop_topping_up(self) -> None:
        if self._topping_up is not None:
            self._topping_up.cancel()
            await asyncio.gather(self._topping_up, return_exceptions=True)
