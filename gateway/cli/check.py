"""`gateway check`."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from gateway.cli.failures import BAD_CONFIG
from gateway.cli.options import config_option, json_option
from gateway.cli.output import print_json, print_table

if TYPE_CHECKING:
    from gateway.config.convert import Problem


@click.command("check")
@click.option("--offline", is_flag=True, help="Look at the config only, not at databases, folders and ports.")
@config_option
@json_option
def command(offline: bool, config_path: Path, as_json: bool) -> None:
    """Find every fault of the configuration at once. Changes nothing.

    Three levels: the fields of the config file; the wiring (plugins, their settings and hooks); and the environment
    (databases reached, queries prepared, folders writable, ports free or the running gateway's own). --offline
    leaves out the third. Exits 0, or 78 when there is a fault; warnings alone are no fault.

    \b
    Examples:
      gateway check
      gateway check --offline -c new.toml     in a CI job
      gateway check --json | jq .errors
    """
    errors, warnings = examine(config_path, offline)
    if as_json:
        print_json({"ok": not errors, "errors": errors, "warnings": warnings})
    else:
        rows = [("error", problem) for problem in errors] + [("warning", problem) for problem in warnings]
        cells = [(kind, problem.path, problem.message) for kind, problem in rows]
        print_table(("", "where", "what"), cells, wrapped=2)
        click.echo(f"{config_path}: {_counted(len(errors), 'error')}, {_counted(len(warnings), 'warning')}")
    sys.exit(BAD_CONFIG if errors else 0)


def examine(config_path: Path, offline: bool) -> tuple[list[Problem], list[Problem]]:
    """The errors and the warnings of every level. What could only follow from a fault already found is not told."""
    from gateway.config.convert import ConfigError
    from gateway.preflight import wire

    try:
        config, plugins, values, fields, wiring, warnings = wire(config_path)
    except ConfigError as error:
        return error.problems, []
    errors = fields + wiring
    if not offline:
        from gateway.cli import check_environment

        unsound = {problem.path.partition(".")[0] for problem in fields}
        for problem, only_warning in check_environment.examine(config, plugins, unsound):
            (warnings if only_warning else errors).append(problem)
    if values is not None:
        if not errors:
            asyncio.run(values.start())  # after the plugins' own look: some know their fields then
        warnings += values.warnings()
    return errors, warnings


def _counted(number: int, noun: str) -> str:
    return f"{number or 'no'} {noun}{'' if number == 1 else 's'}"
