"""One plugin's delivery: takes the plugin's cursor, delivers while it owns it, gives it back."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Collection
from typing import Final

from gateway.delivery.crash_guard import CrashGuard
from gateway.delivery.health import Health
from gateway.delivery.pipeline import Pipeline
from gateway.delivery.reading import until_read
from gateway.journal.interface import (
    EVERY_HOOK,
    HeldBy,
    Journal,
    JournalDamaged,
    JournalError,
    LeaseLost,
    Standing,
    Track,
)
from gateway.plugin_host.load import Plugin
from gateway.text import describe

log = logging.getLogger("gateway.delivery")

SETTLING: Final = 30.0
"""Seconds that the settlement of what a plugin returned may take."""
TAKE_AGAIN: Final = 5.0
"""Seconds at most until a cursor that another gateway owns is asked for again."""


class Consumer:
    """Delivers the journal's events to one plugin."""

    def __init__(self, plugin: Plugin, journal: Journal, guard: CrashGuard, clock: Callable[[], float]) -> None:
        self.plugin = plugin
        self.health = Health(plugin.name, plugin.faults, clock)
        self._journal = journal
        self._guard = guard
        self._clock = clock
        self._track = Track(plugin.name)
        self._pipeline: Pipeline | None = None
        self._epoch = 0
        self._draining = False
        self._task: asyncio.Task[None] | None = None

    @property
    def owns(self) -> bool:
        """Whether this gateway owns the plugin's cursor."""
        return self._pipeline is not None

    @property
    def cursor(self) -> int:
        """Up to here every event is settled or parked; the newest position while another gateway owns the cursor."""
        return self._journal.newest if self._pipeline is None else self._pipeline.live.cursor

    @property
    def parked(self) -> int:
        """How many events are retrying or waiting behind one that is."""
        return 0 if self._pipeline is None else len(self._pipeline.machine.parked.items)

    @property
    def idle(self) -> bool:
        """Whether all there is was taken and settled; dead letters are."""
        return self._pipeline is not None and self._pipeline.idle

    @property
    def healthy(self) -> bool:
        """Whether the plugin has started, and takes events or has none left that it could take."""
        if self.plugin.loop.blocked is not None or not self.plugin.startup.done.is_set():
            return False
        return self.health.healthy or (self.health.broken is None and self.idle)

    @property
    def trouble(self) -> str | None:
        """What an operator should know, or None."""
        blocked = self.plugin.loop.blocked
        return self.health.broken or (self.health.trouble if blocked is None else str(blocked))

    @property
    def wants_more(self) -> bool:
        """Whether it is time to look into the journal again for parked events."""
        return self._pipeline is not None and self._pipeline.machine.parked.wants_more

    def apply(self) -> None:
        """Take over what changed in the plugin's delivery settings."""
        if self._pipeline is not None:
            self._pipeline.policy.change(self.plugin.delivery)

    async def start(self) -> None:
        """Take the cursor, or wait for it in the background, and begin once the plugin has started. Where what the
        journal has about this plugin is damaged, only this plugin gets no events. `JournalError`."""
        try:
            standing = await self._take()
        except JournalDamaged as error:
            self.health.broken = str(error)
            log.error("plugin %s: gets no events until the journal is repaired: %s", self.plugin.name, error)
            return
        self._task = asyncio.create_task(self._run(standing), name=f"delivery to {self.plugin.name}")
        if isinstance(standing, Standing):
            self._own(standing)

    def _own(self, standing: Standing) -> Pipeline:
        self.health.blocked = None
        self.health.outage.reset()
        self._epoch = standing.epoch
        self._pipeline = Pipeline(self.plugin, self._journal, self._guard, self.health, self._clock, standing)
        return self._pipeline

    async def _take(self) -> Standing | HeldBy:
        hooks = (EVERY_HOOK,) if self.plugin.takes is None else self.plugin.takes
        return await self._journal.take_cursor(self._track, self.plugin.delivery.from_start, hooks)

    async def _run(self, standing: Standing | HeldBy) -> None:
        try:
            while True:
                if isinstance(standing, HeldBy):
                    self.health.blocked = f"another gateway ({standing.owner}) delivers to it"
                    pause = min(TAKE_AGAIN, max(0.1, standing.until - self._clock()))
                else:
                    if await self._deliver(self._pipeline or self._own(standing)) or self._draining:
                        return
                    pause = TAKE_AGAIN
                await asyncio.sleep(pause)
                standing = await until_read(self._take)
        except Exception as error:
            self.health.broken = f"internal error: {describe(error)}"
            log.critical("plugin %s: delivery stopped until a restart", self.plugin.name, exc_info=error)

    async def _deliver(self, pipeline: Pipeline) -> bool:
        """Deliver until drained, once the plugin has started; False where the cursor was lost."""
        await self.plugin.startup.done.wait()
        try:
            await pipeline.run()
        except LeaseLost as error:
            log.error(
                "plugin %s: delivery stopped: %s; asking for the cursor again in %g s",
                self.plugin.name, error, TAKE_AGAIN,
            )  # fmt: skip
            self.health.blocked = "another gateway has taken its cursor"
            self._pipeline = None
            return False
        return True

    async def stop(self, deadline: float) -> None:
        """Let the plugin finish what it has, until `deadline` by the event loop's clock, settle that, and give the
        cursor back."""
        self._draining, pipeline = True, self._pipeline
        if self._task is None or pipeline is None or self._task.done():
            await self.abandon()
            return
        if pipeline.running:
            await pipeline.drain(deadline)
            await asyncio.gather(self._task, return_exceptions=True)
        else:  # the plugin has not started
            await self.abandon()
        with contextlib.suppress(JournalError):
            await self._journal.release_cursor(self._track, self._epoch, clean=not pipeline.cautious)

    async def abandon(self) -> None:
        """Break off: nothing more is called, written or settled."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def start_over(self, gone: Collection[int]) -> None:
        """The events at these positions were erased: when this returns, the plugin has returned those that it had, and
        gets none of them any more. `TimeoutError` where it does not return them."""
        if self._pipeline is not None and self._pipeline.running:
            async with asyncio.timeout(2 * self.plugin.delivery.timeout + SETTLING):
                await self._pipeline.start_over(gone)

    async def look_again(self) -> None:
        """Take up what operators wrote into the journal: dead letters to retry, and replays."""
        if self._pipeline is not None:
            await self._pipeline.look_again()

    async def take_back(self, number: int, seqs: Collection[int]) -> None:
        """See `Delivery.take_back`; `seqs` are of this plugin."""
        if self._pipeline is None:
            await self._journal.take_back(self._track, number, seqs)
        else:
            await self._pipeline.take_back(number, seqs)

    async def end_replay(self, number: int) -> None:
        """See `Delivery.end_replay`."""
        if self._pipeline is not None:
            await self._pipeline.end_replay(number)
