"""Holds back what makes a plugin's progress durable, so that a test can crash the gateway before it."""

from __future__ import annotations

import asyncio
from typing import Any

from gateway.journal.interface import Journal, Settlement
from gateway.plugin_host.call import Caller, Impl
from gateway.plugin_host.load import Plugin


class _HeldCaller(Caller):
    """Calls a checkpoint only while the hold is open."""

    def __init__(self, plugin: Plugin, hold: Hold) -> None:
        super().__init__(plugin.threads, plugin.loop)
        self._hold = hold

    async def call(self, impl: Impl, *args: Any, timeout: float) -> Any:
        if impl.name == "checkpoint":
            await self._hold.wait()
        return await super().call(impl, *args, timeout=timeout)


class Hold:
    """The hold of one plugin. It holds the plugin's checkpoint, and the settlement of one without a checkpoint."""

    def __init__(self, plugin: Plugin, journal: Journal) -> None:
        self.reached = False
        """Whether something is held now."""
        self._open = asyncio.Event()
        self._open.set()
        self._name = plugin.name
        if "checkpoint" in plugin.hooks:
            plugin.caller = _HeldCaller(plugin, self)
        else:
            self._settle = journal.settle
            journal.settle = self._held_settle  # type: ignore[method-assign]

    def close(self) -> None:
        self._open.clear()

    def open(self) -> None:
        self._open.set()

    async def wait(self) -> None:
        """Return once the hold is open."""
        self.reached = not self._open.is_set()
        await self._open.wait()
        self.reached = False

    async def _held_settle(self, settlement: Settlement) -> None:
        if settlement.track.plugin == self._name:
            await self.wait()
        await self._settle(settlement)
