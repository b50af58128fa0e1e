"""What the writer watches of its files: whether there is room for new events, and whether they are still there."""

from __future__ import annotations

import os
from pathlib import Path

import apsw


def shortage(connection: apsw.Connection, path: Path, min_free: int, max_size: int) -> str | None:
    """Why there is no room, and how much is missing; None where there is room. Limits are in bytes."""
    disk = os.statvfs(path.parent)
    page = connection.pragma("page_size")
    unused = connection.pragma("freelist_count") * page
    free = disk.f_bavail * disk.f_frsize + unused  # pages that retention freed stay in the file and are used first
    if free < min_free:
        return f"the journal has {free >> 20} MiB free, {_mib(min_free - free)} less than journal.min_free"
    size = connection.pragma("page_count") * page - unused
    if size > max_size:
        return f"the journal holds {size >> 20} MiB, {_mib(size - max_size)} more than journal.max_size"
    return None


def _mib(size: int) -> str:
    """A size rounded up, so that what is missing is never 0."""
    return f"{-(-size >> 20)} MiB"


def identities(path: Path) -> list[tuple[int, int] | None]:
    """Device and inode of the database and of its log; None for a missing file."""
    found: list[tuple[int, int] | None] = []
    for file in (path, path.with_name(path.name + "-wal")):
        try:
            now = file.stat()
        except FileNotFoundError:
            found.append(None)
        else:
            found.append((now.st_dev, now.st_ino))
    return found
