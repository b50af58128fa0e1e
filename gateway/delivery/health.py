"""The health of one plugin's delivery, for the health page, the metrics and, at a limited rate, the log."""

from __future__ import annotations

import logging
from typing import Final

from gateway.log import RateLimit
from gateway.plugin_host.fault_log import FaultLog
from gateway.text import counted

log = logging.getLogger("gateway.delivery")

QUIET: Final = 10.0
"""Seconds between log lines about one plugin's failures."""
DEAD_LINES: Final = 10
"""Dead letters of one plugin that are named in the log in that time, at most."""
UNHEALTHY: Final = 3
"""Failures in a row that make a plugin unhealthy."""
DOWN: Final = 20
"""Failures in a row after which a plugin counts as down, and is asked only now and then."""


class Health:
    """Counts of one plugin; `error` is its last failure, without anything of the event."""

    def __init__(self, plugin: str, faults: FaultLog) -> None:
        self.plugin = plugin
        self.faults = faults
        self.delivered = 0
        self.failures = 0
        self.buried_count = 0
        self.error: str | None = None
        self.blocked: str | None = None
        """Why the plugin takes nothing now (its checkpoint fails, its threads are stuck), or None."""
        self.broken: str | None = None
        """An error of the gateway itself that ended this plugin's delivery until a restart, or None."""
        self._in_a_row = 0
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
        return self._in_a_row >= DOWN

    def succeeded(self, count: int) -> None:
        """The plugin took `count` events."""
        self.delivered += count
        self._in_a_row = 0

    def rejected(self) -> None:
        """The plugin rejected an event, so it works."""
        self.failures += 1
        self._in_a_row = 0

    def failed(self, error: BaseException, what: str = "") -> None:
        """A call failed: of a checkpoint where `what` says so, else of an event."""
        self.failures += 1
        self._in_a_row += 1
        self.error = self.faults.warning(log, f"{what}plugin {self.plugin}", error)

    def buried(self, event_id: str, attempts: int) -> None:
        """An event became a dead letter."""
        self.buried_count += 1
        self._dead.error("plugin %s: event %s is a dead letter after attempt %d", self.plugin, event_id, attempts)
