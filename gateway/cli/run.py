"""`gateway run`."""

from __future__ import annotations

import os
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
    sys.stdout.flush()
    supervisor = Path(__file__).parents[1] / "serving" / "supervisor.py"
    # This process becomes the supervisor, with nothing of the gateway or of this command left in its memory.
    os.execv(sys.executable, [sys.executable, "-I", "-S", str(supervisor), str(config_path)])  # noqa: S606
