"""Starts plugins in config order, and shuts them down in reverse, also after a start that failed halfway."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from typing import Final

from gateway.config.tables import Config
from gateway.hookspecs import Context
from gateway.plugin_host.call import CallTimeout, PluginFault, Stuck
from gateway.plugin_host.load import Plugin

log = logging.getLogger("gateway.lifecycle")

STARTUP_SECONDS: Final = 60.0


class StartFailed(Exception):
    """A part of the gateway did not start; a sentence for the operator."""


class Lifecycle:
    """The plugins that have started."""

    def __init__(self, config: Config, plugins: Sequence[Plugin]) -> None:
        self._config = config
        self._plugins = plugins
        self._started: list[Plugin] = []

    async def start(self) -> None:
        """Start all. Where one fails, those that have started are shut down again; then `StartFailed`."""
        for plugin in self._plugins:
            if (impl := plugin.hooks.get("startup")) is not None:
                context = Context(
                    name=plugin.name,
                    log=logging.getLogger(f"plugins.{plugin.name}"),
                    directory=self._config.directory,
                    organisations=tuple(self._config.organisations),
                )
                try:
                    await plugin.caller.call(impl, context, timeout=STARTUP_SECONDS)
                except (PluginFault, CallTimeout, Stuck) as error:
                    await self.stop(5.0)
                    raise StartFailed(f"plugin {plugin.name} did not start: {error}") from error
            self._started.append(plugin)

    async def stop(self, seconds: float) -> None:
        """Shut down in reverse, all within `seconds`. What a plugin raises is logged, and the next one still runs."""
        deadline = time.monotonic() + seconds
        while self._started:
            plugin = self._started.pop()
            if (impl := plugin.hooks.get("shutdown")) is not None:
                try:
                    await plugin.caller.call(impl, timeout=round(max(0.2, deadline - time.monotonic()), 1))
                except (PluginFault, CallTimeout, Stuck) as error:
                    log.error("plugin %s: shutdown failed: %s", plugin.name, error)
        for plugin in self._plugins:
            plugin.close()
        for plugin in self._plugins:
            if not await plugin.loop.closed(max(0.1, deadline - time.monotonic())):
                log.error("plugin %s: its event loop did not end: blocked at %s", plugin.name, plugin.loop.place())
