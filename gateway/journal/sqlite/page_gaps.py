"""Overwrites what the pages of a database do not use, so that no copy of a deleted row is left in them.

With `secure_delete`, SQLite overwrites what it deletes, and whole pages that it frees. But when it moves rows between
the pages of a tree, it leaves copies of them in the gap between a page's list of cells and its first cell. There is no
statement that clears the gaps of a large database without writing it anew, so they are cleared here, in the file.

That is safe at any time: only bytes change that SQLite does not read, and a page that is torn by a loss of power has
all of its rows. The caller sees to it that no other process or thread writes, and that the file has all commits.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import apsw

from gateway.journal.sqlite.wal_file import HEADER

MOST_PAGES: Final = 2**25
"""In a database with fewer pages, the first byte tells a page of a tree from one that continues a long row: that begins
with the number of the next page."""
_NOTHING: Final = bytes(65536)
_INTERIOR: Final = (2, 5)
_LEAF: Final = (10, 13)
_PAGE: Final = struct.Struct(">BHHH")
"""Of a page of a tree: its kind, the place of its first free block, its number of cells, the place of its first cell.
The places of the cells follow after 8 bytes, or 12 in an interior page."""
_BLOCK: Final = struct.Struct(">HH")
"""Of a free block: the place of the next one, and the length of this one with these 4 bytes."""


class GapWiper:
    """The file of one database, opened beside a connection to clear its gaps."""

    def __init__(self, connection: apsw.Connection, path: Path) -> None:
        # Through SQLite: where a process closes a file by itself, the locks of its connections on the file are gone.
        flags = [apsw.SQLITE_OPEN_MAIN_DB | apsw.SQLITE_OPEN_READWRITE, 0]
        self._file = apsw.VFSFile(connection.open_vfs, str(path.absolute()), flags)
        self._size = int(connection.pragma("page_size"))

    def close(self) -> None:
        self._file.xClose()

    def pages(self) -> int:
        """How many pages the file has."""
        return int(self._file.xFileSize()) // self._size

    def wipe(self, first: int, count: int) -> bool:
        """Clear the gaps of `count` pages, of which the first has the number `first`, from 1 on. Returns whether
        anything was changed; connections may have the pages as they were in their caches."""
        changed = False
        start = (first - 1) * self._size
        data = self._file.xRead(count * self._size, start)
        for offset in range(0, len(data), self._size):
            for begin, end in _unused(data, offset, self._size, HEADER if start + offset == 0 else 0):
                if not _NOTHING.startswith(data[begin:end]):
                    self._file.xWrite(bytes(end - begin), start + begin)
                    changed = True
        return changed

    def sync(self) -> None:
        """Make it durable."""
        self._file.xSync(apsw.SQLITE_SYNC_NORMAL)


@contextmanager
def gap_wiper(connection: apsw.Connection, path: Path) -> Iterator[GapWiper]:
    """A `GapWiper`, closed at the end."""
    wiper = GapWiper(connection, path)
    try:
        yield wiper
    finally:
        wiper.close()


def _unused(data: bytes, page: int, size: int, header: int) -> Iterator[tuple[int, int]]:
    """The ranges of bytes that a page at this offset does not use; none for a page that is not of a tree, or is
    damaged."""
    kind, block, cells, first = _PAGE.unpack_from(data, page + header)
    if kind not in _INTERIOR and kind not in _LEAF:
        return
    end = header + (12 if kind in _INTERIOR else 8) + 2 * cells
    first = first or 65536
    if not end <= first <= size:
        return
    yield page + end, page + first
    last = 0
    while last < block <= size - _BLOCK.size:
        after, length = _BLOCK.unpack_from(data, page + block)
        if not _BLOCK.size <= length <= size - block:
            return
        yield page + block + _BLOCK.size, page + block + length
        last, block = block, after
