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
            await self._hold.before_checkpoint()
        return await super().call(impl, *args, timeout=timeout)


class Hold:
    """The hold of one plugin: of its checkpoints, or of the settlements that follow them. A plugin without a checkpoint
    has settlements only."""

    def __init__(self, plugin: Plugin, journal: Journal) -> None:
        self.reached = False
        """Whether something is held now."""
        self._open = asyncio.Event()
        self._open.set()
        self._checkpoints = "checkpoint" in plugin.hooks
        self._held_checkpoints = False
        self._name = plugin.name
        if self._checkpoints:
            plugin.caller = _HeldCaller(plugin, self)
        self._settle = journal.settle
        journal.settle = self._held_settle  # type: ignore[method-assign]

    def close(self, *, settlements: bool = False) -> None:
        """Hold the next checkpoint, or with `settlements` what follows it."""
        self._held_checkpoints = self._checkpoints and not settlements
        self._open.clear()

    def open(self) -> None:
        self._open.set()

    async def before_checkpoint(self) -> None:
        if self._held_checkpoints:
            await self._wait()

    async def _held_settle(self, settlement: Settlement) -> None:
        if settlement.track.plugin == self._name and not self._held_checkpoints:
            await self._wait()
        await self._settle(settlement)

    async def _wait(self) -> None:
        self.reached = not self._open.is_set()
        await self._open.wait()
        self.reached = False
