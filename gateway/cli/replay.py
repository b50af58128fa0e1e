"""`gateway replay`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from gateway.cli.filters import filter_options
from gateway.cli.operations import change_options, confirm, open_operations, report
from gateway.cli.options import config_option, json_option
from gateway.cli.output import progress

if TYPE_CHECKING:
    from gateway.journal.interface import Filter


@click.command("replay")
@filter_options(states=True, plugin_required=True)
@change_options
@config_option
@json_option
def command(which: Filter, dry_run: bool, yes: bool, config_path: Path, as_json: bool) -> None:
    """Deliver events to one plugin again.

    They keep their ids and are marked as replayed (`event.replayed`), so that a plugin can tell. An event must match
    all of the filters; without a filter, every event in the journal is delivered again. Without a running gateway the
    replay is recorded, and begins with the next start.

    \b
    Examples:
      gateway replay --plugin archive --since 2026-01-31 --until 2026-02-01 --dry-run
      gateway replay --plugin crm --hook payment --since 7d
      gateway replay --plugin crm 0190b5c4-...
    """
    journal = open_operations(config_path, which)
    if not dry_run:
        question = f"Deliver {{n}} to {which.plugin} again?"
        confirm(question, lambda: journal.replay(which, dry_run=True), yes, "event")
    with progress("Delivering again") as show_progress:
        change = journal.replay(which, dry_run=dry_run, progress=show_progress)
    when = "after the next start" if journal.offline else ""
    report(change, as_json, dry_run, "event", f"delivered to {which.plugin} again", when=when)
