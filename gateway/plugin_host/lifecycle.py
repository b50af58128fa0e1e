"""Starts the plugins beside the gateway, each until it has started, and shuts them down in reverse.

1. `begin` calls the `startup` hooks in config order: the next one when the one before is over, or has taken `TURN`
   seconds.
2. A startup that fails, or is not over after `startup_timeout`, is cleaned up with the `shutdown` hook, and tried again
   after a pause that doubles from `backoff` to `backoff_max`.
3. `halt` begins no further attempt.
4. `stop` waits for attempts that are running, for half of its time, and calls the `shutdown` hooks: of every plugin
   whose `startup` was called since its last `shutdown`, and of those without a `startup` hook.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Sequence
from typing import Final

from gateway.config.tables import Config
from gateway.hookspecs import Context
from gateway.log import RateLimit
from gateway.plugin_host.call import PluginFault, Stuck
from gateway.plugin_host.fault_log import frames
from gateway.plugin_host.load import Plugin
from gateway.plugin_host.startup import Phase
from gateway.plugin_host.tasks import CANCEL_SECONDS
from gateway.text import counted

log = logging.getLogger("gateway.lifecycle")

TURN: Final = 1.0
"""Seconds after which a startup that is still running no longer holds back the next plugin's."""
STILL_WAITING: Final = 5.0
"""Seconds between two lines about a plugin that has not started."""
FIRST_WAIT: Final = 60.0
"""Seconds after which those lines come only while the hook is running: each failed attempt has a line of its own."""


class StartFailed(Exception):
    """A part of the gateway did not start; a sentence for the operator."""


class Lifecycle:
    """The startups and shutdowns of all plugins."""

    def __init__(self, config: Config, plugins: Sequence[Plugin]) -> None:
        self._config = config
        self.plugins = plugins
        self._open: set[str] = set()
        """The plugins whose `shutdown` is due, by name."""
        self._halted = asyncio.Event()
        self._failures = RateLimit(log)
        self._tasks: list[asyncio.Task[None]] = []

    def begin(self) -> None:
        """Start all in the background."""
        self._open |= {plugin.name for plugin in self.plugins if plugin.startup.phase is Phase.DONE}
        self._tasks.append(asyncio.create_task(self._start_all(), name="startups"))

    async def start(self) -> None:
        """Start all once, one after the other. Where one fails, those that have started are shut down again; then
        `StartFailed`."""
        for plugin in self.plugins:
            fault = await self._start(plugin)
            if fault is not None:
                await self.stop(5.0)
                raise StartFailed(f"plugin {plugin.name} did not start: {fault}")

    def halt(self) -> None:
        """Begin no further attempt to start a plugin."""
        self._halted.set()

    async def stop(self, seconds: float) -> None:
        """Shut down in reverse, all within `seconds`. What a plugin raises is logged, and the next one still runs."""
        deadline = time.monotonic() + seconds
        self.halt()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=seconds / 2)
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)
        for plugin in reversed(self.plugins):
            await self._shut_down(plugin, round(max(0.2, deadline - time.monotonic()), 1))
        for plugin in self.plugins:
            plugin.close()
        for plugin in self.plugins:
            if not await plugin.loop.closed(max(0.1, deadline - time.monotonic())):
                log.error("plugin %s: its event loop did not end: blocked at %s", plugin.name, plugin.loop.place())

    async def _start_all(self) -> None:
        began, starting = time.monotonic(), []
        for plugin in self.plugins:
            if plugin.startup.phase is Phase.DONE:
                continue
            if self._halted.is_set():
                return
            starting.append(asyncio.create_task(self._keep_starting(plugin), name=f"startup of {plugin.name}"))
            self._tasks.append(starting[-1])
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(TURN):
                    await plugin.startup.attempted.wait()
        await asyncio.gather(*starting)
        if starting and not self._halted.is_set():
            log.info("every plugin has started, after %.1f s", time.monotonic() - began)

    async def _keep_starting(self, plugin: Plugin) -> None:
        """Try until the plugin has started."""
        began, startup, limits = time.monotonic(), plugin.startup, plugin.delivery
        telling = asyncio.create_task(self._tell(plugin), name=f"waiting for {plugin.name}")
        try:
            while (fault := await self._start(plugin)) is not None:
                pause = min(limits.backoff_max, limits.backoff * 2.0 ** min(startup.failures, 60))
                again = f"; its events wait in the journal, and it is tried again in {pause:g} s"
                told = plugin.faults.warning(log, f"plugin {plugin.name}: startup", _cause(fault), again)
                startup.failed(told, pause)
                await self._shut_down(plugin, float(limits.startup_timeout))
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(pause):
                        await self._halted.wait()
                if self._halted.is_set():
                    return
        finally:
            telling.cancel()
        if startup.failures:
            failed = counted(startup.failures, "failed attempt")
            log.warning("plugin %s: started after %.0f s and %s", plugin.name, time.monotonic() - began, failed)

    async def _start(self, plugin: Plugin) -> Exception | None:
        """Call the `startup` hook, if there is one. Returns what went wrong, or None."""
        impl = plugin.hooks.get("startup")
        self._open.add(plugin.name)
        plugin.tasks.open()
        if impl is not None:
            context = Context(
                name=plugin.name,
                log=logging.getLogger(f"plugins.{plugin.name}"),
                directory=self._config.directory,
                organisations=tuple(self._config.organisations),
                state=self._config.journal.path.absolute().parent / "plugins" / plugin.name,
                node=None if self._config.journal.url is None else self._config.node.name,
                metrics=plugin.metrics,
                spawner=plugin.tasks.spawn,
            )
            plugin.startup.begin()
            try:
                await plugin.caller.call(impl, context, timeout=plugin.delivery.startup_timeout)
            except Exception as fault:
                if isinstance(fault, Stuck):  # not called: too many earlier attempts still run
                    self._open.discard(plugin.name)
                return fault
        plugin.startup.succeed()
        return None

    async def _tell(self, plugin: Plugin) -> None:
        """Say that a plugin has not started: as often as it makes sense for an operator who waits for it."""
        began, startup = time.monotonic(), plugin.startup
        while True:
            await asyncio.sleep(STILL_WAITING)
            if startup.phase is Phase.RUNNING or time.monotonic() - began <= FIRST_WAIT:
                log.warning("still waiting for plugin %s: %s", plugin.name, startup.trouble)

    async def _shut_down(self, plugin: Plugin, timeout: float) -> None:
        """Cancel the plugin's own tasks, and call the `shutdown` hook, where it is due."""
        impl, due = plugin.hooks.get("shutdown"), plugin.name in self._open
        self._open.discard(plugin.name)
        await plugin.tasks.cancel(min(CANCEL_SECONDS, timeout / 2))
        if impl is None or not due:
            return
        try:
            await plugin.caller.call(impl, timeout=timeout)
        except Exception as fault:
            cause = _cause(fault)
            told = plugin.faults.told(cause) if isinstance(fault, PluginFault) else str(fault)
            if self._failures.allows():
                log.error("plugin %s: shutdown failed: %s", plugin.name, told, extra={"traceback": list(frames(cause))})


def _cause(fault: Exception) -> BaseException:
    return fault.cause if isinstance(fault, PluginFault) else fault
