"""The options that name a database in place of the config's: its URL, its password, and how it is verified."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click
import msgspec

if TYPE_CHECKING:
    from collections.abc import Callable

    from gateway.config.tables import Config

F = TypeVar("F", bound="Callable[..., Any]")


def database_options(function: F) -> F:
    """Adds --password-file and --ca."""
    file = click.Path(path_type=Path, dir_okay=False, exists=True)
    password = "The password of the database's user.  [default: as libpq finds it, such as PGPASSFILE]"  # noqa: S105
    function = click.option("--password-file", metavar="FILE", type=file, help=password)(function)
    ca = "The certificates that sign the database's, as PEM.  [default: those of this machine]"
    return click.option("--ca", metavar="FILE", type=file, help=ca)(function)


def with_database(config: Config, option: str, url: str, password_file: Path | None, ca: Path | None) -> Config:
    """The config with this database as its journal. `BadParameter` of the option for a URL that is none."""
    from gateway.config.database_url import DatabaseUrl
    from gateway.config.field_types import Secret

    try:
        address = DatabaseUrl.from_config(url, Path())
        password = None if password_file is None else Secret.from_config({"file": str(password_file)}, Path())
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint=option) from None
    journal = msgspec.structs.replace(config.journal, url=address, password=password, ca=ca)
    return msgspec.structs.replace(config, journal=journal)
