"""`gateway plugins`."""

from __future__ import annotations

from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import click
import msgspec

from gateway.cli.options import config_option, json_option
from gateway.cli.output import print_json, print_table


class Row(msgspec.Struct, kw_only=True, omit_defaults=True):
    """A plugin instance of the config, or an installed plugin that the config does not use."""

    name: str
    plugin: str
    version: str
    distribution: str
    enabled: bool
    hooks: list[str]
    settings: dict[str, Any]
    error: str | None = None


@click.command("plugins")
@config_option
@json_option
def command(config_path: Path, as_json: bool) -> None:
    """List what is installed and what is enabled.

    First the plugins of the config in the order of their calls, then what else is installed. A table [plugins.NAME] in
    the config turns a plugin on. Of the settings those with a * must be given.

    \b
    Examples:
      gateway plugins
      gateway plugins --json | jq 'select(.enabled).name'
    """
    rows = _rows(config_path)
    if as_json:
        for row in rows:
            print_json(row)
        return
    print_table(("name", "state", "from", "hooks", "settings"), [_cells(row) for row in rows], wrapped=2)
    for row in rows:
        if row.error:
            click.echo(f"{row.name}: {row.error}", err=True)


def _rows(config_path: Path) -> list[Row]:
    from gateway.config import load_config
    from gateway.loader import installed

    available = installed()
    tables = load_config(config_path, secrets=False).plugins if config_path.exists() else ()
    rows = []
    for table in tables:
        entries = available.get(table.plugin, [])
        rows += [_row(table.name, entry, table.settings.enabled) for entry in entries]
        if not entries:
            rows.append(_missing(table.name, table.plugin, table.settings.enabled))
    used = {table.plugin for table in tables}
    rows += [_row(name, entry, False) for name in available.keys() - used for entry in available[name]]
    return rows


def _row(name: str, entry: EntryPoint, enabled: bool) -> Row:
    from gateway.invoke import describe
    from gateway.loader import HOOK_NAMES, distribution_of

    distribution, version = distribution_of(entry)
    hooks: list[str] = []
    settings: dict[str, Any] = {}
    error = None
    try:
        kind = entry.load()
        hooks = [hook for hook in HOOK_NAMES if hasattr(kind, hook)]
        settings = _settings(getattr(kind, "Config", None))
    except KeyboardInterrupt:
        raise
    except BaseException as problem:
        error = f"{entry.value} cannot be imported: {describe(problem)}"
    return Row(
        name=name,
        plugin=entry.name,
        version=version,
        distribution=distribution,
        enabled=enabled,
        hooks=hooks,
        settings=settings,
        error=error,
    )


def _missing(name: str, plugin: str, enabled: bool) -> Row:
    error = f"no plugin {plugin!r} is installed"
    return Row(
        name=name, plugin=plugin, version="", distribution="", enabled=enabled, hooks=[], settings={}, error=error
    )


def _settings(config: Any) -> dict[str, Any]:
    """Each key of a plugin's `Config`, and whether it must be given."""
    if config is None:
        return {}
    return {field.encode_name: {"required": field.required} for field in msgspec.structs.fields(config)}


def _cells(row: Row) -> tuple[str, ...]:
    state = "error" if row.error else "enabled" if row.enabled else "off"
    settings = [f"{key}*" if about["required"] else key for key, about in row.settings.items()]
    return (
        row.name if row.name == row.plugin else f"{row.name} ({row.plugin})",
        state,
        f"{row.distribution} {row.version}".strip(),
        ", ".join(row.hooks),
        ", ".join(settings),
    )
