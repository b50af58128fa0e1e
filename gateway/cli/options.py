"""Options that several commands share."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

import click
from click.core import ParameterSource

from gateway.cli.output import on_terminal

if TYPE_CHECKING:
    from gateway.config.tables import Config

F = TypeVar("F", bound=Callable[..., Any])
_ON_A_TERMINAL: Final = 20


def _config_path(context: click.Context, parameter: click.Parameter, value: Path | None) -> Path:
    """The command's `-c`, else the one of its group, else $GATEWAY_CONFIG, else the default."""
    if value is None and context.parent is not None:
        value = context.parent.params.get("config_path")
    return value or Path(os.environ.get("GATEWAY_CONFIG") or "config.toml")


def config_is_named() -> bool:
    """Whether the user named the config file, by `-c` or the environment."""
    context: click.Context | None = click.get_current_context()
    while context is not None:
        if context.get_parameter_source("config_path") is ParameterSource.COMMANDLINE:
            return True
        context = context.parent
    return bool(os.environ.get("GATEWAY_CONFIG"))


def config_option(function: F) -> F:
    return click.option(
        "-c",
        "--config",
        "config_path",
        type=click.Path(path_type=Path, readable=False),  # reported with the config's other faults
        callback=_config_path,
        help="The config file.  [default: $GATEWAY_CONFIG, or config.toml]",
    )(function)


def json_option(function: F) -> F:
    return click.option("--json", "as_json", is_flag=True, help="Print JSON, for programs.")(function)


def organisation_option(function: F) -> F:
    text = "Whose secret signs the token. Required where the config has several organisations."
    return click.option("--organisation", metavar="NAME", help=text)(function)


def url_option(function: F) -> F:
    text = "The callback URL, such as your proxy's.  [default: the configured listener]"
    return click.option("--url", metavar="URL", callback=_http_url, help=text)(function)


def limit_option(function: F) -> F:
    text = f"The newest N only.  [default: {_ON_A_TERMINAL} on a terminal; all in a pipe and with --json]"
    return click.option("--limit", type=click.IntRange(min=1), metavar="N", callback=_limit, help=text)(function)


def _limit(context: click.Context, parameter: click.Parameter, value: int | None) -> int | None:
    as_json = context.params.get("as_json", False)
    return _ON_A_TERMINAL if value is None and on_terminal() and not as_json else value


def _http_url(context: click.Context, parameter: click.Parameter, value: str | None) -> str | None:
    if value is not None and not re.match(r"https?://[^/?#\s]", value, re.IGNORECASE):
        raise click.BadParameter(f"expected a URL such as http://127.0.0.1:8080/webio, found {value!r}")
    return value


def the_organisation(config: Config, name: str | None) -> str:
    """The organisation named `name`, or the only one of the config."""
    known = ", ".join(config.organisations)
    if name is None:
        if len(config.organisations) > 1:
            raise click.UsageError(f"the config has several organisations; name one with --organisation: {known}")
        return next(iter(config.organisations))
    if name not in config.organisations:
        raise click.BadParameter(f"unknown organisation {name!r}; known: {known}", param_hint="--organisation")
    return name


def named_values(context: click.Context, parameter: click.Parameter, values: tuple[str, ...]) -> list[tuple[str, Any]]:
    """`name=value` gives a string, `name:=value` a JSON value."""
    found = []
    for value in values:
        name, equals, text = value.partition("=")
        if not equals or not name.removesuffix(":"):
            raise click.BadParameter(f"expected name=string or name:=json, found {value!r}")
        if name.endswith(":"):
            try:
                found.append((name[:-1], json.loads(text)))
            except ValueError:
                raise click.BadParameter(f"{text!r} is not JSON; write {name[:-1]}={text} for a string") from None
        else:
            found.append((name, text))
    return found


def duration(context: click.Context, parameter: click.Parameter, value: str | None) -> float | None:
    from gateway.config.field_types import Duration

    if value is None:
        return None
    try:
        return Duration.from_config(value, Path())
    except ValueError as error:
        raise click.BadParameter(str(error)) from None
