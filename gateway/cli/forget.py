"""`gateway forget`."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import click

from gateway.cli.filters import address_of, require_known
from gateway.cli.options import config_option, json_option
from gateway.cli.output import print_json, progress
from gateway.text import counted

if TYPE_CHECKING:
    from gateway.forgetting import Forgotten

COPIES = (".before-*", ".damaged", ".replaced-*")
"""Ends of the names of copies that the gateway makes beside its journal."""


@click.command("forget")
@click.option("--customer", metavar="UID", help="Webio's customerUID.")
@click.option("--address", metavar="A", callback=address_of, help="The customer's address, in any notation.")
@click.option("--conversation", metavar="ID", help="Webio's conversationId.")
@click.option("--organisation", metavar="NAME", help="Only of this organisation.  [default: all]")
@click.option("--dry-run", is_flag=True, help="Only count what would be erased.")
@click.option("--yes", is_flag=True, help="Do not ask for confirmation on a terminal.")
@config_option
@json_option
def command(
    customer: str | None,
    address: str | None,
    conversation: str | None,
    organisation: str | None,
    dry_run: bool,
    yes: bool,
    config_path: Path,
    as_json: bool,
) -> None:
    """Erase a customer, an address or a conversation: events, also those that plugins have not taken yet, with their
    dead letters, retries, attempts and traces in the search index; records of custom value requests, by --customer; and
    what plugins keep, such as the archive's lines.

    Events are those that `gateway events` lists for the same option; an event that names only a conversation is not
    found by --customer. Copies of the journal and logs stay: the command names the copies that it sees. Where a plugin
    fails, the exit code is 1, and the command can be run again.

    \b
    Examples:
      gateway forget --customer 123456 --dry-run
      gateway forget --customer 123456
      gateway forget --address +353861234567 --yes
    """
    from gateway.cli.changes import on_terminal
    from gateway.cli.operating import operations_of
    from gateway.config.load import load_config
    from gateway.journal import open_reader
    from gateway.journal.interface import Filter

    if [customer, address, conversation].count(None) != 2 or "" in (customer, conversation):
        raise click.UsageError("name one of --customer, --address and --conversation")
    config = load_config(config_path, secrets=False)
    require_known(config, organisation)
    which = Filter(customer=customer, address=address, conversation=conversation, organisation=organisation)
    if dry_run or (on_terminal() and not yes):
        with closing(open_reader(config)) as reader:
            matched = reader.count(which)
        if dry_run:
            if as_json:
                print_json({"matched": matched, "done": 0, "plugins": {}})
            else:
                click.echo(f"{counted(matched, 'event')} would be erased, and what plugins keep")
            return
        if not click.confirm(f"Erase {counted(matched, 'event')} and what plugins keep, for good?", err=True):
            from gateway.cli.failures import Failure

            raise Failure("nothing was changed")
    journal = config.journal.path
    with progress("Erasing") as show_progress:
        done = operations_of(config).forget(which, show_progress)
    copies = sorted(str(found) for end in COPIES for found in journal.parent.glob(f"{journal.name}{end}"))
    _report(done, copies, as_json)
    if done.failed:
        click.get_current_context().exit(1)


def _report(done: Forgotten, copies: list[str], as_json: bool) -> None:
    if as_json:
        failed = {"failed": done.failed} if done.failed else {}
        passed_on = {"passed_on": done.passed_on} if done.passed_on else {}
        records = {"value_records": done.value_records, "copies": copies}
        print_json(
            {"matched": done.matched, "done": done.done, "plugins": done.plugins, **records, **passed_on, **failed}
        )
    else:
        click.echo(f"journal: {counted(done.done, 'event')} and {counted(done.value_records, 'value record')} erased")
        for name, count in done.plugins.items():
            click.echo(f"{name}: {counted(count, 'record')} erased")
    for name, sentence in done.passed_on.items():
        click.echo(f"{name}: {sentence}", err=True)
    for name, reason in done.failed.items():
        click.echo(f"plugin {name} failed: {reason}; run the command again", err=True)
    for copy in copies:
        click.echo(f"{copy} is a copy of the journal from before, and was not changed", err=True)
