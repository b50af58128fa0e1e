"""One plugin's way from the journal and back, for as long as this gateway owns the plugin's cursor."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection
from functools import partial
from typing import Final

from gateway.delivery.crash_guard import CrashGuard
from gateway.delivery.dispatching import Dispatcher
from gateway.delivery.machine import Machine
from gateway.delivery.reading import LogReader, until_read
from gateway.delivery.replaying import ReplayReader
from gateway.delivery.retry import RetryPolicy
from gateway.delivery.settling import Settler
from gateway.delivery.shared import Shared
from gateway.delivery.withdrawing import withdraw_retried
from gateway.journal.interface import Journal, Standing, Track
from gateway.plugin_host.load import Plugin

AT_ONCE: Final = 64
"""Parked events that are read together."""


class Pipeline:
    """Two readers, the retry loop, the dispatcher and the settler around one machine."""

    def __init__(
        self,
        plugin: Plugin,
        track: Track,
        journal: Journal,
        guard: CrashGuard,
        shared: Shared,
        clock: Callable[[], float],
        standing: Standing,
    ) -> None:
        health = shared.health
        self.policy = RetryPolicy.of(plugin.delivery)
        self.machine = Machine(standing, self.policy, health, clock, buffers="checkpoint" in plugin.hooks)
        self.live = LogReader(plugin, track, journal, self.machine, health, standing)
        self.epoch = standing.epoch
        self._plugin = plugin
        self._track = track
        self._journal = journal
        self._shared = shared
        self._replays = ReplayReader(plugin, track, journal, self.machine, self.live, standing)
        self._dispatcher = Dispatcher(plugin, track, self.machine, guard, shared, standing)
        self._settler = Settler(
            plugin, track, journal, self.machine, self.live, self._replays, self._dispatcher, shared, standing
        )
        self._looking = asyncio.Lock()
        self._tasks: list[asyncio.Task[None]] = []

    @property
    def running(self) -> bool:
        """Whether `run` has begun."""
        return bool(self._tasks)

    @property
    def through(self) -> bool:
        """Whether all there is was read and has left the window."""
        return not len(self.live.window) and self.live.cursor >= self._journal.newest and self._replays.idle

    @property
    def idle(self) -> bool:
        """Whether all there is was taken and settled; dead letters are."""
        return self.through and self.machine.idle and self._settler.idle

    @property
    def cautious(self) -> bool:
        """Whether an event that might kill the process is still to come."""
        return self.live.cautious or self.machine.cautious or self._replays.cautious

    async def run(self) -> None:
        """Deliver until drained or abandoned; raises what a part of it raised, `LeaseLost` above all."""
        self._shared.join(self)
        loops = (self.live.run(), self._replays.run(), self._retry(), self._dispatcher.run(), self._settler.run())
        self._tasks = [asyncio.create_task(loop, name=f"delivery to {self._plugin.name}") for loop in loops]
        self._journal.on_commit.append(self.live.wake.set)
        try:
            await asyncio.wait(self._tasks, return_when=asyncio.FIRST_EXCEPTION)
            for task in self._tasks:
                if task.done() and not task.cancelled() and (error := task.exception()) is not None:
                    raise error
        finally:
            self._journal.on_commit.remove(self.live.wake.set)
            await self.abandon()
            self._shared.leave(self)

    async def drain(self, deadline: float) -> None:
        """Hand out nothing more, wait until `deadline` (by the event loop's clock) for what the plugin has, and settle
        what it took. The rest comes again at the next start."""
        loop = asyncio.get_running_loop()
        *readers, dispatching, settling = self._tasks
        self._settler.drain()
        for task in readers:
            task.cancel()
        await self._dispatcher.drain(max(0.0, deadline - loop.time()))
        self.machine.park_all()
        self._settler.finish()
        await asyncio.wait((settling,), timeout=max(0.1, deadline - loop.time()))
        for task in (dispatching, settling):
            task.cancel()

    async def abandon(self) -> None:
        """Break off: nothing more is called, written or settled."""
        for task in self._tasks:
            task.cancel()
        await self._dispatcher.abandon()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def look_again(self) -> None:
        """Take up what operators wrote into the journal: dead letters to retry, and replays."""
        async with self._looking:
            parked = self.machine.parked
            parked.begin_look()
            try:
                changes = await self._journal.changes(self._track)
                self.machine.take_up(parked.new_of(changes.parked))
            finally:
                parked.end_look()
            self._replays.take_up(changes.replays)

    async def take_back(self, number: int, seqs: Collection[int]) -> None:
        """See `Delivery.take_back`; `seqs` are of this plugin."""
        async with self._looking:  # or they would be taken up again
            kept = withdraw_retried(self.machine, seqs)
            await self._journal.take_back(self._track, number, [seq for seq in seqs if seq not in kept])
        await self.look_again()

    async def end_replay(self, number: int) -> None:
        """Hand out nothing more of a replay, and wait until what the plugin has of it is settled."""
        settled = self._replays.end(number)
        if self.running:
            await settled.wait()

    async def start_over(self, gone: Collection[int]) -> None:
        """The events at these positions were erased from the journal: have the plugin return what it has, settle that,
        and forget all that was read."""
        await self._settler.start_over(gone)

    async def _retry(self) -> None:
        """Read parked events again when they are due."""
        loop, conversations = asyncio.get_running_loop(), self.machine.conversations
        while True:
            conversations.scheduled.clear()
            items = conversations.take_due(AT_ONCE)
            if items:
                seqs = [item.seq for item in items]
                self.machine.fetched(items, await until_read(partial(self._journal.fetch, seqs)))
                continue
            due = conversations.next_due()
            timer = None if due is None else loop.call_at(due, conversations.scheduled.set)
            await conversations.scheduled.wait()
            if timer is not None:
                timer.cancel()
