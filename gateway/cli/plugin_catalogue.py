"""What `gateway plugins --catalogue` prints: the plugins that come with the gateway."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

import click
import msgspec

from gateway.cli.output import print_json, print_table
from gateway.plugin_host.packages import facts_of, is_bundled
from gateway.plugin_host.sources import installed

_LEAD: Final = re.compile(r"^The bundled plugin `[^`]*`: (.)")


class CatalogueRow(msgspec.Struct, kw_only=True):
    """A bundled plugin: its name, what it does, the extra that installs the libraries it needs, and its tier."""

    name: str
    does: str
    extra: str | None
    tier: str | None


def show_catalogue(as_json: bool, as_markdown: bool) -> None:
    """Print the bundled plugins by name."""
    rows = list(_catalogue())
    if as_json:
        for row in rows:
            print_json(row)
    elif as_markdown:
        click.echo("| plugin | what it does | extra | tier |\n|---|---|---|---|")
        for row in rows:
            extra = "" if row.extra is None else f"`webio-gateway[{row.extra}]`"
            cells = (f"`{row.name}`", row.does, extra, row.tier or "")
            click.echo(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |".replace("|  |", "| |"))
    else:
        table = [(row.name, row.does, row.extra or "", row.tier or "") for row in rows]
        print_table(("name", "what it does", "extra", "tier"), table, wrapped=1)


def _catalogue() -> Iterator[CatalogueRow]:
    for name, entries in installed().items():
        for entry in entries:
            if is_bundled(entry):
                facts = facts_of(entry)
                does = _LEAD.sub(lambda match: match[1].upper(), facts.does or "")
                yield CatalogueRow(name=name, does=does, extra=facts.extra, tier=facts.tier)
