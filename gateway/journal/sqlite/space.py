"""What the writer watches of its files: whether there is room for new events, and whether they are still there."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

import apsw

from gateway.journal.sqlite.refusing import Refusal


def shortage(connection: apsw.Connection, path: Path, min_free: int, max_size: int) -> Refusal | None:
    """Why there is no room, how much is missing, and what to do; None where there is room. Limits are in bytes."""
    disk = os.statvfs(path.parent)
    page = connection.pragma("page_size")
    unused = connection.pragma("freelist_count") * page
    free = disk.f_bavail * disk.f_frsize + unused  # pages that retention freed stay in the file and are used first
    if free < min_free:
        return Refusal(
            f"the journal has {free >> 20} MiB free, {_mib(min_free - free)} less than journal.min_free",
            f"make room on the disk of {path.parent}; deliveries go on",
        )
    size = connection.pragma("page_count") * page - unused
    if size > max_size:
        return Refusal(
            f"the journal holds {size >> 20} MiB, {_mib(size - max_size)} more than journal.max_size",
            "find out which plugin holds events back (`gateway_plugin_behind`), or raise max_size or shorten retention,"
            " then restart; deliveries go on",
        )
    return None


def _mib(size: int) -> str:
    """A size rounded up, so that what is missing is never 0."""
    return f"{-(-size >> 20)} MiB"


def identities(path: Path) -> list[tuple[int, int] | None]:
    """Device and inode of the database and of its log; None for a missing file."""
    found: list[tuple[int, int] | None] = []
    for file in _files(path):
        try:
            now = file.stat()
        except FileNotFoundError:
            found.append(None)
        else:
            found.append((now.st_dev, now.st_ino))
    return found


def space(path: Path) -> tuple[int, int]:
    """The size of the database and of its log, and the free space on their disk, in bytes; 0 for what is not there."""
    used = 0
    for file in _files(path):
        with contextlib.suppress(OSError):
            used += file.stat().st_size
    try:
        disk = os.statvfs(path.parent)
    except OSError:
        return used, 0
    return used, disk.f_bavail * disk.f_frsize


def _files(path: Path) -> tuple[Path, Path]:
    return path, path.with_name(f"{path.name}-wal")
