"""Days that are over become `.jsonl.zst`, with no moment in which a crash could lose or double an event.

The compressed file is written as `.zst.tmp`, and worth nothing until `.zst.ready` says that it is complete, checked
and durable. From then on it stands for the `.jsonl` and the `.zst` before it; `settle` puts it in their place, as
often as it takes. At no time is an event in neither `.jsonl` nor `.zst`.
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
_FRAME = 1024 * 1024  # frames are read one by one when an id is looked for
_LEVEL = 3


class Stopped(Exception):
    """Asked to stop before it was done."""


def compressed(path: Path) -> Path:
    """The compressed file of a `.jsonl`."""
    return path.with_name(f"{path.name}.zst")


def _unfinished(path: Path) -> Path:
    return path.with_name(f"{path.name}.zst.tmp")


def _ready(path: Path) -> Path:
    return path.with_name(f"{path.name}.zst.ready")


def finished_days(root: Path, now: datetime) -> list[Path]:
    """The `.jsonl` files of days that ended a while before `now` (UTC), oldest first."""
    today = f"{(now - _SETTLING_TIME).date().isoformat()}.jsonl"
    days = (path for path in root.glob("*/*/*.jsonl") if _DAY.fullmatch(path.name) and path.name < today)
    return sorted(days, key=lambda path: path.name)


def write_compressed(path: Path, size: int, stop: Callable[[], bool]) -> None:
    """Write the `.zst.tmp` of a day: what its `.zst` holds already, then those of its first `size` bytes of lines that
    are not in it. Durable and read back when this returns; `Stopped`, `OSError` or `Unreadable` otherwise."""
    target, new = compressed(path), _unfinished(path)
    new.unlink(missing_ok=True)
    expected, found = hashlib.blake2b(), hashlib.blake2b()
    try:
        with os.fdopen(create_file(new), "wb") as out:
            if target.exists():
                with target.open("rb") as old:
                    while data := old.read(_FRAME):
                        out.write(data)
                        _unless(stop)
                for lines in read_compressed(target, 0, target.stat().st_size):
                    expected.update(lines.text)
                    _unless(stop)
            compressor = zstandard.ZstdCompressor(level=_LEVEL, write_checksum=True)
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
    for lines in read_lines(path, 0, size, _FRAME):
        text = lines.text
        if seen is not None and (known := seen.among(ids_in(text))):
            text = b"".join(line for line in text.splitlines(keepends=True) if known.isdisjoint(ids_in(line)))
        if text:
            yield text


def replace(path: Path) -> None:
    """Put the `.zst.tmp` of a day in the place of its `.jsonl` and `.zst`."""
    sync_folder(path.parent)
    os.close(create_file(_ready(path)))
    sync_folder(path.parent)
    settle(path)


def settle(path: Path) -> None:
    """Finish a replacement that got stuck half-way, if there is one."""
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
    sync_folder(path.parent)  # or the mark might come back, and take a later `.jsonl` with it


def discard(path: Path) -> None:
    """Throw the `.zst.tmp` of a day away."""
    _unfinished(path).unlink(missing_ok=True)


def settle_all(root: Path) -> None:
    """Finish what was as good as done, and throw away what was not."""
    for left_over in list(root.glob("*/*/*.jsonl.zst.ready")):
        settle(left_over.with_name(left_over.name.removesuffix(".zst.ready")))
    for left_over in list(root.glob("*/*/*.jsonl.zst.tmp")):
        left_over.unlink()
