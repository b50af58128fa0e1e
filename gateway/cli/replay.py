"""`gateway replay`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from gateway.cli.changes import Change, change_options, confirm, report
from gateway.cli.filters import filter_options
from gateway.cli.operating import open_operations
from gateway.cli.options import config_option, json_option
from gateway.cli.output import progress
from gateway.text import counted

if TYPE_CHECKING:
    from gateway.journal.interface import Filter


@click.command("replay")
@filter_options(states=True)
@click.option(
    "--unknown",
    is_flag=True,
    help="Only what was kept as unknown and has a hook now; --plugin is optional.",
)
@change_options
@config_option
@json_option
def command(which: Filter, unknown: bool, dry_run: bool, yes: bool, config_path: Path, as_json: bool) -> None:
    """Deliver events to one plugin again.

    --unknown delivers the events that were kept as unknown, once the config names their `type` and the gateway has been
    restarted. They are read anew, count as events of that hook from then on, and each plugin gets them once: a second
    --unknown finds only those that it has not got.

    They keep their ids and are marked as replayed (`event.replayed`), so that a plugin can tell. An event must match
    all of the filters; without a filter, every event in the journal is delivered again. Without a running gateway the
    replay is recorded, and begins with the next start.

    \b
    Examples:
      gateway replay --plugin archive --since 2026-01-31 --until 2026-02-01 --dry-run
      gateway replay --plugin crm --hook payment --since 7d
      gateway replay --plugin crm 0190b5c4-...
      gateway replay --unknown --since 2d
    """

    if unknown:
        if which.hook not in (None, "unknown"):
            raise click.UsageError("--unknown is about events without a hook; leave out --hook")
    elif which.plugin is None:
        raise click.UsageError("Missing option '--plugin'.")
    journal = open_operations(config_path, which)
    if unknown:
        hooks, left = journal.recognised()
        if left:
            what = f"{counted(left, 'event')} came by a name that no hook has"
            click.echo(f"{what}; `gateway check` shows what to add to the config", err=True)
        each = journal.takers(which, hooks)
    else:
        each = [which]
    names = ", ".join(str(one.plugin) for one in each) or "no plugin"
    if each and not dry_run:
        confirm(f"Deliver {{n}} to {names} again?", lambda: journal.replay(each[0], dry_run=True), yes, "event")
    with progress("Delivering again") as show_progress:
        changes = [journal.replay(one, dry_run=dry_run, progress=show_progress) for one in each]
    matched = max((change.matched for change in changes), default=0)
    short = max((change.matched - change.done for change in changes), default=0)
    when = "after the next start" if journal.offline else ""
    report(Change(matched, matched - short), as_json, dry_run, "event", f"delivered to {names} again", when=when)
