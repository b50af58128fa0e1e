"""`gateway journal upgrade`."""

from __future__ import annotations

from pathlib import Path

import click

from gateway.cli.database_options import database_options, with_database
from gateway.cli.options import config_option, json_option
from gateway.cli.output import print_json


@click.command("upgrade", short_help="Make the tables in PostgreSQL, or bring them up to date.")
@click.option("--url", metavar="URL", help="The database as its owner reaches it.  [default: journal.url]")
@database_options
@config_option
@json_option
def command(url: str | None, password_file: Path | None, ca: Path | None, config_path: Path, as_json: bool) -> None:
    """Make the tables of the journal in a PostgreSQL database, or bring them to the layout of this version.

    `gateway run` does that by itself where its user may make tables. Where it may not, this command does it as another
    user, before gateways of this version start: deploy/postgresql/grants.sql makes such users. Gateways that run go on;
    see docs/scale.md for an upgrade of several.

    \b
    Examples:
      gateway journal upgrade
      gateway journal upgrade --url postgresql://webio_owner@db.example.com/gateway --password-file owner.password
    """
    from gateway.config.load import load_config
    from gateway.journal import upgrade_journal

    config = load_config(config_path, secrets=False)
    if url is not None:
        config = with_database(config, "--url", url, password_file, ca)
    before, after = upgrade_journal(config)
    if as_json:
        print_json({"before": before, "layout": after})
    elif before == after:
        click.echo(f"the journal has layout {after} already")
    else:
        click.echo(f"the journal has layout {after} now" + (f"; it had layout {before}" if before else ""))
