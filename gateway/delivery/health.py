"""How one plugin's delivery is doing, for the health page, the metrics and the log (at a bounded rate)."""

from __future__ import annotations

import asyncio
import logging
from typing import Final

from gateway.log import RateLimit
from gateway.text import counted

log = logging.getLogger("gateway.delivery")

QUIET: Final = 10.0
"""Seconds between log lines about one plugin's failures."""
DEAD_LINES: Final = 10
"""So many dead letters of one plugin are named in the log in that time."""
UNHEALTHY: Final = 3
"""So many failures in a row make a plugin unhealthy."""
DOWN: Final = 20
"""So many, and it is taken to be down as a whole."""


class Health:
    """Counts of one plugin; `error` is its last failure, without anything of the event."""

    def __init__(self, plugin: str) -> None:
        self.plugin = plugin
        self.delivered = 0
        self.failures = 0
        self.buried_count = 0
        self.error: str | None = None
        self.blocked: str | None = None
        """Why the plugin takes nothing at all now (its checkpoint fails, its threads are stuck), or None."""
        self.broken: str | None = None
        """What went wrong in the gateway itself, so that the plugin gets nothing until a restart; or None."""
        self._in_a_row = 0
        self._next_line = 0.0
        self._unlogged = 0
        self._dead = RateLimit(
            log, DEAD_LINES, QUIET, lambda count: f"plugin {plugin}: {counted(count, 'more dead letter')}"
        )

    @property
    def healthy(self) -> bool:
        return self.broken is None and self.blocked is None and self._in_a_row < UNHEALTHY

    @property
    def trouble(self) -> str | None:
        """What an operator should know, or None."""
        return self.broken or self.blocked or (None if self.healthy else self.error)

    @property
    def down(self) -> bool:
        """Whether nothing has worked for so long that the plugin is best asked now and then only."""
        return self._in_a_row >= DOWN

    def succeeded(self, count: int) -> None:
        """So many events were taken."""
        self.delivered += count
        self._in_a_row = 0

    def rejected(self) -> None:
        """The plugin said that it will never take an event; it works."""
        self.failures += 1
        self._in_a_row = 0

    def failed(self, error: str) -> None:
        """A call failed."""
        self.failures += 1
        self._in_a_row += 1
        self.error = error
        self._unlogged += 1
        now = asyncio.get_running_loop().time()
        if now >= self._next_line:
            log.warning("plugin %s failed %d times since the last line: %s", self.plugin, self._unlogged, error)
            self._next_line, self._unlogged = now + QUIET, 0

    def buried(self, event_id: str, attempts: int) -> None:
        """An event became a dead letter."""
        self.buried_count += 1
        self._dead.error("plugin %s: event %s is a dead letter after attempt %d", self.plugin, event_id, attempts)
