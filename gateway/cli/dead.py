"""`gateway dead`."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from gateway.cli.bulk_changes import confirm, dry_run_option, operations, report, yes_option
from gateway.cli.filters import filter_options, narrows, require_known
from gateway.cli.options import config_option, json_option
from gateway.cli.output import print_json, print_table, show_time

if TYPE_CHECKING:
    from gateway.journal.interface import Filter


@click.group("dead", invoke_without_command=True)
@filter_options(arguments=False)
@config_option
@json_option
@click.pass_context
def command(context: click.Context, which: Filter, config_path: Path, as_json: bool) -> None:
    """List dead letters: events that a plugin would not take after its last attempt.

    `retry` has them delivered again, `discard` gives them up: by id, or by the same filters, written after the word.

    \b
    Examples:
      gateway dead --plugin archive
      gateway dead retry --plugin archive --since 2h --dry-run
      gateway dead discard --id 0190b5c4-...
    """
    if context.invoked_subcommand is not None:
        if narrows(which) or as_json:
            raise click.UsageError(f"write options after `{context.invoked_subcommand}`, not before it")
        return
    from gateway.config.load import load_config
    from gateway.journal import open_reader

    config = load_config(config_path, secrets=False)
    require_known(config, which.organisation, which.plugin)
    with closing(open_reader(config)) as reader:
        rows = reader.dead(which)
        if as_json:
            for row in rows:
                print_json(row)
            return
        columns = ("dead since (UTC)", "plugin", "hook", "conversation", "attempts", "id", "error")
        cells = (
            (
                show_time(row.dead_since),
                row.plugin,
                row.hook,
                row.conversation_id or "-",
                str(row.attempts),
                row.id,
                row.error,
            )
            for row in rows
        )
        if not print_table(columns, cells, wrapped=2):
            click.echo("no dead letter matches" if narrows(which) else "there are no dead letters", err=True)


def _every(function: Any) -> Any:
    return click.option("--all", "every", is_flag=True, help="Without an id or a filter: every dead letter.")(function)


@command.command("retry", short_help="Deliver dead letters again.")
@filter_options()
@_every
@dry_run_option
@yes_option
@config_option
@json_option
def retry(which: Filter, every: bool, dry_run: bool, yes: bool, config_path: Path, as_json: bool) -> None:
    """Deliver dead letters again, by ID or by filter, with their attempts counted anew.

    Those of a plugin that is not switched on stay as they are. Without a running gateway it is done at the next start.

    \b
    Examples:
      gateway dead retry 0190b5c4-...
      gateway dead retry --plugin archive --since today --dry-run
      gateway dead retry --all --yes
    """
    _require_choice(which, every)
    with operations(config_path, which) as journal:
        if not dry_run:
            confirm("Deliver {n} dead letters again?", lambda: journal.dead_retry(which, True), yes)
        counted = journal.dead_retry(which, dry_run)
    report(counted, as_json, dry_run, "dead letter", "delivered again", soon=True)


@command.command("discard", short_help="Give dead letters up.")
@filter_options()
@_every
@dry_run_option
@yes_option
@config_option
@json_option
def discard(which: Filter, every: bool, dry_run: bool, yes: bool, config_path: Path, as_json: bool) -> None:
    """Give dead letters up, by ID or by filter: their plugin will not see them any more.

    The events themselves stay in the journal, and `gateway replay` can deliver them again.

    \b
    Examples:
      gateway dead discard 0190b5c4-...
      gateway dead discard --plugin archive --until 2026-01-31 --dry-run
    """
    _require_choice(which, every)
    with operations(config_path, which) as journal:
        if not dry_run:
            confirm("Give {n} dead letters up?", lambda: journal.dead_discard(which, True), yes, ask_from=1)
        counted = journal.dead_discard(which, dry_run)
    report(counted, as_json, dry_run, "dead letter", "discarded")


def _require_choice(which: Filter, every: bool) -> None:
    """Everything must be asked for, not meant by saying nothing."""
    if not (narrows(which) or every):
        raise click.UsageError("name ids or a filter, or give --all for every dead letter")
