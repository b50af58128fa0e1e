"""Whether the running gateway listens on a port. Linux tells this about processes of the same user."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from gateway.journal.lock import GATEWAY, JournalLock

_LISTENING: Final = "0A"


def own_port(lock: JournalLock, port: int) -> bool | None:
    """Whether only the gateway that holds the lock listens on a port; None where that cannot be found out."""
    holder = lock.holder()
    if holder is None or holder.name != GATEWAY:
        return False
    try:
        files = set(_open_files(holder.process))
        sockets = {f"socket:[{inode}]" for inode in _listening(port)}
    except OSError:
        return None
    if str(lock.path.resolve()) not in files or not sockets:  # in another container
        return None
    ours = sockets & files
    return None if ours and ours != sockets else bool(ours)


def _open_files(process: str) -> Iterator[str]:
    """The files and sockets that a process and its children (the worker) have open."""
    children = Path("/proc", process, "task", process, "children").read_text(encoding="ascii").split()
    for member in (process, *children):
        for descriptor in Path("/proc", member, "fd").iterdir():
            with contextlib.suppress(FileNotFoundError):  # closed meanwhile
                yield str(descriptor.readlink())


def _listening(port: int) -> Iterator[str]:
    """The inodes of the sockets that listen on a port."""
    for table in Path("/proc/net").glob("tcp*"):
        for line in table.read_text(encoding="ascii").splitlines()[1:]:
            fields = line.split()
            if fields[3] == _LISTENING and int(fields[1].rpartition(":")[2], 16) == port:
                yield fields[9]
