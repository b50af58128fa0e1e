"""`gateway values`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from gateway.cli.filters import as_moment, in_order, require_known
from gateway.cli.options import config_option, json_option
from gateway.cli.output import on_terminal, print_json, print_table, show_time

if TYPE_CHECKING:
    from gateway.config.tables import ValuesSettings
    from gateway.journal.search import ValueRecord

_ON_A_TERMINAL: Final = 20


@click.command("values")
@click.option("--customer", metavar="UID", help="The customer UID that was asked with.")
@click.option("--field", metavar="NAME", help="Requests that asked for this field, under any of its names.")
@click.option(
    "--status", type=click.IntRange(100, 599), metavar="N", help="How the request was answered, such as 200 or 409."
)
@click.option("--organisation", metavar="NAME", help="As named in the config.")
@click.option("--since", metavar="TIME", callback=as_moment, help="From then on: 2026-01-31T09:30, 2h, 7d, today.")
@click.option("--until", metavar="TIME", callback=as_moment, help="Before then. Times are UTC unless they say.")
@click.option(
    "--limit",
    type=click.IntRange(min=1),
    metavar="N",
    help=f"The newest N only.  [default: {_ON_A_TERMINAL} on a terminal; all in a pipe and with --json]",
)
@config_option
@json_option
def command(
    customer: str | None,
    field: str | None,
    status: int | None,
    organisation: str | None,
    since: datetime | None,
    until: datetime | None,
    limit: int | None,
    config_path: Path,
    as_json: bool,
) -> None:
    """List what custom value requests were given, oldest first: which fields, by which provider, how it went.

    Kept when `[values] audit = true`, for `audit_retention`. The values themselves are never kept, and addresses
    only masked. All the filters given must hold.

    \b
    Examples:
      gateway values                                     the newest, as a table
      gateway values --customer 123456 --field balance
      gateway values --status 502 --since today --json
    """
    from gateway.config.load import load_config
    from gateway.journal import open_reader
    from gateway.journal.search import ValueRecordFilter

    in_order(since, until)
    config = load_config(config_path, secrets=False)
    require_known(config, organisation)
    which = ValueRecordFilter(
        organisation=organisation,
        customer_uid=customer,
        fields=() if field is None else _names(config.values, field),
        status=status,
        since=since,
        until=until,
    )
    if limit is None and on_terminal() and not as_json:
        limit = _ON_A_TERMINAL
    with closing(open_reader(config)) as reader:
        rows = reader.value_records(which, limit, newest=limit is not None)
        if as_json:
            for row in rows:
                print_json(row)
        elif not _table(rows, several=len(config.organisations) > 1):
            off = "" if config.values.audit else "; [values] audit is off, so none is kept"
            click.echo(f"no request matches{off}", err=True)


def _names(values: ValuesSettings, name: str) -> tuple[str, ...]:
    """Every name of the field that a name stands for: the record has the one that was asked for."""
    every = ((field, *settings.aliases) for field, settings in values.fields.items())
    return next((names for names in every if name in names), (name,))


def _table(rows: Iterator[ValueRecord], several: bool) -> int:
    columns = ["at (UTC)", "customer", "address", "status", "fields"]
    if several:
        columns.insert(1, "organisation")
    return print_table(columns, (_cells(row, several) for row in rows))


def _cells(row: ValueRecord, several: bool) -> list[str]:
    fields = ", ".join(f"{name}: {_outcome(detail)}" for name, detail in row.fields.items())
    cells = [show_time(row.at), row.customer_uid or "-", row.address or "-", str(row.status), fields]
    if several:
        cells.insert(1, row.organisation)
    return cells


def _outcome(detail: dict[str, object]) -> str:
    by = f" by {detail['provider']}" if detail.get("provider") else ""
    took = f" in {detail['ms']} ms" if detail.get("ms") else ""
    return f"{detail.get('outcome')}{by}{took}"
