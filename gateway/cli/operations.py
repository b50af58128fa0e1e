"""`gateway operations`."""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import msgspec

from gateway.cli.options import config_option, json_option, limit_option
from gateway.cli.output import print_json, print_rows, show_time
from gateway.text import counted

if TYPE_CHECKING:
    from gateway.cli.changes import Operations
    from gateway.journal.operator import StoredOperation


class OperationLine(msgspec.Struct, kw_only=True):
    """A line of `gateway operations`."""

    number: int
    kind: str
    state: str
    filter: dict[str, Any]
    matched: int
    done: int
    left: int
    begun_at: datetime
    ended_at: datetime | None
    error: str | None

    @classmethod
    def of(cls, kept: StoredOperation) -> OperationLine:
        """What is shown of an operation; the filter with the conditions that it has."""
        given = msgspec.to_builtins(kept.filter)
        return cls(
            number=kept.number,
            kind=kept.kind,
            state=kept.state,
            filter={name: value for name, value in given.items() if value not in (None, [], ())},
            matched=kept.matched,
            done=kept.done,
            left=kept.left,
            begun_at=datetime.fromtimestamp(kept.begun_at, UTC),
            ended_at=None if kept.ended_at is None else datetime.fromtimestamp(kept.ended_at, UTC),
            error=kept.error,
        )


@click.group("operations", invoke_without_command=True)
@limit_option
@config_option
@json_option
@click.pass_context
def command(context: click.Context, limit: int | None, config_path: Path, as_json: bool) -> None:
    """List retries and discards of dead letters, replays and erasures, the newest first: how many matched, how many are
    done, and how many events their plugin has still to get.

    The journal keeps an operation from its begin on: one that is interrupted goes on with the next start.

    \b
    Examples:
      gateway operations
      gateway operations cancel 12
    """
    if context.invoked_subcommand is not None:
        return
    found = _operations(config_path).listed(limit or sys.maxsize)
    columns = ("number", "kind", "state", "done", "of", "left", "begun (UTC)", "filter")
    print_rows(map(OperationLine.of, found), as_json, columns, _cells, wrapped=1, nothing="there are no operations")


@command.command("cancel", short_help="Cancel an operation.")
@click.argument("number", type=click.IntRange(1, 2**63 - 1))
@config_option
@json_option
def cancel(number: int, config_path: Path, as_json: bool) -> None:
    """Cancel an operation: no further dead letter is retried or discarded, no further event replayed.

    A retry has the events back that its plugin has not got yet: they are dead letters again. What was done stays done.
    An erasure that has begun goes on to its end.

    \b
    Examples:
      gateway operations cancel 12
    """
    found = _operations(config_path).cancel(number)
    if as_json:
        print_json(OperationLine.of(found))
    else:
        click.echo(f"operation {number} ({found.kind}) is {found.state}: {found.done} of {found.matched} done")


def _operations(config_path: Path) -> Operations:
    from gateway.cli.operating import operations_of
    from gateway.config.load import load_config

    return operations_of(load_config(config_path))


def _cells(line: OperationLine) -> tuple[str, ...]:
    which = ", ".join(
        f"{name} {counted(len(value), name.removesuffix('s')) if isinstance(value, list) else value}"
        for name, value in line.filter.items()
    )
    told = f"{which or 'everything'}; {line.error}" if line.error else which or "everything"
    return (
        *(str(line.number), line.kind, line.state, str(line.done), str(line.matched), str(line.left)),
        *(show_time(line.begun_at), told),
    )
