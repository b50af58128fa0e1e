"""`gateway nodes`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from gateway.cli.options import config_option, json_option
from gateway.cli.output import print_rows


@click.command("nodes")
@config_option
@json_option
def command(config_path: Path, as_json: bool) -> None:
    """List the gateways that run on this journal, and the plugins whose events each of them delivers.

    A journal in a file has one gateway. Its name is `[node] name`, by default the host's.

    \b
    Examples:
      gateway nodes
      gateway nodes --json
    """
    from gateway.cli.admin_client import request
    from gateway.config.load import load_config
    from gateway.journal import journal_lock
    from gateway.journal.lock import GATEWAY

    config = load_config(config_path)
    holder = journal_lock(config).holder()
    found = request(config, "GET", "/api/nodes") if holder is not None and holder.name == GATEWAY else []
    columns = ("name", "version", "started (UTC)", "seen (UTC)", "delivers to")
    print_rows(found, as_json, columns, _cells, wrapped=1, nothing=f"no gateway runs with {config.journal.path}")


def _cells(node: dict[str, Any]) -> tuple[str, ...]:
    owned = ", ".join(one["plugin"] + (f" (shard {one['shard']})" if one["shard"] else "") for one in node["owns"])
    times = (node[name][:19].replace("T", " ") for name in ("started_at", "seen_at"))
    return node["name"], node["version"], *times, owned or "nothing"
