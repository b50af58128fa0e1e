"""Whether the journal refuses new events, and why. Each change is logged once, with what to do."""

from __future__ import annotations

import logging
import time
from pathlib import Path
from typing import Final, NamedTuple

import apsw

log = logging.getLogger("gateway.journal")

HUNG: Final = 10.0
"""Seconds after which a commit that does not return refuses new events."""


class Refusal(NamedTuple):
    """Why new events are refused, and what an operator can do."""

    reason: str
    advice: str


class Refusing:
    """The journal's state: it takes new events, or refuses them. `reason` says why, and None that it takes them."""

    def __init__(self, path: Path) -> None:
        self.reason: str | None = None
        self._path = path
        self._advice = ""
        self._since = 0.0
        self._told_of: float | None = None

    def cannot_write(self, error: Exception) -> str:
        """A transaction failed, and nothing of it was kept. Returns the reason."""
        reason = f"the journal cannot be written ({type(error).__name__})"
        self.refuse(Refusal(reason, f"{_advice(error, self._path)}; it is tried again by itself"))
        return reason

    def refuse(self, refusal: Refusal | None) -> None:
        """New events are refused for this reason from now on, or taken where it is None."""
        if refusal is None:
            if self.reason is not None:
                log.warning("journal: takes new events again, after %.0f s", time.monotonic() - self._since)
            self.reason = None
            return
        if self.reason is None:
            self._since = time.monotonic()
        if self.reason is None or refusal.advice != self._advice:
            log.error("journal: refuses new events with 503: %s; %s", refusal.reason, refusal.advice)
        self.reason, self._advice = refusal

    def hangs(self, since: float) -> str | None:
        """A write has gone on since this moment of the monotonic clock. Returns the reason to refuse, or None yet."""
        seconds = time.monotonic() - since
        if seconds < HUNG:
            return None
        if self._told_of != since:
            self._told_of = since
            log.error(
                "journal: refuses new events with 503: the disk has not finished a write for %.0f s; look at the disk,"
                " at what it is attached to, and at the kernel's log (dmesg); they are taken again once it has",
                seconds,
            )
        return f"the disk has not finished a write to the journal for {seconds:.0f} s"

    def finished(self, since: float) -> None:
        """The write that began then has ended."""
        if self._told_of == since:
            log.warning("journal: the disk finished the write after %.0f s", time.monotonic() - since)


def _advice(error: Exception, path: Path) -> str:
    if isinstance(error, apsw.FullError):
        return f"the disk of {path.parent}, or a quota on it, is full: make room there"
    if isinstance(error, apsw.BusyError | apsw.LockedError):
        return f"another process has locked {path}: end it, and make copies with `gateway backup`"
    return f"the disk of {path.parent} reports errors: look at it and at the kernel's log (dmesg)"
