"""The checks before a start: the fields of the config file, and what they name (plugins, hooks, providers)."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import msgspec

from gateway.config.convert import ConfigError, Problem
from gateway.config.journal_rules import journal_warnings
from gateway.config.load import read_config
from gateway.config.rules import proxies_allowed, repeated_secrets, weak_password
from gateway.config.tables import Config, ValuesSettings
from gateway.plugin_host.deprecations import deprecated
from gateway.plugin_host.load import Plugin, load_sound
from gateway.tracing import missing_extra
from gateway.values.service import CustomValues


class Examined(NamedTuple):
    """A configuration without its faults, its faults, and warnings. `fields` has the faults of the fields,
    `wiring` those of the plugins, hooks and providers that they name. `values` is None where `[values]` names a
    provider that cannot be used."""

    config: Config
    plugins: list[Plugin]
    values: CustomValues | None
    fields: list[Problem]
    wiring: list[Problem]
    warnings: list[Problem]


def examine_config(config_path: Path) -> Examined:
    """Check both levels, the second one also where the first has faults. `ConfigError` where the file is not TOML."""
    config, fields = read_config(config_path)
    unsure = any(problem.path.partition(".")[0] == "organisations" for problem in fields)
    plugins, wiring = load_sound(config, None if unsure else config.organisations)
    values = None
    usable = msgspec.structs.replace(config, values=_without_faulty_providers(config.values, plugins))
    try:
        values = CustomValues(usable, plugins)
    except ConfigError as error:
        wiring += error.problems
    wiring += missing_extra(config.tracing)
    warnings = [*repeated_secrets(config.organisations), *proxies_allowed(config.server)]
    warnings += journal_warnings(config.journal)
    for plugin in plugins:
        warnings += plugin.filter.without_effect(plugin.name)
        warnings += deprecated(plugin)
    if not any(problem.path.partition(".")[0] == "admin" for problem in fields):
        warnings += weak_password(config.admin)
    return Examined(config, plugins, values, fields, wiring, warnings)


def sound_config(config_path: Path) -> Examined:
    """A configuration without faults. `ConfigError` with every fault of both levels."""
    examined = examine_config(config_path)
    if examined.fields or examined.wiring:
        raise ConfigError(examined.config.source, examined.fields + examined.wiring)
    return examined


def _without_faulty_providers(values: ValuesSettings, plugins: list[Plugin]) -> ValuesSettings:
    """The settings without the providers that could not be loaded: their own fault is reported already."""
    loaded = {plugin.name for plugin in plugins}
    fields = {
        name: field if field.provider in loaded else msgspec.structs.replace(field, provider=None)
        for name, field in values.fields.items()
    }
    return msgspec.structs.replace(values, fields=fields)
