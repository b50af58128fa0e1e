"""The checks before a start: the fields of the config file, and what they name (plugins, hooks, providers)."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import msgspec

from gateway.config.convert import ConfigError, Problem
from gateway.config.load import read_config
from gateway.config.rules import weak_password
from gateway.config.tables import Config, ValuesSettings
from gateway.plugin_host.load import Plugin, load_sound
from gateway.values.service import CustomValues


class Wired(NamedTuple):
    """What is sound of a configuration, the faults of both levels, and warnings. `values` is None where the rules of
    custom values have a fault."""

    config: Config
    plugins: list[Plugin]
    values: CustomValues | None
    fields: list[Problem]
    wiring: list[Problem]
    warnings: list[Problem]


def wire(config_path: Path) -> Wired:
    """Look at both levels, whatever the first has found; `ConfigError` where the file is no TOML at all."""
    config, fields = read_config(config_path)
    unsure = any(problem.path.partition(".")[0] == "organisations" for problem in fields)
    plugins, wiring = load_sound(config, None if unsure else config.organisations)
    values = None
    loaded = msgspec.structs.replace(config, values=_without_faulty_providers(config.values, plugins))
    try:
        values = CustomValues(loaded, plugins)
    except ConfigError as error:
        wiring += error.problems
    return Wired(config, plugins, values, fields, wiring, [*weak_password(config.admin)])


def sound(config_path: Path) -> Wired:
    """A configuration without a fault on either level; `ConfigError` with every fault of both."""
    wired = wire(config_path)
    if wired.fields or wired.wiring:
        raise ConfigError(wired.config.source, wired.fields + wired.wiring)
    return wired


def _without_faulty_providers(values: ValuesSettings, plugins: list[Plugin]) -> ValuesSettings:
    """A plugin that is not there has a fault of its own already: what follows from that is none."""
    there = {plugin.name for plugin in plugins}
    fields = {
        name: field if field.provider in there else msgspec.structs.replace(field, provider=None)
        for name, field in values.fields.items()
    }
    return msgspec.structs.replace(values, fields=fields)
