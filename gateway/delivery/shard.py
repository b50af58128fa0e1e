"""One shard of a plugin's delivery: its cursor is taken, its events are delivered, and the cursor is released."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Collection
from typing import Final

from gateway.delivery.crash_guard import CrashGuard
from gateway.delivery.pipeline import Pipeline
from gateway.delivery.shared import Shared
from gateway.journal.interface import EVERY_HOOK, HeldBy, Journal, JournalError, LeaseLost, Track
from gateway.plugin_host.call import GRACE
from gateway.plugin_host.load import Plugin
from gateway.text import describe

log = logging.getLogger("gateway.delivery")

SETTLING: Final = 30.0
"""Seconds that the settlement of what a plugin returned may take."""
TAKE_AGAIN: Final = 5.0
"""Seconds at most until a cursor that another gateway owns is asked for again."""


class Shard:
    """While it has a pipeline, the cursor is this gateway's; else `holder` is the gateway that had it when it was last
    asked for, if one had. It is to be asked for again at `ask_at`, by the event loop's clock."""

    def __init__(
        self,
        plugin: Plugin,
        number: int,
        journal: Journal,
        guard: CrashGuard,
        shared: Shared,
        clock: Callable[[], float],
        ended: Callable[[bool], None],
    ) -> None:
        """`ended` is called when the cursor has been lost or given back, with whether it was given back."""
        self.track = Track(plugin.name, number)
        self.pipeline: Pipeline | None = None
        self.holder: str | None = None
        self.ask_at = 0.0
        self.lost = False
        """Whether another gateway took the cursor although it had not been released."""
        self._plugin = plugin
        self._journal = journal
        self._guard = guard
        self._shared = shared
        self._clock = clock
        self._ended = ended
        self._draining = False
        self._task: asyncio.Task[None] | None = None
        self._returning: asyncio.Task[None] | None = None

    @property
    def is_staying(self) -> bool:
        """Whether the cursor is this gateway's and not about to be released."""
        return self.pipeline is not None and self._returning is None

    async def take(self) -> None:
        """Take the cursor and begin to deliver, unless another gateway owns it. `JournalError`."""
        hooks = (EVERY_HOOK,) if self._plugin.takes is None else self._plugin.takes
        delivery = self._plugin.delivery
        standing = await self._journal.take_cursor(self.track, delivery.from_start, hooks, delivery.shards)
        self.lost = False
        if isinstance(standing, HeldBy):
            self.holder = standing.owner
            self._ask_in(min(TAKE_AGAIN, max(0.1, standing.until - self._clock())))
            return
        self.holder = None
        self.pipeline = Pipeline(
            self._plugin, self.track, self._journal, self._guard, self._shared, self._clock, standing
        )
        self._task = asyncio.create_task(self._run(self.pipeline), name=f"delivery to {self._plugin.name}")

    def _ask_in(self, seconds: float) -> None:
        self.ask_at = asyncio.get_running_loop().time() + seconds

    async def _run(self, pipeline: Pipeline) -> None:
        """Deliver until drained, once the plugin has started."""
        await self._plugin.startup.done.wait()
        try:
            await pipeline.run()
        except LeaseLost as error:
            log.error(
                "plugin %s: delivery stopped: %s; asking for the cursor again in %g s",
                self._plugin.name, error, TAKE_AGAIN,
            )  # fmt: skip
            self.lost = not self._draining
        except Exception as error:
            self._shared.health.broken = f"internal error: {describe(error)}"
            log.critical("plugin %s: delivery stopped until a restart", self._plugin.name, exc_info=error)
            return
        if not self._draining:
            self._leave(given_back=False)

    def _leave(self, *, given_back: bool) -> None:
        self.pipeline, self._draining, self._returning = None, False, None
        self._ask_in(TAKE_AGAIN)
        self._ended(given_back)

    def give_back(self) -> None:
        """Let another gateway have the cursor: hand out nothing more, and settle what the plugin returns in time."""
        self._returning = asyncio.create_task(self._give_back(), name=f"handover of {self._plugin.name}")

    async def _give_back(self) -> None:
        await self._drain(asyncio.get_running_loop().time() + self._plugin.delivery.timeout + 2 * GRACE)
        self._leave(given_back=True)

    async def stop(self, deadline: float) -> None:
        """Let the plugin finish what it has, until `deadline` by the event loop's clock, settle that, and release the
        cursor."""
        if self._returning is None:
            await self._drain(deadline)
            return
        loop = asyncio.get_running_loop()
        await asyncio.wait((self._returning,), timeout=max(0.0, deadline - loop.time()))
        await self.abandon()

    async def _drain(self, deadline: float) -> None:
        self._draining, pipeline = True, self.pipeline
        if pipeline is None or self._task is None:
            await self.abandon()
            return
        broken = self._task.done()  # by an error of our own: what the plugin has of it is unknown, as after a crash
        if pipeline.running and not broken:
            await pipeline.drain(deadline)
            await asyncio.gather(self._task, return_exceptions=True)
        else:  # or the plugin has not started
            await self.abandon()
        with contextlib.suppress(JournalError):
            await self._journal.release_cursor(self.track, pipeline.epoch, clean=not (broken or pipeline.cautious))

    async def abandon(self) -> None:
        """Break off: nothing more is called, written or settled."""
        own = asyncio.current_task()
        tasks = [task for task in (self._task, self._returning) if task is not None and task is not own]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def start_over(self, gone: Collection[int]) -> None:
        """See `Consumer.start_over`."""
        if self.pipeline is not None and self.pipeline.running:
            async with asyncio.timeout(2 * self._plugin.delivery.timeout + SETTLING):
                await self.pipeline.start_over(gone)
