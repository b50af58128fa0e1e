"""`gateway timeline`."""

from __future__ import annotations

from contextlib import closing
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from gateway.cli.filters import require_known, time_options
from gateway.cli.options import config_option, json_option
from gateway.cli.output import print_rows, report_search, show_time

if TYPE_CHECKING:
    from gateway.journal.search import EventHappened, ValuesAsked


@click.command("timeline")
@click.option("--customer", metavar="UID", help="Webio's customerUID.")
@click.option("--conversation", metavar="ID", help="Webio's conversationId.")
@click.option("--organisation", metavar="NAME", help="An organisation of the config.")
@time_options
@config_option
@json_option
def command(
    customer: str | None,
    conversation: str | None,
    organisation: str | None,
    since: datetime | None,
    until: datetime | None,
    config_path: Path,
    as_json: bool,
) -> None:
    """Tell what happened to a customer or in a conversation, oldest first: a line for each message, delivery report,
    payment, change of the conversation, and custom value request.

    Requests are recorded with `[values] audit = true`: which fields the bot asked for, which provider answered, and how
    long it took. The values themselves are not kept. A request names a customer and no conversation: in a conversation
    are those about its customers, from an hour before its first event to an hour after its last one.

    \b
    Examples:
      gateway timeline --customer 123456
      gateway timeline --customer 123456 --since 7d --json
      gateway timeline --conversation 97847
    """
    from gateway.config.load import load_config
    from gateway.journal import open_reader
    from gateway.journal.interface import Filter
    from gateway.sentences import sentence

    if (customer is None) == (conversation is None):
        raise click.UsageError("name either a customer with --customer or a conversation with --conversation")
    config = load_config(config_path, secrets=False)
    require_known(config, organisation)
    which = Filter(customer=customer, conversation=conversation, organisation=organisation, since=since, until=until)
    several = len(config.organisations) > 1
    other = "customer" if customer is None else "conversation"
    columns = ["at (UTC)", *(["organisation"] if several else []), other, "what happened"]

    def cells(line: EventHappened | ValuesAsked) -> list[str]:
        named = line.customer_uid if customer is None else line.conversation_id
        return [show_time(line.at), *([line.organisation] if several else []), named or "-", sentence(line)]

    with closing(open_reader(config)) as reader:
        print_rows(reader.timeline(which), as_json, columns, cells, nothing="the journal has nothing that matches")
        report_search(reader)
    if not as_json and not config.values.audit:
        click.echo("[values] audit is off, so custom value requests are not recorded", err=True)
