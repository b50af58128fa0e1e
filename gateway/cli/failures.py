"""What went wrong, as one sentence and an exit code. A user never sees a traceback."""

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
    """A command failed for a reason that the operator is told."""

    def show(self, file: IO[Any] | None = None) -> None:
        click.echo(self.message, file=file, err=True)


class BadConfiguration(Failure):
    exit_code = BAD_CONFIG


def expected(error: Exception) -> Failure | None:
    """What an error that commands may raise means to their user; None for one that nobody expects."""
    if isinstance(error, ConfigError):
        return BadConfiguration(str(error))
    if isinstance(error, JournalError):
        return Failure(str(error))
    return None


def unexpected(error: Exception) -> Failure:
    text = " ".join(str(error).split())
    what = f"{type(error).__name__}: {text}" if text else type(error).__name__
    return Failure(f"unexpected error: {what}\n`gateway --debug ...` shows where it happened.")


def hint_of_networks(server: ServerSettings) -> None:
    """The gateway refused this machine's own address: say where that is set."""
    from gateway.simulate import local_address

    try:
        network = str(ip_network(local_address(server.host).strip("[]")))
    except ValueError:  # a name
        network = "127.0.0.1/32"
    click.echo(f'allowed_networks in [server] lacks this machine; add "{network}" to it and restart', err=True)
