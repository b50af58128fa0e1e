"""`gateway events`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import click

from gateway.cli.filters import filter_options, narrows, require_known
from gateway.cli.options import config_option, json_option, limit_option
from gateway.cli.output import print_rows, report_search, show_time
from gateway.text import printable

if TYPE_CHECKING:
    from gateway.journal.interface import Filter
    from gateway.journal.search import EventRow


@click.command("events")
@filter_options(states=True)
@limit_option
@click.option("--show", is_flag=True, help="Show each event in full, with its body.")
@config_option
@json_option
def command(which: Filter, limit: int | None, show: bool, config_path: Path, as_json: bool) -> None:
    """List what was received, oldest first, with or without a running gateway.

    An event must match all of the filters. The table shows no message texts; --show and --json give the bodies as
    received.

    \b
    Examples:
      gateway events                                     the newest, as a table
      gateway events --hook payment --since today
      gateway events --customer 123456 --show
      gateway events --address +447700900123
      gateway events --text "pay* tomorrow" --since 7d
      gateway events --state dead --plugin archive
      gateway events 0190b5c4-... --show
      gateway events --since 2026-01-01 --until 2026-02-01 --json > january.jsonl
    """
    from gateway.config.load import load_config
    from gateway.journal import open_reader

    if which.plugin is not None and which.state is None:
        raise click.UsageError("--plugin needs --state: the state of an event is a plugin's")
    config = load_config(config_path, secrets=False)
    require_known(config, which.organisation, which.plugin)
    several = len(config.organisations) > 1
    columns = ["received (UTC)", *(["organisation"] if several else []), "hook", "conversation", "state", "id"]
    nothing = "no event matches" if narrows(which) else "the journal has no event yet"
    with closing(open_reader(config)) as reader:
        rows = reader.events(which, limit, newest=limit is not None, times=show)
        if not show or as_json:
            print_rows(rows, as_json, columns, lambda row: _cells(row, several), wrapped=2, nothing=nothing)
        elif not _show_each(rows):
            click.echo(nothing, err=True)
        report_search(reader)


def _cells(row: EventRow, several: bool) -> list[str]:
    organisation = [row.organisation] if several else []
    hook = row.hook if row.name is None else f"{row.hook} ({row.name})"
    return [show_time(row.received_at), *organisation, hook, row.conversation_id or "-", state_of(row), row.id]


def state_of(row: EventRow) -> str:
    """The state and the plugin for each plugin that has not taken the event; else the state of the event."""
    behind = [f"{state} {plugin}" for plugin, state in row.deliveries.items() if state != "delivered"]
    state = ", ".join(behind) or row.state
    notes = [note for note, applies in (("unreadable", not row.readable), ("conflict", row.conflict)) if applies]
    return f"{state} ({', '.join(notes)})" if notes else state


def _show_each(rows: Iterator[EventRow]) -> int:
    count = 0
    for count, row in enumerate(rows, 1):  # noqa: B007
        for name in ("id", "received_at", "organisation", "hook", "name", "conversation_id", "customer_uid"):
            value = getattr(row, name)
            click.echo(f"{name:<16} {printable(str(value)) if value is not None else '-'}")
        click.echo(f"{'state':<16} {state_of(row)}")
        for line in _deliveries(row):
            click.echo(printable(line))
        click.echo(f"{printable(bytes(row.body).decode())}\n")
    return count


def _deliveries(row: EventRow) -> Iterator[str]:
    """What is known of the times of each plugin's delivery, a line each."""
    for plugin, (earliest, latest) in (row.delivered_between or {}).items():
        yield f"{plugin:<16} delivered between {show_time(earliest)} and {show_time(latest)} UTC"
    for plugin, attempts in row.attempts.items():
        for number, one in enumerate(attempts, 1):
            at = f" at {show_time(one.at)} UTC" if one.at is not None else ""
            took = f" after {one.ms:.0f} ms" if one.ms is not None else ""
            what = "succeeded" if one.error is None else "failed"
            again = plugin in row.next_try and number == len(attempts)
            next_try = f"; next try {show_time(row.next_try[plugin])} UTC" if again else ""
            reason = f": {one.error}" if one.error is not None else ""
            yield f"{plugin:<16} attempt {one.attempt} {what}{at}{took}{reason}{next_try}"
