"""How many events a plugin has at the same time: batches beside one another, each of as many events as make sense."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Final

import msgspec

from gateway.delivery.crash_guard import CrashGuard
from gateway.delivery.items import Batch
from gateway.delivery.machine import Machine
from gateway.delivery.shared import Shared
from gateway.journal.interface import JournalError, LeaseLost, Standing, Track
from gateway.plugin_host.call import Stuck
from gateway.plugin_host.event_calls import EventCalls, Outcome
from gateway.plugin_host.load import Plugin
from gateway.text import describe

BATCH: Final = 256
BATCH_SECONDS: Final = 0.005
"""How long a batch should take; a slow plugin gets one event at a time."""
SECOND_BATCH: Final = 0.01
"""Seconds that those with a threaded plugin must have taken before another batch begins beside them: a fast plugin
gains nothing from more threads."""
SLOW_EVENT: Final = 0.002
"""Seconds that an event takes on average, from which on more threads gain something."""
STUCK_PAUSE: Final = 0.5
LEASE_PAUSE: Final = 0.2
"""Seconds until a lease that is over is looked at again: it may have been renewed."""


class Dispatcher:
    """Hands out what is ready while the lease lasts, in at most `concurrency` batches at once of all shards."""

    def __init__(
        self, plugin: Plugin, track: Track, machine: Machine, guard: CrashGuard, shared: Shared, standing: Standing
    ) -> None:
        self.closed = False
        """Whether nothing more is handed out."""
        self._plugin = plugin
        self._machine = machine
        self._guard = guard
        self._shared = shared
        self._health = shared.health
        self._track = track
        self._epoch, self._lease = standing.epoch, standing.lease
        self._batches: dict[asyncio.Task[None], Batch] = {}
        self._seconds = BATCH_SECONDS
        """Seconds per event, on a moving average."""
        self._timer: asyncio.TimerHandle | None = None
        self._probe_timer: asyncio.TimerHandle | None = None
        self._error: BaseException | None = None

    async def run(self) -> None:
        while True:
            await self._machine.ready.wait()
            self._machine.ready.clear()
            if self._error is not None:
                raise self._error
            if self._has_lease():
                self._dispatch()

    def _has_lease(self) -> bool:
        """Whether events may be handed out. `LeaseLost`."""
        if self._lease is None or not self._lease.is_over:
            return True
        if self._lease.lost:
            raise LeaseLost(f"the cursor of plugin {self._track.plugin} has been taken again")
        asyncio.get_running_loop().call_later(LEASE_PAUSE, self._machine.ready.set)
        return False

    def open(self) -> None:
        self.closed = False
        self._machine.ready.set()
        self._shared.wake()

    async def drain(self, timeout: float | None = None) -> None:
        """Hand out nothing more, and wait until the plugin has returned what it has, for at most `timeout` seconds."""
        self.closed = True
        if self._batches:
            await asyncio.wait(self._batches, timeout=timeout)
            await asyncio.sleep(0)

    async def abandon(self) -> None:
        """Hand out nothing more, and break off what is with the plugin."""
        self.closed = True
        batches = list(self._batches)
        for batch in batches:
            batch.cancel()
        await asyncio.gather(*batches, return_exceptions=True)

    def _dispatch(self) -> None:
        outage = self._health.outage
        while not self.closed and self._may_begin():
            if outage.probing:
                self._machine.conversations.prefer(outage.probes_failed)
            batch = self._machine.take(1 if outage.probing else self._size())
            if batch is None:
                return
            if outage.probing:
                outage.begin_probe(self._plugin.delivery.backoff_max)
            task = asyncio.create_task(self._deliver(batch), name=f"batch of {self._plugin.name}")
            self._batches[task] = batch
            self._shared.begin(task, batch)
            task.add_done_callback(self._ended)
        if outage.probing:
            self._wait_for_probe()
        more = (
            0 < len(self._shared.batches) < self._plugin.delivery.concurrency
            and self._machine.conversations.next_item()
        )
        if more and self._plugin.threaded and self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(SECOND_BATCH, self._look_again)

    def _look_again(self) -> None:
        self._timer = None
        self._machine.ready.set()

    def _wait_for_probe(self) -> None:
        if self._probe_timer is not None:
            self._probe_timer.cancel()
        if not (self.closed or self._shared.batches or self._shared.unproven):
            at = self._health.outage.probe_at
            self._probe_timer = asyncio.get_running_loop().call_at(at, self._machine.ready.set)

    def _may_begin(self) -> bool:
        if self._health.outage.probing:
            due = asyncio.get_running_loop().time() >= self._health.outage.probe_at
            return due and not self._shared.batches and not self._shared.unproven
        batches = self._shared.batches
        if not batches:
            return True
        if len(batches) >= self._plugin.delivery.concurrency:
            return False
        first, own = self._machine.conversations.next_item(), self._batches.values()
        if first is None:
            return False
        if first.careful or any(batch.items[0].careful for batch in batches.values()):
            return not own  # each shard has a careful one at a time, as each plugin has
        if not self._plugin.threaded or self._seconds >= SLOW_EVENT:
            return True
        now = asyncio.get_running_loop().time()
        return now - max(batch.began for batch in batches.values()) >= SECOND_BATCH

    def _size(self) -> int:
        return max(1, min(BATCH, int(BATCH_SECONDS / self._seconds)))

    async def _deliver(self, batch: Batch) -> None:
        outcomes: Sequence[Outcome]
        calls = EventCalls(self._plugin, batch.items, self._lease)
        first = batch.items[0]
        try:
            if first.careful:
                suspected = self._machine.crashes.get(first.seq, 0) > 0
                async with self._guard.marked(self._track, self._epoch, first.seq, suspected):
                    outcomes = await calls.run()
            else:
                outcomes = await calls.run()
        except LeaseLost:
            raise
        except JournalError:
            outcomes = []
        except Exception as error:  # there may be no thread to be had
            outcomes = [error if isinstance(error, Stuck) else Stuck(describe(error))]
        for item in batch.items:
            if item is calls.broken_off and item.event is not None:  # a hook may have had it
                item.event = msgspec.structs.replace(item.event, redelivered=True)
        if not outcomes or isinstance(outcomes[-1], Stuck):
            await asyncio.sleep(STUCK_PAUSE)
        else:
            seconds = (asyncio.get_running_loop().time() - batch.began) / len(outcomes)
            self._seconds += 0.25 * (max(seconds, 1e-6) - self._seconds)
        self._machine.over(batch, outcomes, calls.seconds)

    def _ended(self, task: asyncio.Task[None]) -> None:
        del self._batches[task]
        if not task.cancelled():
            self._error = self._error or task.exception()
        self._shared.end(task, self._machine.ready)
