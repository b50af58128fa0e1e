"""What commands print: JSON for programs, tables and colours on a terminal, plain aligned text in a pipe."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from itertools import chain, islice
from typing import TYPE_CHECKING, Any, Final, TypeVar

import click
import msgspec

from gateway.text import counted, printable

if TYPE_CHECKING:
    from gateway.journal.search import Search

T = TypeVar("T")

MANY: Final = 100_000
"""Events that a search reads one by one without a word about it."""
_WIDEST: Final = 60
_MEASURED: Final = 200  # rows that decide the widths of the columns of a plain table


def on_terminal() -> bool:
    return sys.stdout.isatty()


def coloured(text: str, colour: str) -> str:
    """Text in a colour, on a terminal and without NO_COLOR."""
    return click.style(text, fg=colour) if on_terminal() and not os.environ.get("NO_COLOR") else text


_ACTIVE: Final = re.compile("[\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]")
"""Characters that JSON may contain unescaped, and that control a terminal or reorder the text on it."""


def print_json(document: Any, *, flush: bool = False) -> None:
    """Print a JSON document on one line. On a terminal, characters that control it are escaped."""
    line = msgspec.json.encode(document)
    if on_terminal():
        line = _ACTIVE.sub(lambda match: f"\\u{ord(match[0]):04x}", line.decode()).encode()
    sys.stdout.buffer.write(line + b"\n")
    if flush:
        sys.stdout.buffer.flush()


def print_rows(
    rows: Iterable[T],
    as_json: bool,
    columns: Sequence[str],
    cells: Callable[[T], Sequence[str]],
    *,
    wrapped: int = 1,
    nothing: str,
) -> None:
    """Rows as JSON Lines, or as a table of their cells; `nothing` is the sentence for a table without a row."""
    if as_json:
        for row in rows:
            print_json(row)
    elif not print_table(columns, map(cells, rows), wrapped=wrapped):
        click.echo(nothing, err=True)


def print_table(columns: Sequence[str], rows: Iterable[Sequence[str]], *, wrapped: int = 1) -> int:
    """Print a table with a header, if it has a row; returns the number of rows. The last `wrapped` columns may wrap on
    a terminal, or get their own line where it is narrow. Long cells of the other columns are shortened."""
    unwrapped = len(columns) - wrapped
    rows = ([*map(_shortened, row[:unwrapped]), *row[unwrapped:]] for row in rows)
    first = list(islice(rows, _MEASURED))
    if not first:
        return 0
    if on_terminal():
        everything = [*first, *rows]
        _rich_table(columns, everything, unwrapped)
        return len(everything)
    widths = [max(map(len, column)) for column in zip(columns, *first, strict=True)]
    count = -1
    for row in chain([columns], first, rows):
        cells = [printable(cell).ljust(width) for cell, width in zip(row, widths, strict=True)]
        click.echo("  ".join(cells).rstrip())
        count += 1
    return count


def _shortened(cell: str) -> str:
    return cell if len(cell) <= _WIDEST else f"{cell[: _WIDEST - 1]}…"


def report_search(reader: Search) -> None:
    """Say on standard error what a listing left out, and how far the search index is where it lacks many."""
    if reader.unindexed > MANY:
        what = f"{reader.unindexed:,} events are not in the search index yet and were read one by one"
        click.echo(f"{what}; a running gateway indexes them", err=True)
    if reader.damaged:
        places = ", ".join(map(str, reader.damaged[:10]))
        what = f"{counted(len(reader.damaged), 'damaged event')} left out, at position {places}"
        click.echo(f"{what}; run `gateway journal check`", err=True)
    if reader.damaged_records:
        what = f"{counted(reader.damaged_records, 'damaged record')} left out"
        click.echo(f"{what}; run `gateway journal check`", err=True)


def show_time(moment: datetime) -> str:
    """A time in UTC, to the second."""
    return moment.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S")


def size(number: int) -> str:
    """A number of bytes as it is shown."""
    return f"{number / 2**20:,.1f} MiB"


@contextmanager
def progress(what: str) -> Iterator[Callable[[int, int], None] | None]:
    """A function that shows the progress of long work (done, total) on a terminal; elsewhere None."""
    if not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(what, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


def _rich_table(columns: Sequence[str], rows: Iterable[Sequence[str]], unwrapped: int) -> None:
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from gateway.cli.stacked_table import WHOLE, fits, print_stacked

    console = Console()
    cells = [[Text(printable(cell), style=_STYLES.get(cell.partition(" ")[0], "")) for cell in row] for row in rows]
    if not fits(console.width, columns, cells, unwrapped):
        print_stacked(console, columns, cells, unwrapped)
        return
    table = Table(box=SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for index, column in enumerate(columns):
        table.add_column(column, overflow="fold", no_wrap=index < unwrapped or column in WHOLE)
    for row in cells:
        table.add_row(*row)
    console.print(table)


_STYLES = {
    "200": "green",
    "delivered": "green",
    "enabled": "green",
    "waiting": "yellow",
    "retrying": "yellow",
    "dead": "bold red",
    "warning": "yellow",
    "error": "bold red",
}
