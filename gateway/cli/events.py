"""`gateway events`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from gateway.cli.filters import filter_options, narrows, require_known
from gateway.cli.options import config_option, json_option
from gateway.cli.output import on_terminal, print_json, print_table, printable, show_time

if TYPE_CHECKING:
    from gateway.journal.interface import Filter
    from gateway.journal.search import EventRow

_ON_A_TERMINAL: Final = 20


@click.command("events")
@filter_options(states=True)
@click.option(
    "--limit",
    type=click.IntRange(min=1),
    metavar="N",
    help=f"The newest N only.  [default: {_ON_A_TERMINAL} on a terminal; all in a pipe and with --json]",
)
@click.option("--show", is_flag=True, help="Show each event in full, with its body.")
@config_option
@json_option
def command(which: Filter, limit: int | None, show: bool, config_path: Path, as_json: bool) -> None:
    """List what was received, oldest first, while the gateway runs or not.

    All the filters given must hold. The table shows no message texts; --show and --json give the bodies as received.

    \b
    Examples:
      gateway events                                     the newest, as a table
      gateway events --hook payment --since today
      gateway events --state dead --plugin archive
      gateway events 0190b5c4-... --show
      gateway events --since 2026-01-01 --until 2026-02-01 --json > january.jsonl
    """
    from gateway.config.load import load_config
    from gateway.journal import open_reader

    if which.plugin is not None and which.state is None:
        raise click.UsageError("--plugin says whose --state is meant; give both")
    config = load_config(config_path, secrets=False)
    require_known(config, which.organisation, which.plugin)
    if limit is None and on_terminal() and not as_json:
        limit = _ON_A_TERMINAL
    with closing(open_reader(config)) as reader:
        rows = reader.events(which, limit, newest=limit is not None)
        if as_json:
            for row in rows:
                print_json(row)
        elif not (_show_each(rows) if show else _table(rows, several=len(config.organisations) > 1)):
            click.echo("no event matches" if narrows(which) else "nothing was received yet", err=True)


def _table(rows: Iterator[EventRow], several: bool) -> int:
    columns = ["received (UTC)", "hook", "conversation", "state", "id"]
    if several:
        columns.insert(1, "organisation")
    return print_table(columns, (_cells(row, several) for row in rows), wrapped=2)


def _cells(row: EventRow, several: bool) -> list[str]:
    cells = [show_time(row.received_at), row.hook, row.conversation_id or "-", state_of(row), row.id]
    if several:
        cells.insert(1, row.organisation)
    return cells


def state_of(row: EventRow) -> str:
    """Where an event is not delivered to every plugin yet: the state and the plugin of each that is behind."""
    behind = [f"{state} {plugin}" for plugin, state in row.deliveries.items() if state != "delivered"]
    state = ", ".join(behind) or ("delivered" if row.deliveries else "kept")
    notes = [note for note, given in (("unreadable", not row.readable), ("conflict", row.conflict)) if given]
    return f"{state} ({', '.join(notes)})" if notes else state


def _show_each(rows: Iterator[EventRow]) -> int:
    count = 0
    for count, row in enumerate(rows, 1):  # noqa: B007
        _show(row)
    return count


def _show(row: EventRow) -> None:
    for name in ("id", "received_at", "organisation", "hook", "conversation_id", "customer_uid"):
        value = getattr(row, name)
        click.echo(f"{name:<16} {printable(str(value)) if value is not None else '-'}")
    click.echo(f"{'state':<16} {state_of(row)}")
    click.echo(f"{printable(bytes(row.body).decode())}\n")
