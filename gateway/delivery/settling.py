"""When one plugin's progress is written: once the plugin has made durable what it took, in short transactions."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Collection
from typing import Final

from gateway.delivery.checkpoint import NOT_CALLED
from gateway.delivery.dispatching import LEASE_PAUSE, Dispatcher
from gateway.delivery.items import Item
from gateway.delivery.machine import Machine
from gateway.delivery.reading import LogReader
from gateway.delivery.replaying import ReplayReader
from gateway.delivery.shared import Shared
from gateway.journal.interface import Cursors, JournalFailed, JournalFull, LeaseLost, Settlement, Standing, Track
from gateway.plugin_host.call import GRACE, PluginFault
from gateway.plugin_host.load import Plugin

PAUSE: Final = 0.02
ROWS: Final = 200
"""Parked events written in one transaction: acknowledgements wait for it."""
TRY_AGAIN: Final = 0.5
"""Seconds until the journal is asked again when it had no room."""


class Settler:
    """Settles what the plugin took: a checkpoint, then a settlement. Where the checkpoint fails, all that is not
    settled counts as not delivered, and comes again at the pace of the outage that this is."""

    def __init__(
        self,
        plugin: Plugin,
        track: Track,
        journal: Cursors,
        machine: Machine,
        live: LogReader,
        replays: ReplayReader,
        dispatcher: Dispatcher,
        shared: Shared,
        standing: Standing,
    ) -> None:
        self._plugin = plugin
        self._track = track
        self._journal = journal
        self._machine = machine
        self._live = live
        self._replays = replays
        self._dispatcher = dispatcher
        self._shared = shared
        self._health = shared.health
        self._epoch, self._lease = standing.epoch, standing.lease
        self._failures = shared.checkpoint.failures
        """How many failed checkpoints of the plugin this shard has seen."""
        self._draining = asyncio.Event()
        self._drained = False
        self._busy = False
        self._gone: list[tuple[Collection[int], asyncio.Future[None]]] = []

    @property
    def idle(self) -> bool:
        return not (self._busy or self._machine.unsettled.is_set())

    def drain(self) -> None:
        """No more pauses."""
        self._draining.set()

    def finish(self) -> None:
        """Nothing more comes: `run` returns once all is settled."""
        self._drained = True
        self._machine.unsettled.set()

    async def start_over(self, gone: Collection[int]) -> None:
        """The events at these positions were erased: settle what the plugin has, and forget all that was read."""
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._gone.append((gone, future))
        self._machine.unsettled.set()
        await future

    async def run(self) -> None:
        unsettled = self._machine.unsettled
        while True:
            await unsettled.wait()
            self._busy = True
            unsettled.clear()
            taken = self._machine.take_taken()
            error = await self._make_durable() if taken and not self._is_undone else None
            if error is None and not self._is_undone:
                await self._settle(taken)
            else:
                await self._undo(taken, error)
            if self._gone and not self._draining.is_set():
                await self._let_go()
            self._look_at_outage()
            self._busy = False
            if self._drained and not unsettled.is_set():
                return
            await self._nap(PAUSE)

    async def _nap(self, seconds: float) -> None:
        """Sleep, but not while draining."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._draining.wait()

    @property
    def _is_undone(self) -> bool:
        """Whether a checkpoint has failed, perhaps of another shard, since this one last settled or undid everything:
        what the plugin took before that does not count."""
        return self._failures != self._shared.checkpoint.failures

    async def _make_durable(self) -> Exception | None:
        """Have the plugin make durable what it took, while the lease lasts. `LeaseLost`."""
        error: Exception | None = NOT_CALLED
        while error is NOT_CALLED:
            while self._lease is not None and self._lease.is_over:
                if self._lease.lost:
                    raise LeaseLost(f"the cursor of plugin {self._track.plugin} has been taken again")
                await asyncio.sleep(LEASE_PAUSE)
            if self._is_undone:
                return None
            error = await self._shared.checkpoint.make_durable(self._lease)
        if error is None:
            self._health.blocked = None
        return error

    async def _settle(self, taken: list[Item]) -> None:
        self._machine.settle(taken)
        cursor = self._live.cursor if self._live.window.advance() else None
        replay = self._replays.progress()
        park, release = self._machine.parked.changes(self._live.cursor)
        track = self._track
        replayed = [item.seq for item in taken if item.replay or (item.row is not None and item.row.replayed)]
        attempts, self._machine.parked.attempts = self._machine.parked.attempts, []
        while len(park) > ROWS or len(attempts) > ROWS:  # before the cursor moves past them
            part = Settlement(track=track, epoch=self._epoch, park=park[:ROWS], attempts=attempts[:ROWS])
            await self._commit(part)
            park, attempts = park[ROWS:], attempts[ROWS:]
        if cursor is not None or park or release or replay is not None or replayed or attempts:
            settlement = Settlement(track=track, epoch=self._epoch, cursor=cursor, park=park, release=release)
            settlement.replay, settlement.replayed, settlement.attempts = replay, replayed, attempts
            await self._commit(settlement)
        self._machine.parked.written()
        self._live.wake.set()
        self._replays.settled()

    async def _commit(self, settlement: Settlement) -> None:
        while True:
            try:
                await self._journal.settle(settlement)
                return
            except JournalFull:
                await asyncio.sleep(TRY_AGAIN)
            except JournalFailed:
                return  # the gateway stops, and the next start goes on from what is durable

    async def _let_go(self) -> None:
        erased, self._gone = self._gone, []
        await self._dispatcher.drain(self._plugin.delivery.timeout + 2 * GRACE)
        taken = self._machine.take_taken()
        error = await self._make_durable() if taken and not self._is_undone else None
        undone = error is not None or self._is_undone
        if not undone:
            await self._settle(taken)
            taken = []
        for gone, _ in erased:
            self._machine.parked.forget(gone)
        if undone:
            await self._undo(taken, error)
        else:
            self._rewind(taken)
            if not self._draining.is_set():
                self._dispatcher.open()
        for _, future in erased:
            if not future.done():
                future.set_result(None)

    def _rewind(self, taken: list[Item]) -> None:
        self._live.rewind()
        self._replays.rewind()
        self._machine.rewind(taken, self._live.cursor)

    async def _undo(self, taken: list[Item], error: Exception | None) -> None:
        """`error` is why the checkpoint failed, None where it was that of another shard."""
        if error is not None and self._shared.is_new(error):
            cause = error.cause if isinstance(error, PluginFault) else error
            self._health.failed(cause, asyncio.get_running_loop().time())
        await self._dispatcher.drain(self._plugin.delivery.timeout + 2 * GRACE)
        self._failures = self._shared.checkpoint.failures
        await self._settle([])  # what is parked or dead stays so, or it would come behind what was taken after it
        if self._draining.is_set():
            return
        self._rewind(taken)
        self._dispatcher.open()

    def _look_at_outage(self) -> None:
        """Tell of its end; forget it where nothing is left that the plugin could take."""
        outage = self._health.outage
        outage.tell_end(self._waiting)
        if outage.failures and self._shared.idle:
            outage.reset()

    def _waiting(self) -> int:
        """How many events are parked or past the cursor; those past it count although the plugin may have no hook."""
        cursor = self._live.cursor
        return sum(seq <= cursor for seq in self._machine.parked.items) + max(0, self._journal.newest - cursor)
