"""`gateway token`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from gateway.cli.failures import Failure
from gateway.cli.options import (
    config_option,
    duration,
    json_option,
    named_values,
    organisation_option,
    the_organisation,
)
from gateway.cli.output import print_json

_LONGEST = 1_000_000  # bytes of standard input


@click.group("token")
@config_option
def command(**_: object) -> None:
    """Make a token as Webio does, or tell why one is refused.

    \b
    Examples:
      gateway token mint --expires-in 1h
      gateway token verify --json < token.txt
    """


@command.command("mint", short_help="Print a token.")
@config_option
@organisation_option
@json_option
@click.option("--expires-in", metavar="DURATION", callback=duration, help="Such as 30s, 1h, 30d.  [default: never]")
@click.option(
    "--claim",
    "claims",
    multiple=True,
    metavar="NAME=VALUE",
    callback=named_values,
    help="A further claim: a string; NAME:=VALUE for a JSON value. Repeatable.",
)
def mint_token(
    config_path: Path, organisation: str | None, as_json: bool, expires_in: float | None, claims: list[tuple[str, Any]]
) -> None:
    """Print a token signed with the organisation's first secret, and nothing else; with --json as {"token": ...}.

    It has the claims that the config requires. Keep it like a password: it allows to send events.

    \b
    Examples:
      gateway token mint
      gateway token mint --expires-in 1h --claim orgId=4711
      curl -H "x-webio-token: $(gateway token mint)" -d '{"type": "payment"}' http://127.0.0.1:8080/webio
    """
    from gateway.config.load import load_config
    from gateway.http.tokens import mint

    config = load_config(config_path)
    name = the_organisation(config, organisation)
    try:
        token = mint(config.organisations[name], claims=dict(claims), expires_in=expires_in)
    except ValueError as error:
        raise Failure(str(error)) from None
    if as_json:
        print_json({"token": token, "organisation": name})
    else:
        click.echo(token)


@command.command("verify", short_help="Tell whose a token is, or why it is refused.")
@click.argument("token", required=False)
@config_option
@json_option
def verify_token(token: str | None, config_path: Path, as_json: bool) -> None:
    """Tell which organisation TOKEN belongs to, or why the gateway refuses it.

    Without TOKEN, or with `-`, it is read from standard input, so that it is not in the list of processes and not in
    the shell's history. Exits 1 if the token is refused.

    \b
    Examples:
      gateway token mint | gateway token verify
      gateway token verify --json < token.txt
    """
    from gateway.config.load import load_config
    from gateway.http.tokens import TokenChecker, TokenRefused

    config = load_config(config_path)
    try:
        accepted = TokenChecker(config.organisations).verify(_read(token))
    except TokenRefused as refused:
        if as_json:
            print_json({"valid": False, "reason": refused.reason})
        else:
            click.echo(f"refused: {refused.reason}", err=True)
        sys.exit(1)
    if as_json:
        print_json({"valid": True, "organisation": accepted.organisation, "claims": accepted.claims})
    else:
        click.echo(f"valid: {accepted.organisation}")
        for name, value in accepted.claims.items():
            click.echo(f"  {name}: {value}")


def _read(token: str | None) -> bytes:
    if token is not None and token != "-":  # noqa: S105 - the usual name of standard input
        return token.strip().encode(errors="surrogateescape")
    if token is None and sys.stdin.isatty():
        raise click.UsageError("give a token, or send one to standard input")
    return sys.stdin.buffer.read(_LONGEST).strip()
