"""`gateway ask`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from gateway.cli.failures import hint_of_networks
from gateway.cli.options import config_option, json_option, organisation_option, the_organisation, url_option
from gateway.cli.output import print_json, print_table
from gateway.text import printable

if TYPE_CHECKING:
    from gateway.values.answer import Explanation


@click.command("ask")
@click.argument("fields", nargs=-1, metavar="[FIELD]...")
@click.option(
    "--customer", metavar="UID", help="Webio's customerUID. It is absent in conversations that began inbound."
)
@click.option("--address", metavar="ADDRESS", help="The contact's outboundChannelAddress, such as a phone number.")
@click.option("--explain", is_flag=True, help="Show each field's provider, outcome and time.")
@click.option("--direct", is_flag=True, help="Ask the providers of the config, without a running gateway.")
@organisation_option
@url_option
@config_option
@json_option
def command(
    fields: tuple[str, ...],
    customer: str | None,
    address: str | None,
    explain: bool,
    direct: bool,
    organisation: str | None,
    url: str | None,
    config_path: Path,
    as_json: bool,
) -> None:
    """Ask the gateway for custom values, as Webio's bot does for its <<FIELD>> placeholders, and print the answer.

    Without FIELD it only tests the connection. Exits 1 if the answer is not 200: the bot would take its Failure Step.

    --explain asks over the admin listener, because an answer to Webio has no details; without a running gateway it asks
    the providers directly. --direct starts the plugins that answer custom values for this one question. `gateway
    values` does not list these two, because they are not requests of Webio.

    \b
    Examples:
      gateway ask balance ID --customer 123456
      gateway ask balance --address 44777777777
      gateway ask balance --customer 123456 --explain
      gateway ask balance --customer 123456 --direct --json
    """
    from gateway.cli.ask_client import ask_as_webio, ask_over_admin, ask_providers
    from gateway.config.load import load_config
    from gateway.journal import journal_lock
    from gateway.values.question import Question

    if url is not None and (explain or direct):
        raise click.UsageError("--url asks as Webio does; it cannot be used with --explain or --direct")
    config = load_config(config_path, secrets=not (explain or direct))
    question = Question(the_organisation(config, organisation), customer, address, fields)
    if explain and not direct and not journal_lock(config).is_held():
        click.echo("no gateway runs with this config; asking its providers directly", err=True)
        direct = True
    if direct:
        answer = ask_providers(config, question)
    elif explain:
        answer = ask_over_admin(config, question)
    else:
        answer = ask_as_webio(config, question, url)
    if as_json:
        print_json(_document(answer, explain))
    else:
        _show(answer, explain)
    if answer.status == 403 and url is None:
        hint_of_networks(config.server)
    sys.exit(int(answer.status != 200))


def _document(answer: Explanation, explain: bool) -> dict[str, object]:
    document: dict[str, object] = {"status": answer.status, "values": answer.values}
    if explain:
        document["fields"] = answer.fields
    if answer.problem is not None:
        document["problem"] = answer.problem
    return document


def _show(answer: Explanation, explain: bool) -> None:
    if explain:
        details = ((name, d.outcome, d.provider or "-", f"{d.ms:.1f}") for name, d in answer.fields.items())
        columns = ("field", "outcome", "provider", "ms", "value")
        print_table(columns, ((*cells, _value(answer, cells[0])) for cells in details))
    else:
        width = max(map(len, answer.values), default=0)
        for field in answer.values:
            click.echo(f"{printable(field):<{width}}  {printable(_value(answer, field))}")
    if answer.problem is not None:
        reason = str(answer.problem.get("detail") or answer.problem.get("title") or "no reason given")
        click.echo(f"{answer.status}  {printable(reason)}", err=True)
    elif not answer.values:
        click.echo("the gateway answers; no field was asked for", err=True)


def _value(answer: Explanation, field: str) -> str:
    if field not in answer.values:
        return "-"
    value = answer.values[field]
    return "null" if value is None else str(value)
