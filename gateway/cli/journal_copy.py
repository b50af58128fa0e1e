"""`gateway journal copy`."""

from __future__ import annotations

from pathlib import Path

import click

from gateway.cli.database_options import database_options, with_database
from gateway.cli.options import config_option, json_option
from gateway.cli.output import print_json, progress
from gateway.text import counted


@click.command("copy", short_help="Move the journal to PostgreSQL, or back into a file.")
@click.option("--to", "target", metavar="TARGET", required=True, help="The URL of a database, or the path of a file.")
@database_options
@config_option
@json_option
def command(target: str, password_file: Path | None, ca: Path | None, config_path: Path, as_json: bool) -> None:
    """Copy the journal of the config to another engine: from a file to a PostgreSQL database, or from the database to a
    file. The gateways of the journal must be stopped.

    Everything is copied: events, cursors, retries, dead letters, attempts, operations and the records of custom value
    requests. Then both are read again and compared, row by row. The target must be empty; a copy that was broken off
    goes on when the same command is called again, and no gateway starts on it before. The journal that is copied stays
    as it is. Then put the target into the config, as journal.url or journal.path.

    Where several gateways shared a plugin's events by shards, the file has one cursor, at the event up to which all of
    them were done: the plugin gets some of the later ones again.

    \b
    Examples:
      gateway journal copy --to postgresql://gateway@db.example.com/gateway --password-file db.password
      gateway journal copy --to "postgresql://gateway@db.example.com/main?search_path=webio"
      gateway journal copy --to var/journal.db       back into a file
    """
    from gateway.config.load import load_config
    from gateway.journal import copy_journal

    config = load_config(config_path, secrets=False)
    to = with_database(config, "--to", target, password_file, ca) if "://" in target else Path(target)
    with progress("copying") as report:
        copied = copy_journal(config, to, report)
    if as_json:
        print_json(copied)
        return
    again = " (went on with an earlier copy)" if copied.resumed else ""
    rows = sum(copied.rows.values())
    click.echo(
        f"{copied.target}: {counted(copied.events, 'event')}, {rows} rows in all, equal to {copied.source}{again}"
    )
    key = "path" if isinstance(to, Path) else "url"
    click.echo(f"now set journal.{key} in {config_path}, and start the gateway")
