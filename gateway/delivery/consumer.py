"""One plugin's delivery: takes the cursors of the shards that are this gateway's share, and asks for the others."""

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
from gateway.delivery.shard import Shard
from gateway.delivery.shared import Shared
from gateway.journal.interface import Journal, JournalDamaged
from gateway.plugin_host.load import Plugin
from gateway.text import describe

log = logging.getLogger("gateway.delivery")

REST: Final = 1.0
"""Seconds for which no cursor is taken after one was given back: it is for another gateway, and so are those that
others give back at the same time."""


class Consumer:
    """Delivers the journal's events to one plugin, as far as other gateways do not."""

    def __init__(self, plugin: Plugin, journal: Journal, guard: CrashGuard, clock: Callable[[], float]) -> None:
        self.plugin = plugin
        self.health = Health(plugin.name, plugin.faults, clock)
        self._journal = journal
        self._shared = Shared(plugin, self.health)
        self._wake = asyncio.Event()
        self._turns = 0
        """How often a cursor may have come free."""
        self._rests_until = 0.0
        self._task: asyncio.Task[None] | None = None
        self._starting: asyncio.Task[None] | None = None
        self._shards = [
            Shard(plugin, number, journal, guard, self._shared, clock, self._ended)
            for number in range(plugin.delivery.shards)
        ]

    @property
    def _pipelines(self) -> list[Pipeline]:
        return [shard.pipeline for shard in self._shards if shard.pipeline is not None]

    @property
    def owned(self) -> list[int]:
        """The shards whose cursors this gateway owns."""
        return [shard.track.shard for shard in self._shards if shard.pipeline is not None]

    @property
    def owns(self) -> bool:
        """Whether this gateway owns a cursor of the plugin."""
        return bool(self._pipelines)

    @property
    def elsewhere(self) -> dict[int, str]:
        """The gateways that deliver the other shards, by shard, as far as they are known."""
        return {shard.track.shard: shard.holder for shard in self._shards if shard.holder is not None}

    @property
    def cursor(self) -> int:
        """Up to here every event of this gateway's shards is settled or parked; the newest position without a shard."""
        return min((pipeline.live.cursor for pipeline in self._pipelines), default=self._journal.newest)

    @property
    def parked(self) -> int:
        """How many events are retrying or waiting behind one that is."""
        return sum(len(pipeline.machine.parked.items) for pipeline in self._pipelines)

    @property
    def idle(self) -> bool:
        """Whether all there is was taken and settled; dead letters are."""
        return self.owns and all(pipeline.idle for pipeline in self._pipelines)

    @property
    def healthy(self) -> bool:
        """Whether the plugin has started, and takes events or has none left that it could take. What other gateways
        deliver is theirs."""
        if self.plugin.loop.blocked is not None or not self.plugin.startup.done.is_set() or self._lost:
            return False
        return self.health.healthy or (self.health.broken is None and self.idle)

    @property
    def trouble(self) -> str | None:
        """What an operator should know, or None."""
        blocked = self.plugin.loop.blocked
        if self.health.broken or (blocked is None and not self._lost):
            return self.health.trouble
        return "another gateway has taken its cursor" if blocked is None else str(blocked)

    @property
    def _lost(self) -> bool:
        return any(shard.lost for shard in self._shards)

    @property
    def wants_more(self) -> bool:
        """Whether it is time to look into the journal again for parked events."""
        return any(pipeline.machine.parked.wants_more for pipeline in self._pipelines)

    def apply(self) -> None:
        """Take over what changed in the plugin's delivery settings."""
        for pipeline in self._pipelines:
            pipeline.policy.change(self.plugin.delivery)

    async def start(self) -> None:
        """Take the cursors, or wait for them in the background, and begin once the plugin has started. Where what the
        journal has about this plugin is damaged, only this plugin gets no events. `JournalError`."""
        try:
            await self._take_share()
        except JournalDamaged as error:
            self.health.broken = str(error)
            log.error("plugin %s: gets no events until the journal is repaired: %s", self.plugin.name, error)
            return
        self._journal.on_turnover.append(self._turn_over)
        self._task = asyncio.create_task(self._keep_share(), name=f"share of {self.plugin.name}")
        self._starting = asyncio.create_task(self._when_started(), name=f"start of {self.plugin.name}")

    async def _when_started(self) -> None:
        """A gateway whose plugin has started may have a greater share."""
        await self.plugin.startup.done.wait()
        self._wake.set()

    def _turn_over(self) -> None:
        """A cursor may have come free."""
        self._turns += 1
        for shard in self._shards:
            shard.ask_at = 0.0
        self._wake.set()

    def _ended(self, given_back: bool) -> None:
        """A shard has left."""
        if given_back:
            self._rests_until = asyncio.get_running_loop().time() + REST
        if not self.owns:
            self.health.blocked = None
            self.health.outage.reset()
        self._wake.set()

    async def _keep_share(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            while True:
                ask_at = min((shard.ask_at for shard in self._shards if shard.pipeline is None), default=None)
                at = None if ask_at is None else max(ask_at, self._rests_until, loop.time() + 0.1)
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout_at(at):
                        await self._wake.wait()
                self._wake.clear()
                await until_read(self._take_share)
        except Exception as error:
            self.health.broken = f"internal error: {describe(error)}"
            log.critical("plugin %s: delivery stopped until a restart", self.plugin.name, exc_info=error)

    async def _take_share(self) -> None:
        staying = [shard for shard in self._shards if shard.is_staying]
        share = self._journal.share(self.plugin.name, len(self._shards), len(staying))
        for shard in staying[len(staying) - share.surplus :]:
            shard.give_back()
        now = asyncio.get_running_loop().time()
        if now < self._rests_until:
            return
        for shard in self._shards:
            if len([one for one in self._shards if one.pipeline is not None]) >= share.most:
                return
            if shard.pipeline is None and shard.ask_at <= now:
                turns = self._turns
                await shard.take()
                if turns != self._turns:  # the answer may be older than that
                    shard.ask_at = 0.0

    async def stop(self, deadline: float) -> None:
        """Let the plugin finish what it has, until `deadline` by the event loop's clock, settle that, and give the
        cursors back."""
        await self._stop_asking()
        await asyncio.gather(*(shard.stop(deadline) for shard in self._shards))
        await self._shared.checkpoint.abandon()

    async def abandon(self) -> None:
        """Break off: nothing more is called, written or settled."""
        await self._stop_asking()
        await asyncio.gather(*(shard.abandon() for shard in self._shards))
        await self._shared.checkpoint.abandon()

    async def _stop_asking(self) -> None:
        if self._turn_over in self._journal.on_turnover:
            self._journal.on_turnover.remove(self._turn_over)
        tasks = [task for task in (self._task, self._starting) if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def start_over(self, gone: Collection[int]) -> None:
        """The events at these positions were erased: when this returns, the plugin has returned those that it had, and
        gets none of them any more. `TimeoutError` where it does not return them."""
        await asyncio.gather(*(shard.start_over(gone) for shard in self._shards))

    async def look_again(self) -> None:
        """Take up what operators wrote into the journal: dead letters to retry, and replays."""
        for pipeline in self._pipelines:
            await pipeline.look_again()

    async def take_back(self, number: int, seqs: Collection[int]) -> None:
        """See `Delivery.take_back`; `seqs` are of this plugin."""
        for shard in self._shards:
            if shard.pipeline is None:
                await self._journal.take_back(shard.track, number, seqs)
            else:
                await shard.pipeline.take_back(number, seqs)

    async def end_replay(self, number: int) -> None:
        """See `Delivery.end_replay`."""
        for pipeline in self._pipelines:
            await pipeline.end_replay(number)
