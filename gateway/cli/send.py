"""`gateway send`."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from gateway.cli.failures import hint_of_networks
from gateway.cli.filters import hook_named
from gateway.cli.options import (
    config_option,
    json_option,
    named_values,
    organisation_option,
    the_organisation,
    url_option,
)
from gateway.cli.output import coloured, print_json
from gateway.text import printable

if TYPE_CHECKING:
    from gateway.simulate import Client


class Outgoing(NamedTuple):
    """A body to send. `hook` is its hook, if known; `path_hook` is the hook to name in the path, if any."""

    hook: str
    body: bytes
    path_hook: str | None


class Sent(NamedTuple):
    """The answer to an event; `status` is None where there was none."""

    hook: str
    status: int | None
    document: dict[str, Any]


@click.command("send")
@click.argument("hook", required=False, metavar="[HOOK]")
@click.option("--all", "every", is_flag=True, help="Send an event of each of the eight hooks, in one conversation.")
@click.option(
    "--field",
    "fields",
    multiple=True,
    metavar="NAME=VALUE",
    callback=named_values,
    help="Set a field of the body to a string; NAME:=VALUE to a JSON value. Repeatable.",
)
@click.option("--file", type=click.File("rb"), help="Send the content of a file as it is (- is standard input).")
@click.option("--count", type=click.IntRange(min=1), default=1, metavar="N", help="Send N times.  [default: 1]")
@click.option(
    "--rate",
    type=click.FloatRange(min=0, min_open=True),
    metavar="N",
    help="Events per second.  [default: no limit]",
)
@click.option(
    "--concurrency",
    type=click.IntRange(1, 256),
    default=1,
    metavar="N",
    help="Requests at the same time.  [default: 1]",
)
@click.option(
    "--path/--by-type",
    "by_path",
    default=None,
    help="Name the hook in the path, or only by the body's type.  [default: by type; with --file and HOOK: path]",
)
@organisation_option
@url_option
@config_option
@json_option
def command(
    hook: str | None,
    every: bool,
    fields: list[tuple[str, Any]],
    file: Any,
    count: int,
    rate: float | None,
    concurrency: int,
    by_path: bool | None,
    organisation: str | None,
    url: str | None,
    config_path: Path,
    as_json: bool,
) -> None:
    """Send the gateway a realistic event of HOOK, as Webio does, with a valid token.

    HOOK is one of inbound-message, message-send, delivery-report, payment, set-status, conversation-closed,
    move-to-queue, conversation-assignment, in any spelling (inboundMessage, inbound_message). Every event is new and
    has its own conversation, unless you set --field conversationId=...; --file sends the same bytes each time. Prints a
    line per answer. Exits 1 unless every answer is 200.

    \b
    Examples:
      gateway send inboundMessage --field body="I paid yesterday"
      gateway send --all
      gateway send payment --field amount:=12.50 --count 1000 --concurrency 8
      gateway send payment --file body.json
    """
    from gateway.config.load import load_config
    from gateway.simulate import Client

    if (hook is None and not every and file is None) or (every and (hook is not None or file is not None)):
        raise click.UsageError("name a HOOK, or give --all, or --file with or without a HOOK")
    if file is not None and fields:
        raise click.UsageError("--field cannot change the body of --file, which is sent as it is")
    if hook is not None:
        hook = hook_named(hook)
    config = load_config(config_path)
    outgoing = _file(file.read(), hook, by_path, count) if file else _made(hook, fields, bool(by_path), count)
    name = the_organisation(config, organisation)
    good = total = unanswered = refused = 0
    began = time.monotonic()
    with Client(config, name, url=url, connections=concurrency) as client:
        for sent in _send(client, outgoing, concurrency, rate):
            _show(sent, as_json)
            total += 1
            good += sent.status == 200
            unanswered += sent.status is None
            refused += sent.status == 403
    if unanswered == total:
        click.echo("no answer; is the gateway running?", err=True)
    elif refused and url is None:
        hint_of_networks(config.server)
    elif total > 1 and sys.stderr.isatty():
        seconds = time.monotonic() - began
        click.echo(f"{good} of {total} answered 200 in {seconds:.1f} s ({total / seconds:.0f} per second)", err=True)
    sys.exit(int(good < total))


def _made(hook: str | None, fields: list[tuple[str, Any]], by_path: bool, count: int) -> Iterator[Outgoing]:
    from gateway.simulate import body, conversation, encode

    for _ in range(count):
        for name, made in conversation() if hook is None else [(hook, body(hook))]:
            yield Outgoing(name, encode(made | dict(fields)), name if by_path else None)


def _file(content: bytes, hook: str | None, by_path: bool | None, count: int) -> Iterator[Outgoing]:
    for _ in range(count):
        yield Outgoing(hook or "", content, None if by_path is False else hook)


def _send(client: Client, outgoing: Iterable[Outgoing], concurrency: int, rate: float | None) -> Iterator[Sent]:
    """Send at most `concurrency` at a time and `rate` per second; yields each answer when it arrives."""
    pending: set[Future[Sent]] = set()
    due = time.monotonic()
    with ThreadPoolExecutor(concurrency) as pool:
        for event in outgoing:
            while pending and (len(pending) >= concurrency or time.monotonic() < due):
                pause = None if len(pending) >= concurrency else max(0.0, due - time.monotonic())
                done, pending = wait(pending, pause, FIRST_COMPLETED)
                yield from (future.result() for future in done)
            if rate is not None:
                time.sleep(max(0.0, due - time.monotonic()))
                due = max(due + 1 / rate, time.monotonic() - 1)
            pending.add(pool.submit(_post, client, event))
        while pending:
            done, pending = wait(pending, None, FIRST_COMPLETED)
            yield from (future.result() for future in done)


def _post(client: Client, event: Outgoing) -> Sent:
    from gateway.simulate import Unreachable

    try:
        answer = client.post(event.body, event.path_hook)
    except Unreachable as error:
        return Sent(event.hook, None, {"detail": str(error)})
    return Sent(event.hook, answer.status, answer.document)


def _show(sent: Sent, as_json: bool) -> None:
    if as_json:
        print_json({"status": sent.status, "hook": sent.hook or None} | sent.document, flush=True)
        return
    document = sent.document
    hook = str(document.get("hook") or sent.hook)
    if sent.status == 200:
        flags = {"duplicate": document.get("duplicate"), "unreadable": document.get("readable") is False}
        words = [str(document.get("id", "")), *(flag for flag, applies in flags.items() if applies)]
    else:
        words = [str(document.get("detail") or document.get("title") or "")]
    text = "  ".join([f"{hook:<23}", *words])
    status = coloured(str(sent.status or "---"), "green" if sent.status == 200 else "red")
    click.echo(f"{status}  {printable(text).rstrip()}")
