"""Asking the providers of a config without a running gateway."""

from __future__ import annotations

from typing import Final

from gateway.config.tables import Config
from gateway.plugin_host.lifecycle import Lifecycle
from gateway.plugin_host.load import load_plugins
from gateway.values.answer import Answer
from gateway.values.service import CustomValues

STOP_SECONDS: Final = 5.0


async def ask_directly(config: Config, organisation: str, query_string: bytes) -> Answer:
    """The answer to one custom value request; `ConfigError`, `StartFailed`. Only the plugins that answer such requests
    are started, in this process; nothing is remembered or recorded of it."""
    plugins = [plugin for plugin in load_plugins(config) if "custom_values" in plugin.hooks]
    values = CustomValues(config, plugins)
    lifecycle = Lifecycle(config, plugins)
    await lifecycle.start()
    try:
        await values.start()
        return await values.answer(organisation, query_string)
    finally:
        await values.close()
        await lifecycle.stop(STOP_SECONDS)
