"""`gateway journal adopt`."""

from __future__ import annotations

from pathlib import Path

import click

from gateway.cli.options import config_option, json_option
from gateway.cli.output import print_json


@click.command("adopt", short_help="Accept a journal that was restored into another database.")
@click.option("--yes", is_flag=True, help="Do not ask for confirmation on a terminal.")
@config_option
@json_option
def adopt(yes: bool, config_path: Path, as_json: bool) -> None:
    """Accept that a journal in PostgreSQL is in another database cluster than the one it was made in, after a restore
    or a move to other servers. Shows the system_identifier of both.

    Until then no gateway starts with it: two gateways on two copies of one journal would both deliver its events. Make
    sure that no gateway uses the other cluster any more. A standby that was promoted has the same identifier, and needs
    no such step.

    \b
    Examples:
      gateway journal adopt
      gateway journal adopt --yes --json
    """
    from gateway.cli.changes import on_terminal
    from gateway.cli.failures import Failure
    from gateway.config.load import load_config
    from gateway.journal import adopt_journal, journal_clusters

    config = load_config(config_path)
    if config.journal.url is None:
        raise Failure(
            "the journal is a file, which needs no such step; a restored one is put in place by `gateway restore`"
        )
    seen = journal_clusters(config)
    differs = seen.made_in != seen.now_in
    if differs:
        click.echo(
            f"made in the database cluster {seen.made_in or 'that is not known'}, now in {seen.now_in}", err=True
        )
        question = "Does no gateway use the other one any more?"
        if on_terminal() and not yes and not click.confirm(question, err=True):
            raise Failure("nothing was changed")
        adopt_journal(config, seen)
    if as_json:
        print_json({"adopted": differs, "made_in": seen.made_in, "now_in": seen.now_in})
    elif differs:
        click.echo(f"the journal belongs to the database cluster {seen.now_in} now")
    else:
        click.echo(f"the journal is in the database cluster that it was made in, {seen.now_in}; nothing was changed")
