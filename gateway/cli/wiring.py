"""The first two levels of a check: the fields of the config file, and what they wire together."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import msgspec

from gateway.config import Config, Values, read_config
from gateway.loader import Plugin, load_sound
from gateway.typed_table import ConfigError, Problem
from gateway.values import CustomValues


class Wired(NamedTuple):
    """What is sound of a configuration, the faults of both levels, and warnings."""

    config: Config
    plugins: list[Plugin]
    fields: list[Problem]
    wiring: list[Problem]
    warnings: list[Problem]


def wire(config_path: Path) -> Wired:
    """Look at both levels, whatever the first has found; `ConfigError` where the file is no TOML at all."""
    config, fields = read_config(config_path)
    plugins, wiring = load_sound(config)
    warnings: list[Problem] = []
    loaded = msgspec.structs.replace(config, values=_without_faulty_providers(config.values, plugins))
    try:
        warnings = CustomValues(loaded, plugins).warnings()
    except ConfigError as error:
        wiring += error.problems
    return Wired(config, plugins, fields, wiring, warnings)


def sound_config(config_path: Path) -> Config:
    """A config without a fault on either level; `ConfigError` with every fault of both."""
    config, _, fields, wiring, _ = wire(config_path)
    if fields or wiring:
        raise ConfigError(config.source, fields + wiring)
    return config


def _without_faulty_providers(values: Values, plugins: list[Plugin]) -> Values:
    """A plugin that is not there has a fault of its own already: what follows from that is none."""
    there = {plugin.name for plugin in plugins}
    fields = {
        name: field if field.provider in there else msgspec.structs.replace(field, provider=None)
        for name, field in values.fields.items()
    }
    return msgspec.structs.replace(values, fields=fields)
