"""Whether the journal takes new events, and why not. Each change is logged once, with what happens next."""

from __future__ import annotations

import logging
import time
from typing import Final

log = logging.getLogger("gateway.journal")

HUNG: Final = 10.0
"""Seconds after which a commit that does not return refuses new events."""


class Refusals:
    """`reason` says why new events are refused, and None that they are taken."""

    def __init__(self) -> None:
        self.reason: str | None = None
        self._since = 0.0
        self._told_of: float | None = None

    def refuse(self, reason: str) -> None:
        """New events are refused for this reason from now on."""
        if self.reason is None:
            self._since = time.monotonic()
        if self.reason != reason:
            log.error("journal: refuses new events with 503: %s; it is tried again by itself", reason)
        self.reason = reason

    def take(self) -> None:
        """New events are taken from now on."""
        if self.reason is not None:
            log.warning("journal: takes new events again, after %.0f s", time.monotonic() - self._since)
        self.reason = None

    def hangs(self, since: float) -> str | None:
        """A commit has gone on since this moment of the monotonic clock. Returns the reason to refuse, or None yet."""
        seconds = time.monotonic() - since
        if seconds < HUNG:
            return None
        if self._told_of != since:
            self._told_of = since
            log.error(
                "journal: refuses new events with 503: the database has not finished a commit for %.0f s; look at its"
                " disk and, where it has one, at its synchronous standby; they are taken again once it has",
                seconds,
            )
        return f"the database has not finished a commit for {seconds:.0f} s"

    def finished(self, since: float) -> None:
        """The commit that began then has ended."""
        if self._told_of == since:
            log.warning("journal: the database finished the commit after %.0f s", time.monotonic() - since)
