"""`gateway plugins`."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import msgspec

from gateway.cli.options import config_is_named, config_option, json_option
from gateway.cli.output import print_json, print_table

if TYPE_CHECKING:
    from gateway.config.tables import PluginTable
    from gateway.plugin_host.sources import Source


class Row(msgspec.Struct, kw_only=True, omit_defaults=True):
    """A plugin of the config, or an installed plugin that the config does not use."""

    name: str
    plugin: str
    version: str
    distribution: str
    enabled: bool
    hooks: list[str]
    settings: dict[str, Any]
    tier: str | None = None
    error: str | None = None


@click.command("plugins")
@config_option
@click.argument("name", required=False)
@click.option("--catalogue", is_flag=True, help="Print the plugins that come with the gateway, and what each does.")
@click.option("--markdown", "as_markdown", is_flag=True, help="Print the table as Markdown, for documents.")
@json_option
def command(config_path: Path, name: str | None, catalogue: bool, as_markdown: bool, as_json: bool) -> None:
    """List what is installed and what is enabled, or print the settings of one plugin.

    With NAME, a table of the config or an installed plugin: each key of its settings with its type, default and
    meaning.

    The plugins of the config come first, in the order of their calls, then the other installed ones. A table
    [plugins.NAME] in the config enables a plugin. Settings with a * are required. A plugin in the state `error` cannot
    start; the reasons are below the table. The tier of a plugin says which checks of `gateway.testing` its tests pass:
    starts, safe (nothing is lost, repeated or told to others), or complete (it forgets and explains itself, too).

    \b
    Examples:
      gateway plugins
      gateway plugins --json | jq 'select(.enabled).name'
      gateway plugins archive
      gateway plugins --catalogue
    """
    if as_markdown and ((name is None and not catalogue) or as_json):
        raise click.UsageError("--markdown needs the NAME of a plugin or --catalogue, and excludes --json")
    if catalogue:
        if name is not None:
            raise click.UsageError("--catalogue has every bundled plugin; leave out NAME")
        from gateway.cli.plugin_catalogue import show_catalogue

        show_catalogue(as_json, as_markdown)
        return
    if name is not None:
        from gateway.cli.plugin_settings import show_settings

        show_settings(config_path, name, as_json, as_markdown)
        return
    rows = list(_rows(config_path))
    if as_json:
        for row in rows:
            print_json(row)
        return
    print_table(("name", "state", "tier", "from", "hooks", "settings"), [_cells(row) for row in rows], wrapped=3)
    for row in rows:
        if row.error:
            click.echo(f"{row.name}: {row.error}", err=True)


def _rows(config_path: Path) -> Iterator[Row]:
    from gateway.config.tables import PluginSettings, PluginTable
    from gateway.plugin_host.plugin_file import file_of
    from gateway.plugin_host.sources import class_of, installed, source_of

    available = installed()
    directory = config_path.absolute().parent
    tables, faults = _configured(config_path)

    def rows(table: PluginTable, enabled: bool) -> Iterator[Row]:
        kind, error = None, faults.get(table.name)
        try:
            kind = class_of(source_of(table, available, directory), table.name)
        except LookupError as unfit:
            error = error or str(unfit.args[0])
        file = table.settings.file
        sources: list[Source | None] = (
            [*available.get(table.plugin, [])] if file is None else [file_of(file, directory)]
        )
        for source in sources or [None]:
            yield _row(table, source, enabled, kind, error)

    for table in tables:
        yield from rows(table, table.settings.enabled)
    used = {table.plugin for table in tables if table.settings.file is None}
    for name in sorted(available.keys() - used):
        yield from rows(PluginTable(name=name, settings=PluginSettings(), table={}), False)


def _configured(config_path: Path) -> tuple[tuple[PluginTable, ...], dict[str, str]]:
    """The plugins of the config and, by name, why some cannot start. The default config file may be missing."""
    from gateway.config.convert import dotted
    from gateway.config.load import load_config
    from gateway.plugin_host.load import load_sound

    if not (os.path.lexists(config_path) or config_is_named()):
        return (), {}
    config = load_config(config_path, secrets=False)
    _, problems = load_sound(config, config.organisations, secrets=False)
    faults = {}
    for table in config.plugins:
        path = dotted("plugins", table.name)
        messages = [problem.message for problem in problems if problem.path == path]
        messages += [
            f"{problem.path.removeprefix(f'{path}.')}: {problem.message}"
            for problem in problems
            if problem.path.startswith(f"{path}.")
        ]
        if messages:
            faults[table.name] = "; ".join(messages)
    return config.plugins, faults


def _row(table: PluginTable, source: Source | None, enabled: bool, kind: Any, error: str | None) -> Row:
    from gateway.plugin_host.bind import HOOK_NAMES
    from gateway.plugin_host.packages import facts_of
    from gateway.plugin_host.sources import distribution_of

    distribution, version = distribution_of(source) if source is not None else ("", "")
    return Row(
        name=table.name,
        plugin=table.plugin,
        version=version,
        distribution=distribution,
        enabled=enabled,
        hooks=[hook for hook in HOOK_NAMES if hasattr(kind, hook)],
        settings=_settings(getattr(kind, "Config", None)),
        tier=None if source is None else facts_of(source).tier,
        error=error,
    )


def _settings(config: Any) -> dict[str, Any]:
    """Each key of a plugin's `Config`, and whether it is required."""
    if config is None:
        return {}
    return {field.encode_name: {"required": field.required} for field in msgspec.structs.fields(config)}


def _cells(row: Row) -> tuple[str, ...]:
    state = "error" if row.error else "enabled" if row.enabled else "off"
    settings = [f"{key}*" if about["required"] else key for key, about in row.settings.items()]
    return (
        row.name if row.name == row.plugin else f"{row.name} ({row.plugin})",
        state,
        row.tier or "",
        f"{row.distribution} {row.version}".strip(),
        ", ".join(row.hooks),
        ", ".join(settings),
    )
