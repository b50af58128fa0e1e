"""`gateway run`."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from gateway.cli.options import config_option


@click.command("run")
@config_option
def command(config_path: Path) -> None:
    """Serve until SIGTERM or Ctrl-C.

    One line per listener is printed once it accepts connections; the log goes to standard error. On SIGTERM or Ctrl-C
    the gateway answers what it has, brings the plugins to a checkpoint, and exits 0; a second signal ends it at once.

    \b
    Examples:
      gateway run
      gateway run -c /etc/webio-gateway/config.toml
    """
    from gateway.cli.wiring import sound_config
    from gateway.serving.server import serve

    sys.exit(serve(sound_config(config_path)))
