"""The config of a gateway under test, and its plugins: installed ones, given classes and given instances."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any, Final

import msgspec

from gateway.config.convert import ConfigError, Problem, dotted
from gateway.config.load import config_of
from gateway.config.tables import Config
from gateway.config.toml import parse_toml
from gateway.hookspecs import ENTRY_POINT_GROUP
from gateway.plugin_host.load import Plugin, load_plugins, plugin_around
from gateway.plugin_host.sources import installed
from gateway.testing.factories import ORGANISATION

SECRET: Final = "a secret of a test, with thirty-two bytes or more"  # noqa: S105
_DELIVERY: Final = {"max_attempts": 3, "backoff": "5ms", "backoff_max": "20ms", "timeout": "10s"}


class GivenClass(EntryPoint):
    """A class of the test in place of an installed one."""

    def __init__(self, name: str, kind: type) -> None:
        super().__init__(name, f"{kind.__module__}:{kind.__qualname__}", ENTRY_POINT_GROUP)
        vars(self)["kind"] = kind

    def load(self) -> Any:
        return vars(self)["kind"]


def testing_config(config: str | Mapping[str, Any], plugins: Mapping[str, Any], directory: Path) -> Config:
    """The config of a test, given as TOML or as a mapping, as if it were in `directory`. Where it does not say
    otherwise there is one organisation, `acme`, and failed events are delivered again after milliseconds. Each of
    `plugins` has a table. `ConfigError` with every fault."""
    source = directory / "config.toml"
    try:
        document = parse_toml(inspect.cleandoc(config)) if isinstance(config, str) else dict(config)
    except ValueError as error:
        raise ConfigError(source, [Problem("config", str(error))]) from None
    if "organisations" not in document:
        secret = directory / "webio.secret"
        secret.write_text(SECRET, encoding="utf-8")
        secret.chmod(0o600)
        document["organisations"] = {ORGANISATION: {"secrets": [{"file": str(secret)}]}}
    document["delivery"] = {**_DELIVERY, **document.get("delivery", {})}
    document["journal"] = {"path": "journal.db", **document.get("journal", {})}
    document["plugins"] = {**document.get("plugins", {})}
    for name in plugins:
        document["plugins"].setdefault(name, {})
    return config_of(document, source)


def testing_plugins(config: Config, given: Mapping[str, Any]) -> list[Plugin]:
    """The plugins of the config, in its order: a given class is made from its table, as an installed one is; a given
    instance is taken as it is. `ConfigError` with every fault."""
    instances = {name: one for name, one in given.items() if not inspect.isclass(one)}
    available = installed() | {name: [GivenClass(name, one)] for name, one in given.items() if inspect.isclass(one)}
    others = tuple(table for table in config.plugins if table.name not in instances)
    plugins = {
        plugin.name: plugin for plugin in load_plugins(msgspec.structs.replace(config, plugins=others), available)
    }
    for table in config.plugins:
        if table.name in instances and table.settings.enabled:
            if table.table:
                keys = ", ".join(table.table)
                fault = f"has settings ({keys}), but an instance is given; give the class, so that it is made from them"
                raise ConfigError(config.source, [Problem(dotted("plugins", table.name), fault)])
            instance = instances[table.name]
            source = GivenClass(table.name, type(instance))
            plugins[table.name] = plugin_around(config, table, source, instance)
    return [plugins[table.name] for table in config.plugins if table.name in plugins]
