"""What `gateway plugins NAME` prints: the settings of one plugin."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import click

from gateway.cli.failures import Failure
from gateway.cli.options import config_is_named
from gateway.cli.output import print_json, print_table
from gateway.config.load import read_config
from gateway.config.tables import FILTERS, PluginSettings, PluginTable
from gateway.plugin_host.settings import Setting, settings_of
from gateway.plugin_host.sources import OWN_KEYS, class_of, config_of, installed, source_of
from gateway.text import printable


def show_settings(config_path: Path, name: str, as_json: bool, as_markdown: bool) -> None:
    """Print the settings of the plugin that a table of the config is about, else of the installed plugin."""
    tables = {table.name: table for table in _tables(config_path)}
    table = tables.get(name) or PluginTable(name=name, settings=PluginSettings(), table={})
    try:
        kind = class_of(source_of(table, installed(), config_path.absolute().parent), name)
    except LookupError as unfit:
        raise Failure(str(unfit.args[0])) from None
    settings, filters = list(settings_of(config_of(kind))), _filters(table.settings)
    if as_json:
        print_json({"name": name, "plugin": table.plugin, "settings": settings, "filters": filters})
    elif as_markdown:
        click.echo(markdown(settings), nl=False)
    else:
        rows = [(one.key, one.type, _default(one), one.meaning or "") for one in settings]
        if not print_table(("key", "type", "default", "meaning"), rows):
            click.echo(f"{name} has no settings of its own", err=True)
        for key, given in filters.items():
            click.echo(f"gets only events with {key} = {printable(json.dumps(given, ensure_ascii=False))}", err=True)
        click.echo(f"every plugin's table may also have: {', '.join(OWN_KEYS)}", err=True)


def markdown(settings: list[Setting]) -> str:
    """A table for documents."""
    lines = ["| key | type | default | meaning |", "|---|---|---|---|"]
    for one in settings:
        default = f"`{one.default}`" if one.default is not None else _default(one)
        cells = (f"`{one.key}`", one.type, default, one.meaning or "")
        lines.append(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |")
    return "".join(f"{line}\n".replace("|  |", "| |") for line in lines)


def _filters(settings: PluginSettings) -> dict[str, Any]:
    """Those keys of the table that say which events the plugin gets."""
    given = {key: getattr(settings, key) for key in (*FILTERS, "where")}
    return {
        key: list(value) if isinstance(value, tuple) else value for key, value in given.items() if value is not None
    }


def _default(setting: Setting) -> str:
    return "required" if setting.required else setting.default or ""


def _tables(config_path: Path) -> tuple[PluginTable, ...]:
    """The plugins of the config, which may have faults: the settings are looked up while it is written."""
    if not (os.path.lexists(config_path) or config_is_named()):
        return ()
    config, _ = read_config(config_path, secrets=False)
    return config.plugins
