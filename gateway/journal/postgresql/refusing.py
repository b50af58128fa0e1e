"""Whether the journal takes new events, and why not. Each change is logged once, with what happens next."""

from __future__ import annotations

import logging
import time
from typing import Final

log = logging.getLogger("gateway.journal")

HUNG: Final = 10.0
"""Seconds after which a commit that does not return refuses new events."""

SOON: Final = 5.0
"""Seconds after which a new reason to refuse has nothing to do with the one before."""
LONGEST: Final = 10.0
"""Seconds until it is looked again whether events can be taken, at most."""


class Refusals:
    """`reason` says why new events are refused, and None that they are taken."""

    def __init__(self) -> None:
        self.reason: str | None = None
        self._look_at = 0.0
        self._since = 0.0
        self._taken = float("-inf")
        self._pause = 0.0
        self._told_of: float | None = None

    @property
    def is_due(self) -> bool:
        """Whether to look now if events can be taken again."""
        return self.reason is not None and time.monotonic() >= self._look_at

    def refuse(self, reason: str) -> None:
        """New events are refused for this reason from now on."""
        if self.reason is None:
            self._since = now = time.monotonic()
            soon = now - self._taken < SOON  # such as with a disk that has room for a little only
            self._pause = min(LONGEST, max(1.0, self._pause * 2)) if soon else 0.0
            self._look_at = now + self._pause
        if self.reason != reason:
            log.error("journal: refuses new events with 503: %s; it is tried again by itself", reason)
        self.reason = reason

    def take(self) -> None:
        """New events are taken from now on."""
        if self.reason is not None:
            self._taken = time.monotonic()
            log.warning("journal: takes new events again, after %.0f s", self._taken - self._since)
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
