"""Checkpoints of one plugin, whose shards it does not tell apart: a call makes durable what it took of all of them, and
one that fails undoes what it took of all of them since the last."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from gateway.plugin_host.call import CallTimeout, PluginFault, Stuck
from gateway.plugin_host.load import Plugin

if TYPE_CHECKING:
    from gateway.journal.lease import Lease


class _NotCalled(Exception):
    """The lease of each shard that asked was over when it was the checkpoint's turn."""


NOT_CALLED: Final = _NotCalled()


class Checkpoint:
    """`failures` counts the calls that failed: a shard that sees it grow has to undo what it has not settled."""

    def __init__(self, plugin: Plugin) -> None:
        self.failures = 0
        self._plugin = plugin
        self._hook = plugin.hooks.get("checkpoint")
        self._shared = plugin.delivery.shards > 1
        self._running: asyncio.Task[Exception | None] | None = None
        self._next: asyncio.Task[Exception | None] | None = None
        self._leases: list[Lease | None] = []
        """Those of the shards that wait for the next call."""

    async def make_durable(self, lease: Lease | None = None) -> Exception | None:
        """Have the plugin make durable what it has taken until now; returns why it has not, or None. `lease` is the
        shard's, which holds now: `NOT_CALLED` where it does not any more when the call before is over."""
        if self._hook is None:
            return None
        if not self._shared:
            return await self._call()
        self._leases.append(lease)
        if self._next is None:
            self._next = asyncio.create_task(self._after(self._running), name=f"checkpoint of {self._plugin.name}")
        return await asyncio.shield(self._next)

    async def abandon(self) -> None:
        """Break off what runs."""
        tasks = [task for task in (self._next, self._running) if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _after(self, running: asyncio.Task[Exception | None] | None) -> Exception | None:
        """Call once the call before is over: it may not cover what was taken since it began. Shards that ask for a
        checkpoint meanwhile share this one."""
        if running is not None:
            await asyncio.wait((running,))
        self._running, self._next = self._next, None
        leases, self._leases = self._leases, []
        if all(lease is not None and lease.is_over for lease in leases):
            return NOT_CALLED
        return await self._call()

    async def _call(self) -> Exception | None:
        if self._hook is None:
            return None
        try:
            await self._plugin.caller.call(self._hook, timeout=self._plugin.delivery.timeout)
        except (PluginFault, CallTimeout, Stuck) as error:
            self.failures += 1
            return error
        return None
