"""`gateway replay`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from gateway.cli.bulk_changes import confirm, dry_run_option, operations, report, yes_option
from gateway.cli.filters import filter_options
from gateway.cli.options import config_option, json_option
from gateway.cli.output import progress

if TYPE_CHECKING:
    from gateway.journal.interface import Filter


@click.command("replay")
@filter_options(states=True, plugin_required=True)
@dry_run_option
@yes_option
@config_option
@json_option
def command(which: Filter, dry_run: bool, yes: bool, config_path: Path, as_json: bool) -> None:
    """Deliver events again to one plugin. Without a running gateway, this begins with the next start.

    They keep their ids and say that they are replayed (`event.replayed`), so a plugin that must not act twice can tell.
    All the filters given must hold; with none, everything in the journal is delivered again.

    \b
    Examples:
      gateway replay --plugin archive --since 2026-01-31 --until 2026-02-01 --dry-run
      gateway replay --plugin crm --hook payment --since 7d
      gateway replay --plugin crm 0190b5c4-...
    """
    with operations(config_path, which) as journal:
        if not dry_run:
            question = f"Deliver {{n}} events again to {which.plugin}?"
            confirm(question, lambda: journal.replay(which, True), yes)
        with progress("Delivering again") as tell:
            counted = journal.replay(which, dry_run, tell)
    report(counted, as_json, dry_run, "event", f"delivered again to {which.plugin}", soon=journal.recorded)
