"""`gateway backup`."""

from __future__ import annotations

from pathlib import Path

import click

from gateway.cli.options import config_option, json_option
from gateway.cli.output import print_json, progress, size
from gateway.text import counted


@click.command("backup")
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@config_option
@json_option
def command(file: Path, config_path: Path, as_json: bool) -> None:
    """Copy the journal to FILE, while the gateway runs or without it, and check the copy.

    The copy has every event that was answered 200 before the command began, with cursors, retries and dead letters.
    FILE must not exist. It contains personal data: only its owner may read it. The config and the secrets are not in
    it; keep copies of them, too.

    \b
    Examples:
      gateway backup journal-copy.db
      gateway backup "journal-$(date +%F).db" --json
      gateway check --backup last-night.db     can it be restored?
    """
    from gateway.config.load import load_config
    from gateway.journal import back_up_journal

    config = load_config(config_path, secrets=False)
    with progress("copying") as report:
        made = back_up_journal(config, file, report)
    if as_json:
        print_json(made._asdict())
    else:
        click.echo(f"{made.file}: {counted(made.events, 'event')}, {size(made.bytes)}; checked")
