"""`gateway log-level`."""

from __future__ import annotations

from pathlib import Path

import click

from gateway.cli.options import config_option, json_option
from gateway.cli.output import print_json


@click.command("log-level")
@click.argument("level", type=click.Choice(["debug", "info", "warning", "error"]))
@click.option("--for", "duration", metavar="DURATION", help="Back to the config's level after this time, such as 10m.")
@config_option
@json_option
def command(level: str, duration: str | None, config_path: Path, as_json: bool) -> None:
    """Change how much the running gateway logs, until a restart, a reload, or for a time.

    At level debug, tracebacks follow the lines about errors. They may hold personal data.

    \b
    Examples:
      gateway log-level debug --for 10m
      gateway log-level info
    """
    from gateway.cli.admin_client import request_running
    from gateway.config.field_types import Duration
    from gateway.config.load import load_config

    seconds = None
    if duration is not None:
        try:
            seconds = float(Duration.from_config(duration, Path()))
        except ValueError as error:
            raise click.BadParameter(str(error), param_hint="--for") from None
        if not 0 < seconds <= 86400:
            raise click.BadParameter("expected more than 0 s and at most 24h", param_hint="--for")
    answer = request_running(load_config(config_path), "POST", "/api/log-level", {"level": level, "seconds": seconds})
    if as_json:
        print_json(answer)
    else:
        click.echo(f"the log level is {level}{f' for {duration}' if duration else ''}")
