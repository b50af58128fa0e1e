"""Finds ids in a day's files, without reading the whole day each time and without keeping every id in memory.

The index has the lowest and the highest id of each stretch of a file. Ids grow with time, as do the lines of a day, so
an id can be in few stretches, and only those are read. Only the speed depends on that order.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from gateway_archive.lines import ids_in
from gateway_archive.reading import Lines, Unreadable, read_compressed, read_lines

_GRAIN = 256 * 1024
_COMPRESSED_GRAIN = 16 * 1024
_MOST = 1024


class Stretch(NamedTuple):
    """Whole lines at `start` up to `end` of a file (of the compressed file, if it is one)."""

    low: bytes
    high: bytes
    start: int
    end: int

    def __or__(self, other: Stretch) -> Stretch:
        return Stretch(min(self.low, other.low), max(self.high, other.high), self.start, other.end)


class SeenIds:
    """The ids in one file of `size` bytes, whose lines `read(start, end)` gives.

    Stretches are about `grain` bytes long, and longer in a large file, so that memory is bounded. Ids in a damaged part
    of a file are not found; `damage` is its error."""

    def __init__(self, read: Callable[[int, int], Iterator[Lines]], size: int, grain: int) -> None:
        self._read = read
        self._grain = grain
        self._stretches: list[Stretch] = []
        self.damage: Unreadable | None = None
        try:
            for lines in read(0, size):
                self.add(ids_in(lines.text), lines.start, lines.end)
        except Unreadable as damage:
            self.damage = damage

    def add(self, ids: list[bytes], start: int, end: int) -> None:
        """Add the ids of lines that follow those in the index."""
        if not ids:
            return
        stretch = Stretch(min(ids), max(ids), start, end)
        last = self._stretches[-1] if self._stretches else None
        if last is not None and (last.start == start or end - last.start <= self._grain):
            self._stretches[-1] = last | stretch
            return
        self._stretches.append(stretch)
        if len(self._stretches) > _MOST:
            halves = zip(self._stretches[::2], self._stretches[1::2], strict=False)
            rest = self._stretches[-1:] if len(self._stretches) % 2 else []
            self._stretches = [one | other for one, other in halves] + rest
            self._grain *= 2

    def among(self, ids: Iterable[bytes]) -> set[bytes]:
        """Those of `ids` that are in the file."""
        wanted = sorted(ids)
        found: set[bytes] = set()
        for stretch in self._stretches:
            first, last = bisect_left(wanted, stretch.low), bisect_right(wanted, stretch.high)
            if first < last:
                possible = set(wanted[first:last])
                with suppress(Unreadable):
                    for lines in self._read(stretch.start, stretch.end):
                        found |= possible.intersection(ids_in(lines.text))
        return found


def seen_in_lines(path: Path, size: int) -> SeenIds:
    """The ids in the first `size` bytes of a `.jsonl`."""
    return SeenIds(lambda start, end: read_lines(path, start, end), size, _GRAIN)


def seen_in_compressed(path: Path) -> SeenIds:
    """The ids in a `.jsonl.zst`."""
    return SeenIds(lambda start, end: read_compressed(path, start, end), path.stat().st_size, _COMPRESSED_GRAIN)
