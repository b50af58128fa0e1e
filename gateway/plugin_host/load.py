"""Loads plugins: source, class, typed settings, instance, bound hooks.

Only what the config uses is imported. A broken distribution does not hide the others, and two distributions with one
name are an error that names both.
"""

from __future__ import annotations

import asyncio
import inspect
import os
from collections.abc import Collection
from typing import Any

import msgspec

from gateway.config.annotations import is_exclusive
from gateway.config.convert import ConfigError, Problem, TableReader, dotted
from gateway.config.field_types import Duration
from gateway.config.tables import FILTERS, Config, PluginSettings, PluginTable
from gateway.events import Event
from gateway.plugin_host.bind import EVENT_HOOKS, HookError, bind
from gateway.plugin_host.call import Caller, Impl, Threads
from gateway.plugin_host.fault_log import FaultLog
from gateway.plugin_host.filters import EventFilter, hook_name
from gateway.plugin_host.loop import PluginLoop
from gateway.plugin_host.sources import (
    OWN_KEYS,
    Available,
    Source,
    class_of,
    config_of,
    distribution_of,
    import_class,
    installed,
    origin,
    source_of,
)
from gateway.plugin_host.startup import Startup
from gateway.plugin_host.tasks import PluginTasks
from gateway.plugin_host.where.plugin_filter import Where, expression_of
from gateway.plugin_metrics import PluginMetrics
from gateway.text import describe


class PluginDelivery(msgspec.Struct, frozen=True, kw_only=True):
    """How events reach one plugin: `[delivery]` with the plugin's own keys over it."""

    max_attempts: int
    backoff: Duration
    backoff_max: Duration
    give_up_after: Duration
    timeout: Duration
    startup_timeout: Duration
    concurrency: int
    ordered: bool
    from_start: bool
    shards: int = 1
    """Parts of its conversations that gateways share."""


