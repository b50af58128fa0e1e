"""`gateway journal`."""

from __future__ import annotations

import sys
from pathlib import Path

import click
import msgspec

from gateway.cli.journal_adopt import adopt
from gateway.cli.journal_copy import command as copy
from gateway.cli.journal_upgrade import command as upgrade
from gateway.cli.options import config_option, json_option
from gateway.cli.output import print_json
from gateway.text import counted


@click.group("journal")
@config_option
def command(**_: object) -> None:
    """Look for damage in the journal, and repair it; move it to another engine, or accept a restored database.

    \b
    Examples:
      gateway journal check
      gateway journal check --repair
      gateway journal adopt
      gateway journal copy --to postgresql://gateway@db.example.com/gateway
    """


@command.command("check", short_help="Read the whole journal and look for damage.")
@click.option("--repair", is_flag=True, help="Take out what is damaged, after a copy. The gateway must be stopped.")
@config_option
@json_option
def check(repair: bool, config_path: Path, as_json: bool) -> None:
    """Read the whole journal and look for damage: compare each row with its checksum, and the files with themselves.

    A damaged event is neither delivered nor listed, and a plugin that has come to it waits there. --repair copies the
    journal to journal.db.damaged, then deletes the damaged events, so that plugins go on behind them. A plugin whose
    cursor is damaged begins again at the oldest event, and events whose retries or dead letters are damaged are
    delivered again. Exits 1 when there is damage that was not repaired.

    \b
    Examples:
      gateway journal check
      gateway journal check --json | jq .events
      gateway journal check --repair
    """
    from gateway.config.load import load_config
    from gateway.journal import examine_journal, journal_lock, repair_journal

    config = load_config(config_path, secrets=False)
    found = examine_journal(config)
    copy = None
    if repair and not found.ok:
        with journal_lock(config, "`gateway journal check`"):
            copy = repair_journal(config, examine_journal(config))
    if as_json:
        print_json({"ok": found.ok, **msgspec.to_builtins(found), "repaired": copy is not None})
    else:
        for seq in found.events:
            click.echo(f"the event at position {seq} is damaged")
        for plugin in found.cursors:
            click.echo(f"the cursor of plugin {plugin} is damaged")
        for place in found.rows:
            click.echo(f"{place} is damaged")
        for sentence in found.pages:
            click.echo(f"the file is damaged: {sentence}")
        click.echo(f"{config.journal.path}: {counted(found.sound, 'sound event')}, {'no ' if found.ok else ''}damage")
        if copy is not None:
            click.echo(f"repaired; the journal as it was is {copy}")
    sys.exit(0 if found.ok or copy is not None else 1)


command.add_command(adopt)
command.add_command(copy)
command.add_command(upgrade)
