"""Writes a file of the archive anew without the lines of a selector. A crash leaves the file as it was, or done.

The new file is written beside the old one while events are still appended to that, and takes its place when it has
those, too. `.jsonl` files become `.jsonl.tmp` meanwhile, compressed ones `.jsonl.zst.tmp`.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import BinaryIO

import zstandard

from gateway_archive.compression import FRAME, LEVEL
from gateway_archive.durable import create_file, sync_file, sync_folder
from gateway_archive.lines import organisation_and_body
from gateway_archive.reading import Lines, read_compressed, read_lines

Matches = Callable[[str, bytes], bool]
"""Whether an organisation's body is to be erased."""


def temporary(path: Path) -> Path:
    """Where a file is written anew."""
    return path.with_name(f"{path.name}.tmp")


def without(text: bytes, matches: Matches) -> tuple[bytes, int]:
    """Whole lines without those that match, and how many did. What is not a line of the archive stays."""
    kept = [line for line in text.splitlines(keepends=True) if not _is_theirs(line, matches)]
    return b"".join(kept), text.count(b"\n") - sum(line.endswith(b"\n") for line in kept)


def _is_theirs(line: bytes, matches: Matches) -> bool:
    found = organisation_and_body(line)
    return found is not None and matches(*found)


class Rewriting:
    """One file that is being written anew. Call `add` for its parts in order, then `finish`, or `discard`."""

    def __init__(self, path: Path, matches: Matches, *, compress: bool = False) -> None:
        self.erased = 0
        self._path = path
        self._matches = matches
        self._compressor = zstandard.ZstdCompressor(level=LEVEL, write_checksum=True) if compress else None
        self._kept = 0
        temporary(path).unlink(missing_ok=True)
        self._file: BinaryIO = os.fdopen(create_file(temporary(path)), "wb")

    def add(self, parts: Iterable[Lines]) -> None:
        """Write those lines that stay."""
        waiting = b""
        for lines in parts:
            kept, erased = without(lines.text, self._matches)
            self.erased += erased
            waiting += kept
            if len(waiting) >= FRAME:
                self._write(waiting)
                waiting = b""
        self._write(waiting)

    def _write(self, text: bytes) -> None:
        if text:
            self._kept += len(text)
            self._file.write(text if self._compressor is None else self._compressor.compress(text))

    def finish(self) -> None:
        """Put the new file in the place of the old one, durably; where no line is left, there is no file then."""
        if not self.erased:
            self.discard()
            return
        self._file.flush()
        sync_file(self._file.fileno())
        self._file.close()
        if self._kept:
            temporary(self._path).replace(self._path)
        else:
            self._path.unlink()
            temporary(self._path).unlink()
        sync_folder(self._path.parent)

    def discard(self) -> None:
        """Leave the file as it is."""
        self._file.close()
        temporary(self._path).unlink(missing_ok=True)


def rewrite_compressed(path: Path, matches: Matches) -> int:
    """Write a `.jsonl.zst` anew; returns how many lines were erased. `OSError`, or `Unreadable`."""
    return _rewrite(path, read_compressed, Rewriting(path, matches, compress=True))


def rewrite_lines(path: Path, matches: Matches) -> int:
    """Write a file of lines anew that nothing is appended to; returns how many lines were erased. `OSError`."""
    return _rewrite(path, read_lines, Rewriting(path, matches))


def _rewrite(path: Path, read: Callable[[Path, int, int], Iterable[Lines]], rewriting: Rewriting) -> int:
    try:
        rewriting.add(read(path, 0, path.stat().st_size))
        rewriting.finish()
    except BaseException:
        rewriting.discard()
        raise
    return rewriting.erased