class Plugin:
    """One plugin instance of the config: what it is, how it is delivered to, and its bound hooks."""

    def __init__(
        self,
        table: PluginTable,
        source: Source,
        instance: Any,
        hooks: dict[str, Impl],
        delivery: PluginDelivery,
        log_messages: bool = False,
        loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        """With `loop`, its async code runs on that loop instead of one of its own."""
        self.name = table.name
        self.plugin = table.plugin
        self.settings = table.settings
        self.source = source
        self.distribution, self.version = distribution_of(source)
        self.instance = instance
        self.package = type(instance).__module__.partition(".")[0]
        """The top-level package or module of its class: its own code, where an exception's place is looked for."""
        self.faults = FaultLog(self.package, log_messages)
        self.hooks = hooks
        self.startup = Startup("startup" in hooks)
        self.delivery = delivery
        self.threads = Threads(table.name, delivery.concurrency + 1)
        self.loop = PluginLoop(table.name, self.package, loop)
        self.caller = Caller(self.threads, self.loop)
        self.tasks = PluginTasks(table.name, self.loop, self.faults)
        self.metrics = PluginMetrics()

        general = (hooks["on_event"],) if "on_event" in hooks else ()
        self._general = general
        self._own = {hook_name(name): (*general, hooks[name]) for name in EVENT_HOOKS & hooks.keys() - {"on_event"}}
        self.takes_events = not EVENT_HOOKS.isdisjoint(hooks)
        self.filter = EventFilter(table.settings, hooks)
        self.where = Where(table.name, expression_of(table.settings.where))
        self.takes = self.filter.takes
        """What it takes, as `Cursors.take_cursor` has it; None for every event."""
        self.threaded = not any(impl.is_async for name, impl in hooks.items() if name in EVENT_HOOKS)
        """Whether all of its event hooks are plain functions."""

    def calls(self, event: Event) -> tuple[Impl, ...]:
        """The hooks that an event goes to: `on_event`, then its own hook's where the event could be read. None of them
        where the plugin's filter holds it back."""
        if not (self.filter.admits_all or self.filter.admits(event)):
            return ()
        return self._general if event.payload is None else self._own.get(event.hook, self._general)

    def close(self) -> None:
        """End its threads and its loop, as soon as what runs there ends."""
        self.threads.close()
        self.loop.close()

    def conversation_of(self, event: Event) -> str | None:
        """The conversation that keeps an event in order, as `organisation/conversation`, or None."""
        if event.conversation_id is None or not self.delivery.ordered:
            return None
        return f"{event.organisation}/{event.conversation_id}"


def load_plugins(config: Config, available: Available | None = None) -> list[Plugin]:
    """The enabled plugins in config order; `ConfigError` with every fault of all of them. `available` are the plugins
    that the config may name (default: those that are installed)."""
    plugins, problems = load_sound(config, config.organisations, available=available)
    if problems:
        raise ConfigError(config.source, problems)
    return plugins


def load_sound(
    config: Config,
    organisations: Collection[str] | None,
    *,
    secrets: bool = True,
    available: Available | None = None,
) -> tuple[list[Plugin], list[Problem]]:
    """Those of the enabled plugins that can be loaded, and every fault of the others. `organisations` is None where the
    config has faults in their tables. Without `secrets`, secrets stay unread."""
    loader = _Loader(config, organisations, secrets, installed() if available is None else available)
    tables = [table for table in config.plugins if table.settings.enabled]
    return [plugin for table in tables if (plugin := loader.load(table)) is not None], loader.problems


def plugin_around(config: Config, table: PluginTable, source: Source, instance: Any) -> Plugin:
    """The plugin that an instance is. `HookError` where a hook of it cannot be bound."""
    hooks, delivery = bind(instance, table.name), _delivery(config, table.settings)
    return Plugin(table, source, instance, hooks, delivery, config.log.plugin_messages)


class _Loader:
    """Loads plugins one by one, and collects their faults."""

    def __init__(
        self, config: Config, organisations: Collection[str] | None, secrets: bool, available: Available
    ) -> None:
        self.problems: list[Problem] = []
        self._config = config
        self._available = available
        self._reader = TableReader(config.directory, self.problems, secrets=secrets, organisations=organisations)
        self._claimed: dict[str, str] = {}

    def load(self, table: PluginTable) -> Plugin | None:
        path, own = dotted("plugins", table.name), table.settings.startup_timeout
        try:
            source = source_of(table, self._available, self._config.directory)
            kind = import_class(source, self._config.delivery.startup_timeout if own is None else own)
        except LookupError as error:
            self._fault(path if table.settings.file is None else f"{path}.file", str(error.args[0]))
            return None
        sound = self._check_where(table, path)
        settings = self._reader.table(config_of(kind), self._without_wrong_filters(table, kind), path, OWN_KEYS)
        if settings is None or not sound:
            return None
        self._claim(settings, path, table.settings.shards)
        try:
            instance = kind(settings) if hasattr(kind, "Config") else _construct(kind, settings)
            return plugin_around(self._config, table, source, instance)
        except HookError as error:
            self._fault(path, f"{origin(source)}: {error}")
        except BaseException as error:
            if isinstance(error, KeyboardInterrupt):
                raise
            self._fault(path, f"{origin(source)}: {describe(error, None)}")
        return None

    def _without_wrong_filters(self, table: PluginTable, kind: type) -> dict[str, Any]:
        """The plugin's own keys, without a filter that is a table although the plugin has no table of this name."""
        own = config_of(kind).__struct_encode_fields__
        wrong = [key for key in FILTERS if key in table.table and key not in own]
        for key in wrong:
            self._fault(dotted(dotted("plugins", table.name), key), "expected an array of names, found a table")
        return {key: value for key, value in table.table.items() if key not in wrong}

    def _check_where(self, table: PluginTable, path: str) -> bool:
        """Whether the plugin's expression, if it has one, can be a filter."""
        try:
            expression_of(table.settings.where)
        except ValueError as error:
            self._fault(f"{path}.where", str(error))
            return False
        return True

    def _claim(self, settings: msgspec.Struct, path: str, shards: int) -> None:
        """Refuse a path that another plugin has, too, where it must be exclusive. A plugin with such a path keeps files
        on one host, so that a single gateway at a time delivers to it."""
        for field in msgspec.structs.fields(settings):
            value = getattr(settings, field.name)
            if is_exclusive(field.type) and value is not None:
                where = dotted(path, field.encode_name)
                other = self._claimed.setdefault(os.path.realpath(value), where)
                if other != where:
                    self._fault(where, f"is the same as {other}; give each its own")
                if shards > 1:
                    message = (
                        f"expected 1, found {shards}: the plugin keeps files in `{field.encode_name}`, for which a"
                    )
                    self._fault(
                        f"{path}.shards", f"{message} single gateway delivers to it; sql_events and s3 can be shared"
                    )

    def _fault(self, path: str, message: str) -> None:
        self.problems.append(Problem(path, message))


def taking_events(config: Config) -> list[str]:
    """The enabled plugins that events are delivered to, and those that cannot be looked at because of a fault."""
    return [name for name, hooks in taken_hooks(config).items() if hooks is None or hooks]


def taken_hooks(config: Config) -> dict[str, tuple[str, ...] | None]:
    """For each enabled plugin the hooks that it takes events of, as `EventFilter.hooks`; None also where it cannot be
    looked at because of a fault."""
    available = installed()

    def takes(table: PluginTable) -> tuple[str, ...] | None:
        try:
            kind = class_of(source_of(table, available, config.directory), table.name)
        except LookupError:
            return None
        return EventFilter(table.settings, [hook for hook in EVENT_HOOKS if hasattr(kind, hook)]).hooks

    return {table.name: takes(table) for table in config.plugins if table.settings.enabled}


def _construct(kind: Any, settings: Any) -> Any:
    """A plugin without a `Config` may leave the argument out."""
    return kind(settings) if inspect.signature(kind).parameters else kind()


def _delivery(config: Config, own: PluginSettings) -> PluginDelivery:
    general = config.delivery
    backoff = general.backoff if own.backoff is None else own.backoff
    return PluginDelivery(
        max_attempts=own.max_attempts or general.max_attempts,
        backoff=backoff,
        backoff_max=Duration(max(backoff, general.backoff_max if own.backoff_max is None else own.backoff_max)),
        give_up_after=general.give_up_after if own.give_up_after is None else own.give_up_after,
        timeout=general.timeout if own.timeout is None else own.timeout,
        startup_timeout=general.startup_timeout if own.startup_timeout is None else own.startup_timeout,
        concurrency=own.concurrency or general.concurrency,
        ordered=own.ordered,
        from_start=own.start == "start",
        shards=own.shards,
    )
