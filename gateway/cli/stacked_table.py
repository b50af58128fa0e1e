"""Tables with two lines per row, for terminals that are too narrow for one line."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from rich.cells import cell_len
from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

WHOLE: Final = frozenset({"id"})
"""Columns that are never folded or shortened, because users copy their cells."""
_READABLE: Final = 20
_LEAST: Final = 6
_LONGEST_WORD: Final = 40
"""Words of at most this many characters are not broken where there is room."""
_GAP: Final = 2
_FRAMED_GAP: Final = 3


def fits(width: int, columns: Sequence[str], rows: Sequence[Sequence[Text]], unwrapped: int) -> bool:
    """Whether a table fits with a line per row. Only the columns after the first `unwrapped` ones may fold."""
    widths = _widths(columns, rows)
    words = [_longest_word(cells) for cells in zip(*rows, strict=True)]
    needed = [
        wide if index < unwrapped or name in WHOLE else min(wide, max(_READABLE, word))
        for index, (name, wide, word) in enumerate(zip(columns, widths, words, strict=True))
    ]
    return sum(needed) + _FRAMED_GAP * (len(columns) - 1) <= width


def print_stacked(console: Console, columns: Sequence[str], rows: Sequence[Sequence[Text]], unwrapped: int) -> None:
    """Print each row's `unwrapped` cells on a line, shortened to fit, and the others below, indented and folded."""
    widths = _widths(columns, rows)
    above, below = slice(None, unwrapped), slice(unwrapped, None)
    first = _shrunk(columns[above], widths[above], console.width)
    second = _shrunk(columns[below], widths[below], console.width - _GAP)
    header = [Text(name, style="bold") for name in columns]
    for cells in (header, *rows):
        console.print(_line(cells[above], first, fold=False))
        console.print(Padding(_line(cells[below], second, fold=True), (0, 0, 0, _GAP), expand=False))
        if cells is header:
            console.rule(characters="─", style="")


def _widths(columns: Sequence[str], rows: Iterable[Sequence[Text]]) -> list[int]:
    return [max(cell_len(name), *map(_cell_width, cells)) for name, *cells in zip(columns, *rows, strict=True)]


def _cell_width(cell: str | Text) -> int:
    return cell_len(cell if isinstance(cell, str) else cell.plain)


def _longest_word(cells: Iterable[str | Text]) -> int:
    words = (cell_len(word) for cell in cells for word in str(cell).split())
    return max((word for word in words if word <= _LONGEST_WORD), default=0)


def _shrunk(columns: Sequence[str], widths: Sequence[int], room: int) -> list[int]:
    """The widths reduced to the room there is, the widest first."""
    shrunk = list(widths)
    room -= _GAP * (len(shrunk) - 1)
    giving = [index for index, name in enumerate(columns) if name not in WHOLE]
    while sum(shrunk) > room and giving:
        widest = max(giving, key=shrunk.__getitem__)
        if shrunk[widest] <= _LEAST:
            break
        shrunk[widest] -= 1
    return shrunk


def _line(cells: Sequence[Text], widths: Sequence[int], *, fold: bool) -> Table:
    line = Table.grid(padding=(0, _GAP, 0, 0))
    for width in widths:
        line.add_column(width=width, no_wrap=not fold, overflow="fold" if fold else "ellipsis")
    line.add_row(*cells)
    return line
