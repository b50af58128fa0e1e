"""`gateway restore`."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path

import click

from gateway.cli.options import config_option, json_option
from gateway.cli.output import print_json, size
from gateway.text import counted


@click.command("restore")
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@config_option
@json_option
def command(file: Path, config_path: Path, as_json: bool) -> None:
    """Check the backup FILE and put a copy of it in the journal's place. The gateway must be stopped.

    The journal that was there before is kept beside it: its name ends with .replaced- and the time. Events that were
    received after the backup are only in that one. Plugins go on where they were at the time of the backup, so they get
    events again that they took after it.

    \b
    Examples:
      gateway restore last-night.db
      gateway restore last-night.db --json
    """
    from gateway.config.load import load_config
    from gateway.journal import journal_lock, restore_journal

    config = load_config(config_path, secrets=False)
    with nullcontext() if config.journal.url is not None else journal_lock(config, "`gateway restore`"):
        restored, aside = restore_journal(config, file)
    if as_json:
        print_json({**restored._asdict(), "replaced": None if aside is None else str(aside)})
        return
    click.echo(f"{restored.file}: {counted(restored.events, 'event')}, {size(restored.bytes)}, from {file}")
    if aside is not None:
        click.echo(f"the journal that was there before is {aside}")
