"""`gateway nodes`."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from gateway.cli.options import config_option, json_option
from gateway.cli.output import print_rows

if TYPE_CHECKING:
    from gateway.config.tables import Config


@click.command("nodes")
@config_option
@json_option
def command(config_path: Path, as_json: bool) -> None:
    """List the gateways that run on this journal, and the plugins whose events each of them delivers.

    A journal in a file has one gateway. In a database there may be several: the list is the same on each of their
    machines, also where none runs, and tells the shards and how many events each plugin is behind. A gateway that was
    killed is listed for 10 s. The name of a gateway is `[node] name`, by default the host's.

    \b
    Examples:
      gateway nodes
      gateway nodes --json
    """
    from gateway.config.load import load_config

    config = load_config(config_path)
    columns = ("name", "version", "started (UTC)", "seen (UTC)", "delivers to")
    where = "the database of journal.url" if config.journal.url is not None else config.journal.path
    print_rows(_nodes(config), as_json, columns, _cells, wrapped=1, nothing=f"no gateway runs with {where}")


def _nodes(config: Config) -> list[dict[str, Any]]:
    import msgspec

    from gateway.cli.admin_client import request
    from gateway.journal import journal_lock, journal_nodes
    from gateway.journal.lock import GATEWAY

    if config.journal.url is not None:
        nodes: list[dict[str, Any]] = msgspec.json.decode(msgspec.json.encode(journal_nodes(config)))
        return nodes
    holder = journal_lock(config).holder()
    found: list[dict[str, Any]] = []
    if holder is not None and holder.name == GATEWAY:
        found = request(config, "GET", "/api/nodes")
    return found


def _cells(node: dict[str, Any]) -> tuple[str, ...]:
    times = (node[name][:19].replace("T", " ") for name in ("started_at", "seen_at"))
    return node["name"], node["version"], *times, ", ".join(_owned(node["owns"])) or "nothing"


def _owned(owns: list[dict[str, Any]]) -> Iterator[str]:
    """Each plugin once: `crm (shards 0, 2 of 4, 12 behind)`."""
    for plugin, group in groupby(owns, lambda one: one["plugin"]):
        parts = list(group)
        told = []
        if (shards := parts[0].get("shards", 1)) > 1:
            numbers = ", ".join(str(one["shard"]) for one in parts)
            told.append(f"shard{'s' if len(parts) > 1 else ''} {numbers} of {shards}")
        if behind := max(one.get("behind", 0) for one in parts):
            told.append(f"{behind} behind")
        yield f"{plugin} ({', '.join(told)})" if told else plugin
