"""A plugin around an object of a test, as the loader makes one around an installed class."""

from __future__ import annotations

import asyncio
import threading
from importlib.metadata import EntryPoint
from typing import Any

from gateway.config.field_types import Duration
from gateway.config.tables import PluginSettings, PluginTable
from gateway.plugin_host.bind import bind
from gateway.plugin_host.load import Plugin, PluginDelivery

ATTEMPTS = 3


def make_plugin(
    name: str,
    instance: object,
    table: PluginTable | None = None,
    *,
    loop: asyncio.AbstractEventLoop | None = None,
    **delivery: Any,
) -> Plugin:
    """A plugin of this name; `table` is its table of the config, and `delivery` are settings as `PluginDelivery` has
    them, durations in seconds. Without them an event has `ATTEMPTS` attempts, 1 to 2 ms apart. With `loop`, its async
    code runs there, as under virtual time."""
    settings = {"max_attempts": ATTEMPTS, "concurrency": 4, "ordered": True, "from_start": True, **delivery}
    limits = {"backoff": 0.001, "backoff_max": 0.002, "give_up_after": 604800, "timeout": 5.0, "startup_timeout": 5.0}
    for key, seconds in limits.items():
        settings[key] = Duration(settings.get(key, seconds))
    if table is None:
        table = PluginTable(name=name, settings=PluginSettings(), table={})
    entry = EntryPoint(name, "tests:Plugin", "gateway.plugins")
    return Plugin(table, entry, instance, bind(instance, name), PluginDelivery(**settings), loop=loop)


class Signal:
    """An `asyncio.Event` that one loop may set and another wait for."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._set = False
        self._waiting: list[asyncio.Future[None]] = []

    def set(self) -> None:
        with self._lock:
            self._set = True
            for future in self._waiting:
                future.get_loop().call_soon_threadsafe(_resolve, future)
            self._waiting.clear()

    async def wait(self) -> None:
        with self._lock:
            if self._set:
                return
            future = asyncio.get_running_loop().create_future()
            self._waiting.append(future)
        await future


def _resolve(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
