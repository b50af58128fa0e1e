"""Entry points -> classes -> typed settings -> plugins with their hooks bound once.

Our own loop over the entry-point group: only names that the config uses are imported, one broken distribution does
not hide the others, and two distributions with one name are an error that names both.
"""

from __future__ import annotations

import inspect
from collections import defaultdict
from importlib.metadata import EntryPoint, entry_points
from typing import Any

import msgspec
import pluggy

from gateway.config import Config, PluginSettings, PluginTable
from gateway.hookspecs import ENTRY_POINT_GROUP, PROJECT, Hooks
from gateway.invoke import Caller, Impl, Threads, describe
from gateway.settings import Duration
from gateway.typed_table import ConfigError, Problem, TableReader, dotted

HOOK_NAMES = tuple(name for name in vars(Hooks) if not name.startswith("_"))
EVENT_HOOKS = frozenset(name for name in HOOK_NAMES if name.startswith("on_"))


class PluginDelivery(msgspec.Struct, frozen=True, kw_only=True):
    """How events reach one plugin: `[delivery]` with the plugin's own keys over it."""

    max_attempts: int
    backoff: Duration
    backoff_max: Duration
    timeout: Duration
    concurrency: int
    ordered: bool
    from_start: bool


class _NoSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The `Config` of a plugin that has none."""


class Plugin:
    """One plugin instance of the config: what it is, how it is delivered to, and its bound hooks."""

    def __init__(
        self, table: PluginTable, entry: EntryPoint, instance: Any, hooks: dict[str, Impl], delivery: PluginDelivery
    ) -> None:
        self.name = table.name
        self.plugin = table.plugin
        self.distribution, self.version = distribution_of(entry)
        self.instance = instance
        self.hooks = hooks
        self.delivery = delivery
        self.threads = Threads(table.name, delivery.concurrency + 1)
        self.caller = Caller(self.threads)

    @property
    def takes_events(self) -> bool:
        return not EVENT_HOOKS.isdisjoint(self.hooks)


def distribution_of(entry: EntryPoint) -> tuple[str, str]:
    """Name and version of the distribution that an entry point comes from."""
    return (entry.dist.name, entry.dist.version) if entry.dist else ("unknown", "unknown")


def installed() -> dict[str, list[EntryPoint]]:
    """Every entry point of the group by name, without importing any; more than one under a name is a clash."""
    found: dict[str, list[EntryPoint]] = defaultdict(list)
    seen = set()
    for entry in entry_points(group=ENTRY_POINT_GROUP):
        key = (entry.name, entry.value, distribution_of(entry)[0])
        if key not in seen:  # an editable install may be found twice
            seen.add(key)
            found[entry.name].append(entry)
    return dict(sorted(found.items()))


def load_plugins(config: Config) -> list[Plugin]:
    """The enabled plugins in config order; `ConfigError` with every fault of all of them."""
    plugins, problems = load_sound(config)
    if problems:
        raise ConfigError(config.source, problems)
    return plugins


def load_sound(config: Config) -> tuple[list[Plugin], list[Problem]]:
    """Those of the enabled plugins that can be loaded, and every fault of the others."""
    problems: list[Problem] = []
    available = installed()
    plugins = [
        plugin
        for table in config.plugins
        if table.settings.enabled and (plugin := _load(config, table, available, problems)) is not None
    ]
    return plugins, problems


def _load(
    config: Config, table: PluginTable, available: dict[str, list[EntryPoint]], problems: list[Problem]
) -> Plugin | None:
    path = dotted("plugins", table.name)
    try:
        entry = _entry(table.plugin, available)
        kind = _import(entry)
    except LookupError as error:
        problems.append(Problem(path, str(error.args[0])))
        return None
    settings = TableReader(config.directory, problems).table(_config_of(kind), table.table, path)
    if settings is None:
        return None
    try:
        instance = kind(settings) if hasattr(kind, "Config") else _construct(kind, settings)
        hooks = bind(instance, table.name)
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt):
            raise
        name, version = distribution_of(entry)
        problems.append(Problem(path, f"{entry.value} from {name} {version}: {describe(error)}"))
        return None
    return Plugin(table, entry, instance, hooks, _delivery(config, table.settings))


def _construct(kind: Any, settings: Any) -> Any:
    """A plugin without a `Config` may leave the argument out."""
    return kind(settings) if inspect.signature(kind).parameters else kind()


def _entry(name: str, available: dict[str, list[EntryPoint]]) -> EntryPoint:
    entries = available.get(name, [])
    if not entries:
        known = ", ".join(available) or "none"
        raise LookupError(f"no plugin {name!r} is installed; installed: {known}")
    if len(entries) > 1:
        owners = " and ".join(f"{distribution} {version}" for distribution, version in map(distribution_of, entries))
        raise LookupError(f"the name {name!r} is claimed by {owners}; uninstall one of them")
    return entries[0]


def _import(entry: EntryPoint) -> Any:
    name, version = distribution_of(entry)
    try:
        kind = entry.load()
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt):
            raise
        raise LookupError(f"{entry.value} from {name} {version} cannot be imported: {describe(error)}") from error
    if not inspect.isclass(kind):
        raise LookupError(f"{entry.value} from {name} {version} is no class")
    config = getattr(kind, "Config", None)
    if config is not None:
        if not (isinstance(config, type) and issubclass(config, msgspec.Struct)):
            raise LookupError(f"{entry.value} from {name} {version}: Config must be a msgspec.Struct")
        reserved = {f.encode_name for f in msgspec.structs.fields(PluginSettings)}
        taken = sorted(reserved & {f.encode_name for f in msgspec.structs.fields(config)})
        if taken:
            keys = ", ".join(taken)
            raise LookupError(f"{entry.value} from {name} {version}: Config has {keys}, which is the gateway's own")
    return kind


def _config_of(kind: Any) -> type[msgspec.Struct]:
    config: type[msgspec.Struct] = getattr(kind, "Config", _NoSettings)
    return config


def _delivery(config: Config, own: PluginSettings) -> PluginDelivery:
    general = config.delivery
    backoff = general.backoff if own.backoff is None else own.backoff
    return PluginDelivery(
        max_attempts=own.max_attempts or general.max_attempts,
        backoff=backoff,
        backoff_max=Duration(max(backoff, general.backoff_max if own.backoff_max is None else own.backoff_max)),
        timeout=general.timeout if own.timeout is None else own.timeout,
        concurrency=own.concurrency or general.concurrency,
        ordered=own.ordered,
        from_start=own.start == "start",
    )


class _Manager(pluggy.PluginManager):
    """pluggy finds the implementations and checks their signatures; a method named like a hook is one, marked or
    not, so that a forgotten marker does not switch a plugin off in silence."""

    def parse_hookimpl_opts(self, plugin: object, name: str) -> Any:
        options = super().parse_hookimpl_opts(plugin, name)
        if options is None and name in HOOK_NAMES and inspect.isroutine(inspect.getattr_static(plugin, name, None)):
            return {
                "wrapper": False,
                "hookwrapper": False,
                "optionalhook": False,
                "tryfirst": False,
                "trylast": False,
                "specname": None,
            }
        return options


def bind(instance: Any, name: str) -> dict[str, Impl]:
    """Bind an instance's hooks; `ValueError` for a misspelt hook or argument."""
    manager = _Manager(PROJECT)
    manager.add_hookspecs(Hooks)
    known = ", ".join(HOOK_NAMES)
    for method in dir(type(instance)):
        if method.startswith("on_") and method not in HOOK_NAMES:
            raise ValueError(f"{method} is no hook; hooks: {known}")
    try:
        manager.register(instance, name)
        manager.check_pending()
    except pluggy.PluginValidationError as error:
        raise ValueError(_sentence(error, known)) from None
    hooks = {}
    for hook in HOOK_NAMES:
        caller = getattr(manager.hook, hook)
        for impl in caller.get_hookimpls():
            if impl.hookwrapper or impl.wrapper:
                raise ValueError(f"{hook} is a hook wrapper; wrappers are not supported")
            if inspect.isgeneratorfunction(impl.function) or inspect.isasyncgenfunction(impl.function):
                raise ValueError(f"{hook} has a yield in it: calling it would do nothing")
            arguments = tuple(caller.spec.argnames)
            order = None if impl.argnames == arguments else tuple(map(arguments.index, impl.argnames))
            hooks[hook] = Impl(hook, impl.function, order)
    return hooks


def _sentence(error: pluggy.PluginValidationError, known: str) -> str:
    text = " ".join(str(error).split())
    return f"{text}; hooks: {known}" if "unknown hook" in text else text
