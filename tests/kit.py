"""A plugin around an object of a test, as the loader makes one around an installed class."""

from __future__ import annotations

from importlib.metadata import EntryPoint
from typing import Any

from gateway.config.field_types import Duration
from gateway.config.tables import PluginSettings, PluginTable
from gateway.plugin_host.bind import bind
from gateway.plugin_host.load import Plugin, PluginDelivery

ATTEMPTS = 3


def make_plugin(name: str, instance: object, table: PluginTable | None = None, **delivery: Any) -> Plugin:
    """A plugin of this name; `table` is its table of the config, and `delivery` are settings as `PluginDelivery` has
    them, durations in seconds. Without them an event has `ATTEMPTS`
    attempts, 1 to 2 ms apart."""
    settings = {"max_attempts": ATTEMPTS, "concurrency": 4, "ordered": True, "from_start": True, **delivery}
    for key, seconds in (("backoff", 0.001), ("backoff_max", 0.002), ("timeout", 5.0)):
        settings[key] = Duration(settings.get(key, seconds))
    if table is None:
        table = PluginTable(name=name, settings=PluginSettings(), table={})
    entry = EntryPoint(name, "tests:Plugin", "gateway.plugins")
    return Plugin(table, entry, instance, bind(instance, name), PluginDelivery(**settings))
