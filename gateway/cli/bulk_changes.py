"""What the commands share that change deliveries: counting first, asking on a terminal, saying what was done."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import click

from gateway.cli.failures import Failure
from gateway.cli.filters import require_known
from gateway.cli.output import print_json

if TYPE_CHECKING:
    from gateway.cli.operations import Operations
    from gateway.http.admin import Counted
    from gateway.journal.interface import Filter

F = TypeVar("F", bound=Callable[..., object])


@contextmanager
def operations(config_path: Path, which: Filter) -> Iterator[Operations]:
    """What changes deliveries; what cannot be done is the command's failure."""
    from gateway.cli.operations import OperationError, Operations
    from gateway.config.load import load_config

    config = load_config(config_path, secrets=False)
    require_known(config, which.organisation, which.plugin)
    try:
        yield Operations(config, f"`{click.get_current_context().command_path}`")
    except OperationError as error:
        raise Failure(str(error)) from None


def on_terminal() -> bool:
    return sys.stdin.isatty() and sys.stderr.isatty()


def dry_run_option(function: F) -> F:
    return click.option("--dry-run", is_flag=True, help="Only count what would be done.")(function)


def yes_option(function: F) -> F:
    return click.option("--yes", is_flag=True, help="Do not ask first. In a pipe nobody is asked.")(function)


def confirm(question: str, count: Callable[[], Counted], yes: bool, *, ask_from: int = 2) -> None:
    """On a terminal, ask before `ask_from` or more are changed; `{n}` in the question is how many."""
    if yes or not on_terminal():
        return
    counted = count()
    number = counted.matched - counted.left
    if number >= ask_from and not click.confirm(question.format(n=number), err=True):
        raise Failure("nothing was changed")


def report(counted: Counted, as_json: bool, dry_run: bool, noun: str, done: str, *, soon: bool = False) -> None:
    """Say how many matched and how many were changed: `noun` is what matched, `done` what became of them, or will
    `soon`."""
    left = f"; {counted.left} left as they are: their plugins are off" if counted.left else ""
    if as_json:
        print_json({"matched": counted.matched, "done": counted.done})
    elif not counted.matched:
        click.echo(f"no {noun} matches", err=True)
    elif dry_run:
        click.echo(f"{counted.matched - counted.left} would be {done}{left}")
    else:
        click.echo(f"{counted.done} of {counted.matched} {'will be ' if soon else ''}{done}{left}")
