"""Where a plugin's class comes from: an entry point of an installed distribution, or a file beside the config."""

from __future__ import annotations

import inspect
import re
from collections import defaultdict
from functools import partial
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any, get_origin

import msgspec

from gateway.config.annotations import bare
from gateway.config.convert import meant
from gateway.config.field_types import show
from gateway.config.tables import FILTERS, PluginSettings, PluginTable
from gateway.hookspecs import CONTRACT, ENTRY_POINT_GROUP
from gateway.plugin_host.bind import HookError, bind
from gateway.plugin_host.importing import IMPORT_SECONDS, ImportTooSlow, import_within
from gateway.plugin_host.plugin_file import PluginFile, file_of, import_file, module_prefix
from gateway.text import describe

Source = EntryPoint | PluginFile
Available = dict[str, list[EntryPoint]]

OWN_KEYS = tuple(field.encode_name for field in msgspec.structs.fields(PluginSettings))
"""The keys of a plugin's table that are the gateway's."""


class _NoSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The `Config` of a plugin that has none."""


def installed() -> Available:
    """Every entry point of the group by name, without importing any; more than one under a name is a clash."""
    found: Available = defaultdict(list)
    seen = set()
    for entry in entry_points(group=ENTRY_POINT_GROUP):
        key = (entry.name, entry.value, distribution_of(entry)[0])
        if key not in seen:  # an editable install may be found twice
            seen.add(key)
            found[entry.name].append(entry)
    return dict(sorted(found.items()))


def source_of(table: PluginTable, available: Available, directory: Path) -> Source:
    """The source that a table names; `directory` is the config file's. `LookupError` with a sentence for the
    operator."""
    file = table.settings.file
    return entry_named(table.plugin, available) if file is None else file_of(file, directory)


def entry_named(name: str, available: Available) -> EntryPoint:
    """The one entry point of this name; `LookupError` with a sentence for the operator."""
    entries = available.get(name, [])
    if not entries:
        raise LookupError(f"no plugin {show(name)} is installed; {meant(name, available, 'installed')}")
    if len(entries) > 1:
        owners = " and ".join(f"{distribution} {version}" for distribution, version in map(distribution_of, entries))
        raise LookupError(f"the name {name!r} is claimed by {owners}; uninstall one of them")
    return entries[0]


def distribution_of(source: Source) -> tuple[str, str]:
    """Name and version of the distribution; a file is its own distribution, without a version."""
    if isinstance(source, PluginFile):
        return source.shown, ""
    return (source.dist.name, source.dist.version) if source.dist else ("unknown", "unknown")


def origin(source: Source) -> str:
    """Where a plugin comes from, for its author."""
    if isinstance(source, PluginFile):
        return source.shown
    return f"{source.value} from {' '.join(distribution_of(source))}"


def import_class(source: Source, seconds: float = IMPORT_SECONDS) -> type:
    """The plugin's class, with a `Config` that can be one. `LookupError` with a sentence for the operator, also where
    the import is not over after `seconds`."""
    kind = _load_file(source, seconds) if isinstance(source, PluginFile) else _load(source, seconds)
    if not inspect.isclass(kind):
        what = f"{source.shown}: Plugin" if isinstance(source, PluginFile) else origin(source)
        raise LookupError(f"{what} is not a class")
    if fault := _contract_fault(getattr(kind, "contract", CONTRACT)):
        raise LookupError(f"{origin(source)}: {fault}")
    config = getattr(kind, "Config", None)
    if config is not None:
        if not (isinstance(config, type) and issubclass(config, msgspec.Struct)):
            raise LookupError(f"{origin(source)}: Config must be a msgspec.Struct")
        taken = [field.encode_name for field in msgspec.structs.fields(config) if _is_taken(field)]
        if taken := sorted(taken):
            raise LookupError(f"{origin(source)}: Config has {', '.join(taken)}, which is the gateway's own")
    return kind


def _contract_fault(named: Any) -> str | None:
    """What is wrong with the version of the contract that a plugin names, or None."""
    numbers = isinstance(named, tuple) and len(named) == 2 and all(type(number) is int for number in named)
    if not numbers:
        return f"contract: expected two numbers such as {CONTRACT}, found a {type(named).__name__}"
    needs = f"it needs version {named} of the plugin contract, and this gateway has {CONTRACT}"
    if named > CONTRACT:
        return f"{needs}; upgrade the gateway, or use an older version of the plugin"
    return f"{needs}; use a newer version of the plugin" if named[0] < CONTRACT[0] else None


def _is_taken(field: msgspec.structs.FieldInfo) -> bool:
    """Whether a plugin must not have such a key, because it is the gateway's."""
    return field.encode_name in OWN_KEYS and not (field.encode_name in FILTERS and get_origin(bare(field.type)) is dict)


def class_of(source: Source, name: str) -> type:
    """A plugin's class, after a check of its hooks as far as that goes without an instance; `LookupError` with a
    sentence for the operator."""
    kind = import_class(source)
    try:
        bind(object.__new__(kind), name)
    except HookError as error:
        raise LookupError(f"{origin(source)}: {error}") from None
    except TypeError:
        pass  # only its own `__new__` can make one
    return kind


def config_of(kind: Any) -> type[msgspec.Struct]:
    """The `Config` of a plugin's class."""
    config: type[msgspec.Struct] = getattr(kind, "Config", _NoSettings)
    return config


def _load(entry: EntryPoint, seconds: float) -> Any:
    package = re.split("[.:]", entry.value)[0]
    try:
        return import_within(seconds, origin(entry), package, entry.load)
    except ImportTooSlow:
        raise
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt):
            raise
        raise LookupError(f"{origin(entry)} cannot be imported: {describe(error, None)}") from error


def _load_file(file: PluginFile, seconds: float) -> Any:
    return import_within(seconds, file.shown, module_prefix(file.path), partial(import_file, file))
