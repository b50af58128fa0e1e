"""`gateway reload`."""

from __future__ import annotations

import sys
from pathlib import Path

import click
import msgspec

from gateway.cli.failures import BAD_CONFIG
from gateway.cli.options import config_option, json_option
from gateway.cli.output import print_json


@click.command("reload")
@config_option
@json_option
def command(config_path: Path, as_json: bool) -> None:
    """Put a changed config file in force without a restart, and read the files of secrets again.

    Organisations, secrets, hooks, custom values, delivery and log settings change at once, without a refused request.
    What needs a restart is named. A file with a fault changes nothing. SIGHUP to `gateway run` does the same.

    \b
    Examples:
      gateway reload
      gateway reload --json | jq .needs_restart
    """
    from gateway.cli.admin_client import request_running
    from gateway.config.convert import ConfigError
    from gateway.config.load import load_config

    try:
        config = load_config(config_path)
    except ConfigError as error:
        if not as_json:
            raise
        print_json({"applied": False, "needs_restart": [], "errors": msgspec.to_builtins(error.problems)})
        sys.exit(BAD_CONFIG)
    answer = request_running(config, "POST", "/api/reload")
    if as_json:
        print_json(answer)
    elif answer["applied"]:
        click.echo(f"{config_path} is in force")
        for key in answer["needs_restart"]:
            click.echo(f"{key} needs a restart")
    else:
        for problem in answer["errors"]:
            click.echo(f"{config_path}: {problem['path']}: {problem['message']}", err=True)
        click.echo("nothing was changed", err=True)
    sys.exit(0 if answer["applied"] else BAD_CONFIG)
