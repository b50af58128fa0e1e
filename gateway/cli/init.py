"""`gateway init`."""

from __future__ import annotations

import shlex
from pathlib import Path

import click

from gateway.cli.failures import Failure
from gateway.cli.options import config_option
from gateway.cli.sample import init


@click.command("init")
@click.argument("directory", required=False, type=click.Path(path_type=Path, file_okay=False))
@config_option
def command(directory: Path | None, config_path: Path) -> None:
    """Write the files of a first run: config.toml, a new secret and a small sample database.

    They are written into DIRECTORY, or beside the config file of `-c`, or into the current folder. Files that exist
    stay as they are.

    \b
    Examples:
      gateway init
      gateway init /etc/webio-gateway
    """
    config = directory / "config.toml" if directory else config_path
    try:
        made = init(config)
    except OSError as error:
        raise Failure(f"{error.filename or config}: {error.strerror}; nothing more was written") from None
    for file in made:
        click.echo(f"{'made' if file.new else 'kept'}  {file.path}")
    option = "" if config == Path("config.toml") else f" -c {shlex.quote(str(config))}"
    click.echo(f"\nNext: gateway check{option}   then: gateway run{option}")
