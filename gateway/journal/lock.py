"""Who writes a journal: one gateway, or a command that does without one; known by its process."""

from __future__ import annotations

import fcntl
import logging
import os
import time
from pathlib import Path
from typing import Final, NamedTuple, Self

from gateway.journal.interface import JournalError

log = logging.getLogger("gateway.journal")

GATEWAY: Final = "the gateway"
PATIENCE: Final = 1.0
_WHO_BYTES: Final = 64
_WANTED: Final = b"wanted"
"""Behind the holder's name in the lock's file: a gateway wants to start."""


class JournalBusy(JournalError):
    """Another process holds the lock."""


class Holder(NamedTuple):
    """A process, and what it is: the gateway, or a command."""

    process: str
    name: str


class JournalLock:
    """Held from `take` until `release` or the end of the process and of those it forked."""

    def __init__(self, journal: Path, name: str = GATEWAY, process: int | None = None) -> None:
        """`process` is the process id to stop in order to get the journal; by default this process."""
        self._journal = journal
        self._name = name
        self._process = process or os.getpid()
        self.path = journal.with_name(journal.name + ".lock")
        self._descriptor = -1

    def take(self, patience: float = 0.0) -> Self:
        """`JournalBusy` naming the process that holds it; a command is asked to make way, for so many seconds."""
        try:
            self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise JournalError(f"the journal's lock {self.path} cannot be opened: {error.strerror}") from None
        deadline, asked = time.monotonic() + patience, False
        while not _locked(descriptor):
            holder = _holder(descriptor)
            if holder.name == GATEWAY or time.monotonic() > deadline:
                os.close(descriptor)
                raise JournalBusy(
                    f"the journal {self._journal} is in use by {holder.name} with process id {holder.process}; "
                    "stop that one first"
                )
            if not asked:
                log.warning("%s with process id %s has the journal; waiting for it to make way", *reversed(holder))
            asked = os.pwrite(descriptor, _WANTED, _WHO_BYTES) > 0
            time.sleep(0.02)
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{self._process} {self._name}\n".encode(), 0)
        self._descriptor = descriptor
        return self

    def release(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def wanted(self) -> bool:
        """Whether a gateway waits for us, the holder, to make way."""
        return os.pread(self._descriptor, len(_WANTED), _WHO_BYTES) == _WANTED

    def holder(self) -> Holder | None:
        """Which process holds it now, if any."""
        try:
            descriptor = os.open(self.path, os.O_RDWR | os.O_CLOEXEC)
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
        """Whether some process holds it now."""
        return self.holder() is not None

    def __enter__(self) -> Self:
        return self if self._descriptor >= 0 else self.take()

    def __exit__(self, *exception: object) -> None:
        self.release()


def _holder(descriptor: int) -> Holder:
    process, _, name = os.pread(descriptor, _WHO_BYTES, 0).decode("ascii", "replace").partition("\n")[0].partition(" ")
    return Holder(process or "unknown", name or GATEWAY)


def _locked(descriptor: int) -> bool:
    """Whether it is ours now. Those who only look share it for a moment: they are waited for."""
    deadline = time.monotonic() + PATIENCE
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
