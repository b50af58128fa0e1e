"""`gateway run`."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import click

from gateway.cli.options import config_option, json_option
from gateway.serving import supervisor
from gateway.serving.activation import given_sockets


@click.command("run")
@click.option("--no-copy", is_flag=True, help="Upgrade the journal of an older version without a copy of it.")
@config_option
@json_option
def command(no_copy: bool, config_path: Path, as_json: bool) -> None:
    """Serve until SIGTERM or Ctrl-C.

    Prints a line per listener once it accepts connections, with --json as {"listener", "url"}; the log goes to standard
    error. On a terminal it also prints a link that signs in to the dashboard once (see `gateway open`). On SIGTERM or
    Ctrl-C the gateway answers the requests that it has, brings the plugins to a checkpoint, and exits 0; a second
    signal ends it at once. A journal of an older version is upgraded first, after a copy of it beside the journal.
    Under systemd the gateway takes the sockets of a socket unit, and reports when it is ready.

    \b
    Examples:
      gateway run
      gateway run -c /etc/webio-gateway/config.toml
    """
    sys.stdout.flush()
    # This process becomes the supervisor, without the memory that the gateway's modules and this command take.
    options = supervisor.Options(copy=not no_copy, json=as_json)
    arguments = ["-I", "-S", supervisor.__file__, *options.arguments(), str(config_path)]
    arguments += map(str, given_sockets(os.environ))
    os.execv(sys.executable, [sys.executable, *arguments])  # noqa: S606
