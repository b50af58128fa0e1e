"""Loads `config.toml` and finds every fault at once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec

from gateway.config.convert import ConfigError, Problem, TableReader, dotted
from gateway.config.field_types import show
from gateway.config.journal_rules import journal_faults
from gateway.config.rules import faults, name_fault
from gateway.config.tables import (
    AdminSettings,
    Config,
    DeliverySettings,
    HookSettings,
    JournalSettings,
    LogSettings,
    NodeSettings,
    OrganisationSettings,
    PluginSettings,
    PluginTable,
    ServerSettings,
    Table,
    TracingSettings,
    ValuesSettings,
    is_own_key,
)
from gateway.config.toml import parse_toml
from gateway.json_text import BOM


class _Document(Table, frozen=True, kw_only=True):
    node: NodeSettings = msgspec.field(default_factory=NodeSettings)
    server: ServerSettings = ServerSettings()
    admin: AdminSettings = AdminSettings()
    journal: JournalSettings = JournalSettings()
    delivery: DeliverySettings = DeliverySettings()
    values: ValuesSettings = ValuesSettings()
    log: LogSettings = LogSettings()
    tracing: TracingSettings = TracingSettings()
    organisations: dict[str, OrganisationSettings] = {}
    hooks: dict[str, HookSettings] = {}
    plugins: dict[str, dict[str, Any]] = {}


def load_config(source: Path, *, secrets: bool = True) -> Config:
    """Read and check a config file. `ConfigError` has every fault found. With `secrets=False` secrets stay unread, for
    commands that need none: a secret that cannot be read is not a fault then."""
    config, problems = read_config(source, secrets=secrets)
    if problems:
        raise ConfigError(config.source, problems)
    return config


def read_config(source: Path, *, secrets: bool = True) -> tuple[Config, list[Problem]]:
    """The config without its faults, so that the next checks can use it, and every fault found. A key with a fault has
    its default; organisations and hooks with a fault are left out. `ConfigError` where the file is not TOML."""
    source = source.absolute()
    return _read(_parse(source), source, secrets)


def config_of(document: dict[str, Any], source: Path) -> Config:
    """The config that a parsed document is, as if it were in the file `source`; `ConfigError` with every fault."""
    config, problems = _read(document, source.absolute(), True)
    if problems:
        raise ConfigError(config.source, problems)
    return config


def _read(document: dict[str, Any], source: Path, secrets: bool) -> tuple[Config, list[Problem]]:
    document = dict(document)
    problems: list[Problem] = []
    reader = TableReader(source.parent, problems, secrets=secrets)
    plugins, unsure = _plugins(document.pop("plugins", {}), reader, problems)
    tables = reader.fields(_Document, document, "")
    problems += faults(tables, plugins, unsure, secrets)
    problems += journal_faults(document.get("journal"), tables["journal"])
    if problems:
        tables = msgspec.structs.asdict(reader.sound_part(_Document, document))
    return Config(source=source, **{**tables, "plugins": plugins}), problems


def _parse(source: Path) -> dict[str, Any]:
    try:
        return parse_toml(source.read_bytes().removeprefix(BOM).decode())
    except FileNotFoundError:
        message = "the file does not exist; make one with `gateway init`, or name another with -c/--config"
    except OSError as error:
        message = f"cannot be read: {error.strerror}"
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        message = f"is not UTF-8 text (line {line})"
    except ValueError as error:
        message = str(error)
    raise ConfigError(source, [Problem("config", message)])


def _plugins(
    tables: Any, reader: TableReader, problems: list[Problem]
) -> tuple[tuple[PluginTable, ...], list[str] | None]:
    """The plugins, and the names of those whose settings cannot be read from the table, or None where the names
    cannot be read either."""
    if not isinstance(tables, dict):
        problems.append(Problem("plugins", f"expected tables such as [plugins.archive], found {show(tables)}"))
        return (), None
    found, unsure = [], []
    for name, table in tables.items():
        path = dotted("plugins", name)
        problems += name_fault(path, name)
        mine = (
            {key: value for key, value in table.items() if is_own_key(key, value)} if isinstance(table, dict) else table
        )
        settings = reader.table(PluginSettings, mine, path) or _sound_settings(reader, mine)
        if settings is None:
            unsure.append(name)
        else:
            rest = {key: value for key, value in table.items() if key not in mine}
            found.append(PluginTable(name=name, settings=settings, table=rest))
    return tuple(found), unsure


def _sound_settings(reader: TableReader, mine: Any) -> PluginSettings | None:
    """The settings of a table with a fault; None where the fault hides which plugin it is, or whether it is enabled."""
    if not isinstance(mine, dict):
        return None
    settings = reader.sound_part(PluginSettings, mine)
    same_file = (settings.file is None) == ("file" not in mine)
    as_written = same_file and settings.use == mine.get("use") and settings.enabled == mine.get("enabled", True)
    return settings if as_written else None
