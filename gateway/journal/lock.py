"""Which process writes to a journal: one gateway, or a command that works without one."""

from __future__ import annotations

import fcntl
import logging
import os
import time
from pathlib import Path
from typing import Final, NamedTuple, Self

from gateway.journal.interface import JournalError

log = logging.getLogger("gateway.journal")

LINK: Final = "it is a symbolic link, which may lead to any file; remove it, or name the file that it leads to"
GATEWAY: Final = "the gateway"
LOOK_SECONDS: Final = 1.0
"""How long processes that only look at the lock are waited for; each shares it for a moment."""
_NAME_BYTES: Final = 64


class JournalBusy(JournalError):
    """Another process holds the lock."""


class Holder(NamedTuple):
    """A process id, and what the process is: the gateway, or a command."""

    process: str
    name: str


class JournalLock:
    """Held from `take` until `release`, or until the process and those that it forked have ended."""

    def __init__(self, journal: Path, name: str = GATEWAY, process: int | None = None) -> None:
        """`process` is the process id to stop in order to get the journal; by default this process."""
        self._journal = journal
        self._name = name
        self._process = process or os.getpid()
        self.path = journal.with_name(journal.name + ".lock")
        self._descriptor = -1

    def take(self, patience: float = 0.0) -> Self:
        """Wait at most `patience` seconds for a command to end; a gateway is not waited for. `JournalBusy` names the
        process that holds the lock."""
        try:
            self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        except OSError as error:
            reason = LINK if self.path.is_symlink() else error.strerror
            raise JournalError(f"the journal's lock {self.path} cannot be opened: {reason}") from None
        deadline, told = time.monotonic() + patience, False
        while not _locked(descriptor):
            holder = _holder(descriptor)
            if holder.name == GATEWAY or time.monotonic() > deadline:
                os.close(descriptor)
                raise JournalBusy(
                    f"the journal {self._journal} is in use by {holder.name} with process id {holder.process}; "
                    "stop that one first"
                )
            if not told:
                log.warning("%s with process id %s has the journal; waiting for it to end", *reversed(holder))
                told = True
            time.sleep(0.02)
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{self._process} {self._name}\n".encode(), 0)
        self._descriptor = descriptor
        return self

    def release(self) -> None:
        """Let go of the lock, if it is held."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def holder(self) -> Holder | None:
        """The process that holds the lock now, or None."""
        try:
            descriptor = os.open(self.path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
        except OSError:
            return None
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return _holder(descriptor)
        finally:
            os.close(descriptor)
        return None

    def is_held(self) -> bool:
        """Whether a process holds the lock now."""
        return self.holder() is not None

    def __enter__(self) -> Self:
        return self if self._descriptor >= 0 else self.take()

    def __exit__(self, *exception: object) -> None:
        self.release()


def _holder(descriptor: int) -> Holder:
    process, _, name = os.pread(descriptor, _NAME_BYTES, 0).decode("ascii", "replace").partition("\n")[0].partition(" ")
    return Holder(process or "unknown", name or GATEWAY)


def _locked(descriptor: int) -> bool:
    """Whether the lock is ours now."""
    deadline = time.monotonic() + LOOK_SECONDS
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
                fcntl.flock(descriptor, fcntl.LOCK_UN)
            except BlockingIOError:
                return False
            if time.monotonic() > deadline:
                return False
            time.sleep(0.001)
        else:
            return True
