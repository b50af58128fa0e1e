"""The health of one plugin's delivery, for the health page, the metrics and, at a limited rate, the log."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from typing import Final

from gateway.delivery.outage import Outage
from gateway.delivery.retry import asked_again
from gateway.events import Event
from gateway.hookspecs import Reject
from gateway.log import RateLimit
from gateway.metrics import Histogram
from gateway.plugin_host.call import PluginFault
from gateway.plugin_host.fault_log import FaultLog
from gateway.text import counted
from gateway.tracing import Tracing

log = logging.getLogger("gateway.delivery")

QUIET: Final = 10.0
"""Seconds between log lines about one plugin's failures."""
DEAD_LINES: Final = 10
"""Dead letters of one plugin that are named in the log in that time, at most."""


class Health:
    """Counts of one plugin, and its outage where it has one."""

    def __init__(self, plugin: str, faults: FaultLog, clock: Callable[[], float] = time.time) -> None:
        self.plugin = plugin
        self.faults = faults
        self.outage = Outage(plugin, faults, clock)
        self.delivered = 0
        self.failures = 0
        self.buried_count = 0
        self.calls = Histogram()
        """How long the plugin had each event, in every attempt."""
        self.tracing: Tracing | None = None
        self.blocked: str | None = None
        """Why the plugin gets nothing now (its threads are stuck, another gateway delivers), or None."""
        self.broken: str | None = None
        """An error of the gateway itself that ended this plugin's delivery until a restart, or None."""
        self._dead = RateLimit(
            log, DEAD_LINES, QUIET, lambda count: f"plugin {plugin}: {counted(count, 'more dead letter')}"
        )

    @property
    def healthy(self) -> bool:
        return self.broken is None and self.blocked is None and not self.outage.ill

    @property
    def trouble(self) -> str | None:
        """What an operator should know, or None."""
        return self.broken or self.blocked or (str(self.outage) if self.outage.ill else None)

    def trace(self, calls: Sequence[tuple[Event | None, BaseException | None, float]]) -> None:
        """Calls that came one after the other are over now: with which events, what they raised, and how many seconds
        each took."""
        if self.tracing is None:
            return
        begun = time.time() - sum(seconds for _, _, seconds in calls)
        for event, error, seconds in calls:
            if event is not None:
                cause = error.cause if isinstance(error, PluginFault) else error
                name = None if cause is None else type(cause).__name__
                self.tracing.delivered(self.plugin, event, begun, seconds, name)
            begun += seconds

    def succeeded(self, count: int) -> None:
        """The plugin took `count` events."""
        self.delivered += count

    def failed(self, error: BaseException, now: float, seq: int | None = None, event_id: str | None = None) -> None:
        """A call failed, with the event at position `seq` or None for a checkpoint. `now` is by the loop's clock."""
        self.failures += 1
        if isinstance(error, Reject):
            return  # the log names the dead letter
        what = "the checkpoint of " if seq is None else ""
        self.faults.warning(log, f"{what}plugin {self.plugin}", error, event_id=event_id)
        if not asked_again(error):
            self.outage.failed(error, now, seq)

    def buried(self, event_id: str, attempts: int) -> None:
        """An event became a dead letter."""
        self.buried_count += 1
        self._dead.error(
            "plugin %s: event %s is a dead letter after attempt %d", self.plugin, event_id, attempts, event_id=event_id
        )
