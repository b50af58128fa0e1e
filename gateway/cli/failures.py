"""Errors of commands: one sentence and an exit code. A user sees no traceback."""

from __future__ import annotations

from ipaddress import ip_network
from typing import IO, TYPE_CHECKING, Any, Final

import click

from gateway.config.convert import ConfigError
from gateway.journal.interface import JournalError

if TYPE_CHECKING:
    from gateway.config.tables import ServerSettings

BAD_CONFIG: Final = 78


class Failure(click.ClickException):
    """The command failed; the message is a sentence for the operator."""

    def show(self, file: IO[Any] | None = None) -> None:
        click.echo(self.message, file=file, err=True)


class BadConfiguration(Failure):
    exit_code = BAD_CONFIG


def expected(error: Exception) -> Failure | None:
    """The failure for an error that commands raise on purpose; None for any other error."""
    if isinstance(error, ConfigError):
        return BadConfiguration(str(error))
    return Failure(str(error)) if isinstance(error, JournalError) else None


def unexpected(error: Exception) -> Failure:
    what = f"{type(error).__name__}: {' '.join(str(error).split())}".removesuffix(": ")
    return Failure(f"unexpected error: {what}\n`gateway --debug ...` shows where it happened.")


def hint_of_networks(server: ServerSettings) -> None:
    """Print which address `allowed_networks` lacks when the gateway refuses this machine."""
    from gateway.simulate import local_address

    address = local_address(server.host).strip("[]")
    if any(address in network for network in server.trusted_proxies):
        sentence = "is in trusted_proxies in [server], and its request names no caller; use another machine"
        click.echo(f"this machine ({address}) {sentence}", err=True)
        return
    try:
        network = str(ip_network(address))
    except ValueError:  # a host name
        network = "127.0.0.1/32"
    click.echo(f'allowed_networks in [server] lacks this machine; add "{network}" to it and restart', err=True)
