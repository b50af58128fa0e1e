"""`gateway dead`."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from gateway.cli.changes import Operations, change_options, confirm, report
from gateway.cli.filters import filter_options, narrows, require_known
from gateway.cli.operating import open_operations
from gateway.cli.options import config_option, json_option
from gateway.cli.output import print_rows, progress, show_time
from gateway.plugin_host.place import without_message
from gateway.text import printable

if TYPE_CHECKING:
    from gateway.journal.interface import Filter
    from gateway.journal.search import DeadRow


@click.group("dead", invoke_without_command=True)
@filter_options(arguments=False)
@click.option("--show", is_flag=True, help="Show each in full: the last failure with its place, time and message.")
@config_option
@json_option
@click.pass_context
def command(context: click.Context, which: Filter, show: bool, config_path: Path, as_json: bool) -> None:
    """List dead letters: events that a plugin failed to take in its last attempt.

    The table has the type and the place of the last failure. What the exception says may contain personal data: --show
    and --json tell it, and the table with `[log] plugin_messages = true`.

    `retry` delivers them again, `discard` gives them up, by id or by the same filters, written after the word.

    \b
    Examples:
      gateway dead --plugin archive
      gateway dead --show
      gateway dead retry --plugin archive --since 2h --dry-run
      gateway dead discard --id 0190b5c4-...
    """
    if context.invoked_subcommand is not None:
        if narrows(which) or as_json or show:
            raise click.UsageError(f"write options after `{context.invoked_subcommand}`, not before it")
        return
    from gateway.config.load import load_config
    from gateway.journal import open_reader

    config = load_config(config_path, secrets=False)
    require_known(config, which.organisation, which.plugin)
    columns = ("dead since (UTC)", "plugin", "hook", "conversation", "attempts", "id", "error")
    nothing = "no dead letter matches" if narrows(which) else "there are no dead letters"
    with closing(open_reader(config)) as reader:
        rows = reader.dead(which)
        if not show or as_json:
            messages = config.log.plugin_messages
            print_rows(rows, as_json, columns, lambda row: _cells(row, messages), wrapped=2, nothing=nothing)
        elif not _show_each(rows):
            click.echo(nothing, err=True)


def _cells(row: DeadRow, messages: bool) -> tuple[str, ...]:
    conversation, error = row.conversation_id or "-", row.error if messages else without_message(row.error)
    return show_time(row.dead_since), row.plugin, row.hook, conversation, str(row.attempts), row.id, error


def _show_each(rows: Iterable[DeadRow]) -> int:
    count = 0
    for count, row in enumerate(rows, 1):  # noqa: B007
        failed = f"attempt {row.attempts}, at {show_time(row.dead_since)} UTC: {row.error}"
        values = {"id": row.id, "plugin": row.plugin, "hook": row.hook, "conversation_id": row.conversation_id or "-"}
        for name, value in (values | {"last failure": failed}).items():
            click.echo(f"{name:<16} {printable(value)}")
        click.echo()
    return count


def _selection(function: Any) -> Any:
    """Adds the filters, --all, --dry-run and --yes."""
    every = click.option("--all", "every", is_flag=True, help="Every dead letter, where there is no id and no filter.")
    return filter_options()(every(change_options(function)))


@command.command("retry", short_help="Deliver dead letters again.")
@_selection
@click.option(
    "--in-order", is_flag=True, help="Deliver those of a conversation one after another, before its newer events."
)
@config_option
@json_option
def retry(
    which: Filter, every: bool, in_order: bool, dry_run: bool, yes: bool, config_path: Path, as_json: bool
) -> None:
    """Deliver dead letters again, by ID or by filter, with their attempts counted anew.

    Dead letters of a plugin that is off stay. Without a running gateway the delivery begins with the next start.
    Without --in-order a dead letter is delivered by itself, beside the other events of its conversation.

    \b
    Examples:
      gateway dead retry 0190b5c4-...
      gateway dead retry --plugin archive --since today --dry-run
      gateway dead retry --plugin crm --conversation 97847 --in-order
      gateway dead retry --all --yes
    """
    journal = _operations(config_path, which, every)
    if not dry_run:
        confirm("Deliver {n} again?", lambda: journal.retry_dead(which, dry_run=True), yes, "dead letter")
    with progress("Making due again") as show_progress:
        change = journal.retry_dead(which, in_order=in_order, dry_run=dry_run, progress=show_progress)
    when = "after the next start" if journal.offline else "now"
    report(change, as_json, dry_run, "dead letter", "delivered again", when=when)


@command.command("discard", short_help="Give dead letters up.")
@_selection
@config_option
@json_option
def discard(which: Filter, every: bool, dry_run: bool, yes: bool, config_path: Path, as_json: bool) -> None:
    """Give dead letters up, by ID or by filter: their plugin does not get them again.

    The events stay in the journal, and `gateway replay` can deliver them again.

    \b
    Examples:
      gateway dead discard 0190b5c4-...
      gateway dead discard --plugin archive --until 2026-01-31 --dry-run
    """
    journal = _operations(config_path, which, every)
    if not dry_run:
        confirm("Give {n} up?", lambda: journal.discard_dead(which, dry_run=True), yes, "dead letter", ask_from=1)
    with progress("Discarding") as show_progress:
        change = journal.discard_dead(which, dry_run=dry_run, progress=show_progress)
    report(change, as_json, dry_run, "dead letter", "discarded")


def _operations(config_path: Path, which: Filter, every: bool) -> Operations:
    if not (narrows(which) or every):
        raise click.UsageError("name ids or a filter, or give --all for every dead letter")
    return open_operations(config_path, which)
