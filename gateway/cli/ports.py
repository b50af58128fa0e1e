"""Whose a port is: the running gateway's own, or somebody else's. Linux tells, of processes of the same user."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from gateway.journal.lock import GATEWAY, JournalLock

_LISTENING: Final = "0A"


def own_port(lock: JournalLock, port: int) -> bool | None:
    """Whether all that listens on a port is the gateway that holds the lock; None where that cannot be known."""
    holder = lock.holder()
    if holder is None or holder.name != GATEWAY:
        return False
    try:
        files = set(_open_files(holder.process))
        sockets = {f"socket:[{inode}]" for inode in _listening(port)}
    except OSError:
        return None
    if str(lock.path.resolve()) not in files or not sockets:  # a process of another container, or a socket of one
        return None
    ours = sockets & files
    return None if ours and ours != sockets else bool(ours)


def _open_files(process: str) -> Iterator[str]:
    """What a process and its children, the workers, have open."""
    children = Path("/proc", process, "task", process, "children").read_text(encoding="ascii").split()
    for member in (process, *children):
        for descriptor in Path("/proc", member, "fd").iterdir():
            with contextlib.suppress(FileNotFoundError):  # closed meanwhile
                yield str(descriptor.readlink())


def _listening(port: int) -> Iterator[str]:
    """The sockets that listen on a port, by inode."""
    for table in Path("/proc/net").glob("tcp*"):
        for line in table.read_text(encoding="ascii").splitlines()[1:]:
            fields = line.split()
            if fields[3] == _LISTENING and int(fields[1].rpartition(":")[2], 16) == port:
                yield fields[9]
