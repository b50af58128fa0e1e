"""`gateway ask`."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import urlencode

import click
import msgspec

from gateway.cli.failures import Failure, hint_of_networks
from gateway.cli.options import config_option, json_option, organisation_option, the_organisation, url_option
from gateway.cli.output import print_json, print_table
from gateway.text import printable
from gateway.values.answer import Answer, Explanation
from gateway.values.question import Question

if TYPE_CHECKING:
    from gateway.config.tables import Config

_STOP_SECONDS: Final = 5.0


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
    from gateway.config.load import load_config
    from gateway.journal import journal_lock

    if url is not None and (explain or direct):
        raise click.UsageError("--url asks as Webio does; it cannot be used with --explain or --direct")
    config = load_config(config_path, secrets=not (explain or direct))
    question = Question(the_organisation(config, organisation), customer, address, fields)
    if explain and not direct and not journal_lock(config).is_held():
        click.echo("no gateway runs with this config; asking its providers directly", err=True)
        direct = True
    if direct:
        answer = _ask_providers(config, question)
    elif explain:
        answer = _ask_over_admin(config, question)
    else:
        answer = _ask_as_webio(config, question, url)
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


def _ask_as_webio(config: Config, question: Question, url: str | None) -> Explanation:
    """Over HTTP with a token, from the running gateway. The answer tells nothing about single fields."""
    from gateway.simulate import Client, Unreachable

    try:
        with Client(config, question.organisation, url=url) as client:
            status, document = client.ask(question.fields, question.customer_uid, question.address)
    except Unreachable as error:
        raise Failure(f"{error}; is the gateway running?") from None
    if status == 200:
        return Explanation(status=status, values=document, fields={})
    return Explanation(status=status, values={}, fields={}, problem=document)


def _ask_over_admin(config: Config, question: Question) -> Explanation:
    """Over the admin listener of the running gateway."""
    from gateway.cli.admin_client import request

    parameters = urlencode({"organisation": question.organisation, **_parameters(question)})
    return msgspec.convert(request(config, "GET", f"/api/values?{parameters}"), Explanation)


def _ask_providers(config: Config, question: Question) -> Explanation:
    """From the providers themselves, started in this process for this one question."""
    from gateway.plugin_host.lifecycle import StartFailed

    try:
        return Explanation.of(asyncio.run(_answer_directly(config, question)))
    except StartFailed as error:
        raise Failure(str(error)) from None


async def _answer_directly(config: Config, question: Question) -> Answer:
    """`ConfigError` or `StartFailed` where there is no answer. Nothing is cached or recorded."""
    from gateway.plugin_host.lifecycle import Lifecycle
    from gateway.plugin_host.load import load_plugins
    from gateway.values.service import CustomValues

    plugins = [plugin for plugin in load_plugins(config) if "custom_values" in plugin.hooks]
    values = CustomValues(config, plugins)
    lifecycle = Lifecycle(config, plugins)
    await lifecycle.start()
    try:
        await values.start()
        return await values.answer(question.organisation, urlencode(_parameters(question)).encode())
    finally:
        await values.close()
        await lifecycle.stop(_STOP_SECONDS)


def _parameters(question: Question) -> dict[str, str]:
    from gateway.simulate import query

    return query(question.fields, question.customer_uid, question.address)
