"""Options that several commands share, and how their values are read."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click
from click.core import ParameterSource

if TYPE_CHECKING:
    from gateway.config.tables import Config

F = TypeVar("F", bound=Callable[..., Any])


def _config_path(context: click.Context, parameter: click.Parameter, value: Path | None) -> Path:
    """The nearest `-c`: the command's, else that of the group it is in, else the environment's, else the default."""
    if value is not None:
        return value
    if context.parent is not None and "config_path" in context.parent.params:
        inherited: Path = context.parent.params["config_path"]
        return inherited
    return Path(os.environ.get("GATEWAY_CONFIG") or "config.toml")


def config_is_named() -> bool:
    """Whether the config file is one that was asked for, and not only the default."""
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
        type=click.Path(path_type=Path, readable=False),  # that it cannot be read is said with all its other faults
        callback=_config_path,
        help="The config file.  [default: $GATEWAY_CONFIG, or config.toml]",
    )(function)


def json_option(function: F) -> F:
    return click.option("--json", "as_json", is_flag=True, help="Print JSON, for programs.")(function)


def organisation_option(function: F) -> F:
    return click.option(
        "--organisation",
        metavar="NAME",
        help="Whose secret signs the token. Needed where the config has several organisations.",
    )(function)


def url_option(function: F) -> F:
    return click.option(
        "--url",
        metavar="URL",
        callback=_http_url,
        help="Another callback URL than the configured listener's, such as the proxy's.",
    )(function)


def _http_url(context: click.Context, parameter: click.Parameter, value: str | None) -> str | None:
    if value is not None and not re.match(r"https?://[^/?#\s]", value, re.IGNORECASE):
        raise click.BadParameter(f"{value!r} is no URL with http:// or https://, such as http://127.0.0.1:8080/webio")
    return value


def the_organisation(config: Config, name: str | None) -> str:
    """The organisation that is meant: the one named, or the only one there is."""
    known = ", ".join(config.organisations)
    if name is None:
        if len(config.organisations) > 1:
            raise click.UsageError(f"the config has several organisations, so name one with --organisation: {known}")
        return next(iter(config.organisations))
    if name not in config.organisations:
        raise click.BadParameter(f"the config has no organisation {name!r}, only: {known}", param_hint="--organisation")
    return name


def named_values(context: click.Context, parameter: click.Parameter, values: tuple[str, ...]) -> list[tuple[str, Any]]:
    """`name=value` is a text, `name:=value` a JSON value."""
    found = []
    for value in values:
        name, equals, text = value.partition("=")
        if not equals or not name.removesuffix(":"):
            raise click.BadParameter(f"{value!r} is not of the form name=text or name:=json")
        if name.endswith(":"):
            try:
                found.append((name[:-1], json.loads(text)))
            except ValueError:
                raise click.BadParameter(f"{text!r} is not JSON; write {name[:-1]}={text} for a text") from None
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
