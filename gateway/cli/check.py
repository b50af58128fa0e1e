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
from gateway.text import counted

if TYPE_CHECKING:
    from gateway.config.convert import Problem


@click.command("check")
@click.option("--offline", is_flag=True, help="Check the config only, not databases, folders and ports.")
@click.option("--backup", type=click.Path(path_type=Path), metavar="FILE", help="Also check that FILE can be restored.")
@config_option
@json_option
def command(offline: bool, backup: Path | None, config_path: Path, as_json: bool) -> None:
    """Find every fault of the configuration at once, without changing anything.

    Three levels: the fields of the config file; what they name (plugins, hooks, providers); and the environment
    (databases answer, queries are valid, folders are writable, ports are free or the running gateway's). --offline
    leaves out the third. Exits 78 when there is an error, else 0, also with warnings.

    \b
    Examples:
      gateway check
      gateway check --offline -c new.toml     in a CI job
      gateway check --json | jq .errors
      gateway check --backup last-night.db
    """
    errors, warnings = examine(config_path, offline)
    if backup is not None:
        errors += _check_backup(backup)
    if as_json:
        print_json({"ok": not errors, "errors": errors, "warnings": warnings})
    else:
        rows = [(kind, p.path, p.message) for kind, found in (("error", errors), ("warning", warnings)) for p in found]
        print_table(("", "where", "what"), rows, wrapped=2)
        click.echo(f"{config_path}: {counted(len(errors), 'error')}, {counted(len(warnings), 'warning')}")
    sys.exit(BAD_CONFIG if errors else 0)


def _check_backup(file: Path) -> list[Problem]:
    from gateway.config.convert import Problem
    from gateway.journal import check_backup
    from gateway.journal.interface import JournalError

    try:
        check_backup(file)
    except JournalError as error:
        return [Problem("backup", str(error))]
    return []


def examine(config_path: Path, offline: bool) -> tuple[list[Problem], list[Problem]]:
    """The errors and the warnings of every level, without those that only follow from another fault."""
    from gateway.config.convert import ConfigError
    from gateway.preflight import examine_config

    try:
        config, plugins, values, fields, wiring, warnings = examine_config(config_path)
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
            asyncio.run(values.start())  # after the plugins' checks, in which some learn their fields
        warnings += values.warnings()
    return errors, warnings
