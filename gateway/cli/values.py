"""`gateway values`."""

from __future__ import annotations

from contextlib import closing
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from gateway.cli.filters import require_known, time_options
from gateway.cli.options import config_option, json_option, limit_option
from gateway.cli.output import print_rows, report_search, show_time

if TYPE_CHECKING:
    from gateway.config.tables import ValuesSettings
    from gateway.journal.search import ValueRecord


@click.command("values")
@click.option("--customer", metavar="UID", help="The customer UID of the request.")
@click.option("--field", metavar="NAME", help="Requests for this field, by any of its names.")
@click.option("--status", type=click.IntRange(100, 599), metavar="N", help="The answer's status, such as 200 or 409.")
@click.option("--organisation", metavar="NAME", help="An organisation of the config.")
@time_options
@limit_option
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
    """List custom value requests, oldest first: the fields, the provider that answered each, and the outcome.

    They are recorded with `[values] audit = true`, for `audit_retention`. The values themselves are not kept, and
    addresses only masked. A request must match all of the filters.

    \b
    Examples:
      gateway values                                     the newest, as a table
      gateway values --customer 123456 --field balance
      gateway values --status 502 --since today --json
    """
    from gateway.config.load import load_config
    from gateway.journal import open_reader
    from gateway.journal.search import ValueRecordFilter

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
    several = len(config.organisations) > 1
    columns = ["at (UTC)", *(["organisation"] if several else []), "customer", "address", "status", "fields"]
    nothing = "no request matches" + ("" if config.values.audit else "; [values] audit is off, so none is recorded")
    with closing(open_reader(config)) as reader:
        rows = reader.value_records(which, limit, newest=limit is not None)
        print_rows(rows, as_json, columns, lambda row: _cells(row, several), nothing=nothing)
        report_search(reader)


def _names(values: ValuesSettings, name: str) -> tuple[str, ...]:
    """Every name of the field with this name or alias: a record has the name of the request."""
    every = ((field, *settings.aliases) for field, settings in values.fields.items())
    return next((names for names in every if name in names), (name,))


def _cells(row: ValueRecord, several: bool) -> list[str]:
    fields = ", ".join(f"{name}: {_outcome(detail)}" for name, detail in row.fields.items())
    organisation = [row.organisation] if several else []
    return [show_time(row.at), *organisation, row.customer_uid or "-", row.address or "-", str(row.status), fields]


def _outcome(detail: dict[str, object]) -> str:
    by = f" by {detail['provider']}" if detail.get("provider") else ""
    took = f" in {detail['ms']} ms" if detail.get("ms") else ""
    return f"{detail.get('outcome')}{by}{took}"
