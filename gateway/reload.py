"""Applies a changed config file to a running gateway: all that needs no restart, or nothing where there is a fault."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any, Final

import msgspec

from gateway import log as logs
from gateway.config.convert import ConfigError, Problem, dotted
from gateway.config.tables import Config, HookSettings, PluginTable
from gateway.plugin_host.load import Plugin
from gateway.plugin_host.plugin_file import PluginFile
from gateway.preflight import Examined, examine_config
from gateway.service import Gateway
from gateway.text import counted

log = logging.getLogger("gateway.server")

APPLIED: Final = ("organisations", "hooks", "values", "delivery", "log")
"""The tables that a running gateway takes over."""
FIXED_DELIVERY: Final = ("concurrency", "ordered", "from_start", "shards")
"""What of a plugin's delivery is set up when it starts."""


class Reloaded(msgspec.Struct):
    """Whether the file is in force now; the keys that changed and need a restart; and the faults, with which nothing
    was changed."""

    applied: bool
    needs_restart: list[str] = []
    errors: list[Problem] = []


class Reloader:
    """Reads the config file of a running gateway again. One call at a time."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        self._lock = asyncio.Lock()
        self._tasks: set[asyncio.Task[Reloaded]] = set()

    def begin(self, done: Callable[[], object]) -> None:
        """Reload in the background, for a signal; `done` is called at the end, also where there was a fault."""
        task = asyncio.create_task(self.reload(), name="reload")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        task.add_done_callback(lambda _: done())

    async def reload(self) -> Reloaded:
        """Check the whole file, then put it in force. No request is refused meanwhile: between two requests everything
        changes at once."""
        async with self._lock:
            try:
                examined = await asyncio.to_thread(examine_config, self._gateway.config.source)
                problems = examined.fields + examined.wiring
            except ConfigError as error:
                problems = error.problems
            if problems:
                sentences = "; ".join(f"{problem.path}: {problem.message}" for problem in problems[:3])
                log.error("reload: %s, nothing was changed: %s", counted(len(problems), "fault"), sentences)
                return Reloaded(False, errors=problems)
            restart = self._apply(examined)
        later = f"; needs a restart: {', '.join(restart)}" if restart else ""
        log.info("reload: the config %s is in force%s", self._gateway.config.source, later)
        return Reloaded(True, restart)

    def _apply(self, examined: Examined) -> list[str]:
        gateway, new = self._gateway, examined.config
        old = gateway.config
        restart = [
            dotted(table, field)
            for table in ("node", "server", "admin", "journal", "tracing")
            for field in changed(getattr(old, table), getattr(new, table))
        ]
        if old.values.audit_retention != new.values.audit_retention:
            restart.append("values.audit_retention")
        restart += _retention_that_changed(old, new)
        loaded = {plugin.name: plugin for plugin in examined.plugins}
        restart += _plugins_that_changed(old, new)
        for plugin in gateway.plugins:
            if plugin.name in loaded:
                restart += _file_that_changed(plugin, loaded[plugin.name])
                restart += _take_over_delivery(plugin, loaded[plugin.name])
        values = new.values
        missing = gateway.values.missing_providers(values)
        if missing:  # they are plugins that start with the next start
            restart += missing
            values = old.values
        for plugin in examined.plugins:
            plugin.close()  # only their settings were needed
        tables = {name: getattr(new, name) for name in APPLIED} | {"values": values}
        tables["hooks"] = _with_retention_of(old, new)
        gateway.apply(msgspec.structs.replace(old, **tables))
        logs.configure(new.log, old.node.name)
        return list(dict.fromkeys(restart))


def changed(old: Any, new: Any) -> list[str]:
    """The keys of a table whose values differ."""
    return [
        field.encode_name
        for field in msgspec.structs.fields(old)
        if getattr(old, field.name) != getattr(new, field.name)
    ]


def _with_retention_of(old: Config, new: Config) -> dict[str, HookSettings]:
    """The new hooks with the retention that is in force until a restart."""
    none = HookSettings()
    return {
        name: msgspec.structs.replace(new.hooks.get(name, none), retention=old.hooks.get(name, none).retention)
        for name in {**old.hooks, **new.hooks}
    }


def _retention_that_changed(old: Config, new: Config) -> list[str]:
    """The hooks whose events are to be kept for another time."""
    before, after = ({name: hook.retention for name, hook in config.hooks.items()} for config in (old, new))
    names = [name for name in {**before, **after} if before.get(name) != after.get(name)]
    return [f"{dotted('hooks', name)}.retention" for name in names]


def _plugins_that_changed(old: Config, new: Config) -> list[str]:
    """The tables of plugins that were added, removed or changed in what only a start takes over."""
    before, after = ({table.name: _own(table) for table in config.plugins} for config in (old, new))
    names = [*before, *(name for name in after if name not in before)]
    return [dotted("plugins", name) for name in names if before.get(name) != after.get(name)]


def _own(table: PluginTable) -> tuple[Any, ...]:
    settings = table.settings
    filters = (settings.hooks, settings.organisations)
    fixed = (settings.enabled, settings.use, settings.values_timeout, settings.start, settings.ordered)
    return table.table, *fixed, *filters


def _file_that_changed(plugin: Plugin, loaded: Plugin) -> list[str]:
    """A plugin in a file whose text has changed, or that is in another file: its class is another then."""
    in_file = isinstance(plugin.source, PluginFile) or isinstance(loaded.source, PluginFile)
    same = type(plugin.instance) is type(loaded.instance)
    return [f"{dotted('plugins', plugin.name)}.file"] if in_file and not same else []


def _take_over_delivery(plugin: Plugin, loaded: Plugin) -> list[str]:
    """Give a running plugin its new delivery settings; returns the keys that need a restart."""
    fixed = {name: getattr(plugin.delivery, name) for name in FIXED_DELIVERY}
    later = [name for name in FIXED_DELIVERY if getattr(loaded.delivery, name) != fixed[name]]
    plugin.delivery = msgspec.structs.replace(loaded.delivery, **fixed)
    plugin.faults.messages = loaded.faults.messages
    plugin.where.replace(loaded.where.expression)
    table = dotted("plugins", plugin.name)
    return [f"{table}.{'from' if name == 'from_start' else name}" for name in later]
