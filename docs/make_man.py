"""Prints the man page gateway(1), made from the commands' own help: `make man` writes it to docs/gateway.1."""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Iterator

import click

from gateway.cli import SECTIONS, cli

ENVIRONMENT = {
    "GATEWAY_CONFIG": "The config file where -c does not name one.",
    "GATEWAY_DEBUG": "Show the traceback of an unexpected error, as --debug does.",
    "NO_COLOR": "Print tables without colours.",
}
EXIT_CODES = {"0": "Done.", "1": "Failed.", "2": "Wrong usage.", "78": "The config has a fault."}


def page() -> str:
    """The whole page."""
    return "\n".join(_lines()) + "\n"


def _lines() -> Iterator[str]:
    yield '.\\" Made by docs/make_man.py: change the help of the commands, then run `make man`.'
    yield '.TH GATEWAY 1 "" "Webio Gateway" "User Commands"'
    yield from (".SH NAME", "gateway \\- receive, keep and deliver what Webio's webhooks send")
    yield from (".SH SYNOPSIS", "\\fBgateway\\fR [\\fIOPTION\\fR]... \\fICOMMAND\\fR [\\fIARGUMENT\\fR]...")
    yield ".SH DESCRIPTION"
    yield from _prose(cli.help or "")
    root = click.Context(cli, info_name="gateway", help_option_names=["-h", "--help"])
    yield from _options(cli, root)
    for title, section in SECTIONS.items():
        yield f".SH {_text(title.upper())}"
        for name in section:
            command = cli.get_command(root, name)
            if command is not None:
                yield from _command(command, root, name)
    yield ".SH EXIT STATUS"
    yield from _terms(EXIT_CODES)
    yield ".SH ENVIRONMENT"
    yield from _terms(ENVIRONMENT)
    yield ".SH FILES"
    yield from _terms({"config.toml": "The configuration. It explains every key."})


def _command(command: click.Command, parent: click.Context, name: str) -> Iterator[str]:
    context = click.Context(command, info_name=name, parent=parent)
    usage = " ".join([context.command_path, *command.collect_usage_pieces(context)])
    yield f".SS {_text(usage)}"
    yield from _prose(command.help or "")
    yield from _options(command, context)
    if isinstance(command, click.Group):
        for inner in command.list_commands(context):
            found = command.get_command(context, inner)
            if found is not None:
                yield from _command(found, context, inner)


def _options(command: click.Command, context: click.Context) -> Iterator[str]:
    records = [record for parameter in command.get_params(context) if (record := parameter.get_help_record(context))]
    yield from _terms({term: meaning for term, meaning in records if meaning})


def _terms(terms: dict[str, str]) -> Iterator[str]:
    for term, meaning in terms.items():
        yield from (".TP", f"\\fB{_text(term)}\\fR", _text(meaning))


def _prose(help_text: str) -> Iterator[str]:
    """Paragraphs as text, and those that click leaves as they are (after \\b) as they are."""
    for number, paragraph in enumerate(inspect.cleandoc(help_text).split("\n\n")):
        if number:
            yield ".PP"
        if paragraph.startswith("\b\n"):
            yield from (".nf", *map(_text, paragraph[2:].splitlines()), ".fi")
        else:
            yield _text(re.sub(r"\s+", " ", paragraph))


def _text(text: str) -> str:
    """Text without what troff takes for a request or an escape."""
    text = text.replace("\\", "\\e").replace("-", "\\-")
    return f"\\&{text}" if text.startswith((".", "'")) else text


if __name__ == "__main__":
    sys.stdout.write(page())
