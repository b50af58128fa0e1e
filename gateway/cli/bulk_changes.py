"""What the commands that change deliveries share: they count first, ask on a terminal, and report what was done."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import click

from gateway.cli.failures import Failure
from gateway.cli.filters import require_known
from gateway.cli.output import print_json

if TYPE_CHECKING:
    from gateway.cli.operations import Change, Operations
    from gateway.journal.interface import Filter

F = TypeVar("F", bound=Callable[..., object])


def operations(config_path: Path, which: Filter) -> Operations:
    """The operations on the journal of a config, for a filter whose names the config or the journal knows."""
    from gateway.cli.operations import Operations
    from gateway.config.load import load_config

    config = load_config(config_path, secrets=False)
    require_known(config, which.organisation, which.plugin)
    return Operations(config, f"`{click.get_current_context().command_path}`")


def on_terminal() -> bool:
    return sys.stdin.isatty() and sys.stderr.isatty()


def change_options(function: F) -> F:
    """Adds --dry-run and --yes."""
    function = click.option("--yes", is_flag=True, help="Do not ask for confirmation on a terminal.")(function)
    return click.option("--dry-run", is_flag=True, help="Only count what would be changed.")(function)


def confirm(question: str, count: Callable[[], Change], yes: bool, *, ask_from: int = 2) -> None:
    """On a terminal, ask before `ask_from` or more are changed. `{n}` in the question is the number."""
    if yes or not on_terminal():
        return
    change = count()
    number = change.matched - change.left
    if number >= ask_from and not click.confirm(question.format(n=number), err=True):
        raise Failure("nothing was changed")


def report(change: Change, as_json: bool, dry_run: bool, noun: str, done: str, *, when: str = "") -> None:
    """Print how many matched and what happens to them. `noun` is what was counted, `done` what was done to them, and
    `when` says when that happens, if not before this."""
    left = f"; {change.left} not: their plugins are off" if change.left else ""
    if as_json:
        print_json({"matched": change.matched, "done": change.done})
    elif not change.matched:
        click.echo(f"no {noun} matches", err=True)
    elif dry_run:
        click.echo(f"{change.matched - change.left} would be {done}{left}")
    elif when:
        click.echo(f"{change.matched - change.left} of {change.matched} will be {done} {when}{left}")
    else:
        click.echo(f"{change.done} of {change.matched} {done}{left}")
