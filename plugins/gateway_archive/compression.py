"""Compresses past days to `.jsonl.zst`. A crash at any moment neither loses nor doubles an event.

The compressed file is written as `.zst.tmp`. The file `.zst.ready` marks it as complete, checked and durable; without
that mark it is thrown away. With the mark it replaces the `.jsonl` and the earlier `.zst`: `settle` moves it into their
place, and can be repeated after a crash. Every event is in the `.jsonl` or in the `.zst` at any time.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from pathlib import Path

import zstandard

from gateway_archive.durable import create_file, sync_file, sync_folder
from gateway_archive.lines import ids_in
from gateway_archive.reading import Unreadable, read_compressed, read_lines
from gateway_archive.seen import seen_in_compressed

_DAY = re.compile(r"\d{4}-\d\d-\d\d\.jsonl")
_SETTLING_TIME = timedelta(minutes=10)
FRAME = 1024 * 1024  # bytes of lines in a frame; a look-up of an id reads single frames
LEVEL = 3


class Stopped(Exception):
    """The compression was asked to stop before it was complete."""


def compressed(path: Path) -> Path:
    """The compressed file of a `.jsonl`."""
    return path.with_name(f"{path.name}.zst")


def _unfinished(path: Path) -> Path:
    return path.with_name(f"{path.name}.zst.tmp")


def _ready(path: Path) -> Path:
    return path.with_name(f"{path.name}.zst.ready")


def finished_days(root: Path, now: datetime) -> list[Path]:
    """The `.jsonl` files of days that ended at least 10 minutes before `now` (UTC), oldest first."""
    today = f"{(now - _SETTLING_TIME).date().isoformat()}.jsonl"
    days = (path for path in root.glob("*/*/*.jsonl") if _DAY.fullmatch(path.name) and path.name < today)
    return sorted(days, key=lambda path: path.name)


def write_compressed(path: Path, size: int, stop: Callable[[], bool]) -> None:
    """Write the `.zst.tmp` of a day: the content of its `.zst`, then those lines in the first `size` bytes of its
    `.jsonl` that are not in it. When this returns, the file is durable and was read back; it raises `Stopped`,
    `OSError` or `Unreadable` otherwise."""
    target, new = compressed(path), _unfinished(path)
    new.unlink(missing_ok=True)
    expected, found = hashlib.blake2b(), hashlib.blake2b()
    try:
        with os.fdopen(create_file(new), "wb") as out:
            if target.exists():
                with target.open("rb") as old:
                    while data := old.read(FRAME):
                        out.write(data)
                        _unless(stop)
                for lines in read_compressed(target, 0, target.stat().st_size):
                    expected.update(lines.text)
                    _unless(stop)
            compressor = zstandard.ZstdCompressor(level=LEVEL, write_checksum=True)
            for text in _lines_to_add(path, size, target):
                _unless(stop)
                expected.update(text)
                out.write(compressor.compress(text))
            out.flush()
            sync_file(out.fileno())
        for lines in read_compressed(new, 0, new.stat().st_size):
            found.update(lines.text)
            _unless(stop)
        if found.digest() != expected.digest():
            raise Unreadable(f"{new} does not read back as it was written")
    except BaseException:
        new.unlink(missing_ok=True)
        raise


def _unless(stop: Callable[[], bool]) -> None:
    if stop():
        raise Stopped


def _lines_to_add(path: Path, size: int, target: Path) -> Iterator[bytes]:
    seen = seen_in_compressed(target) if target.exists() else None
    for lines in read_lines(path, 0, size, FRAME):
        text = lines.text
        if seen is not None and (known := seen.among(ids_in(text))):
            text = b"".join(line for line in text.splitlines(keepends=True) if known.isdisjoint(ids_in(line)))
        if text:
            yield text


def replace(path: Path) -> None:
    """Replace the `.jsonl` and `.zst` of a day by its `.zst.tmp`."""
    sync_folder(path.parent)
    os.close(create_file(_ready(path)))
    sync_folder(path.parent)
    settle(path)


def settle(path: Path) -> None:
    """Complete a replacement that was interrupted, if there is one."""
    ready, new = _ready(path), _unfinished(path)
    if not ready.exists():
        return
    if new.exists():
        new.replace(compressed(path))
        sync_folder(path.parent)
    if compressed(path).exists():
        path.unlink(missing_ok=True)
        sync_folder(path.parent)
    ready.unlink()
    sync_folder(path.parent)  # without this a loss of power could bring the mark back, and remove a later `.jsonl`


def discard(path: Path) -> None:
    """Delete the `.zst.tmp` of a day."""
    _unfinished(path).unlink(missing_ok=True)


def settle_all(root: Path) -> None:
    """Complete the replacements that were marked as ready, and delete other temporary files."""
    for left_over in list(root.glob("*/*/*.jsonl.zst.ready")):
        settle(left_over.with_name(left_over.name.removesuffix(".zst.ready")))
    for name in ("*/*/*.jsonl.zst.tmp", "*/*/*.jsonl.tmp", "*/*/*.jsonl.damaged.tmp"):
        for left_over in list(root.glob(name)):
            left_over.unlink()
