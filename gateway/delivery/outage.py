"""A plugin that takes nothing: since when and why, the pace at which single events probe it, and what the log says."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Final

from gateway.plugin_host.fault_log import FaultLog
from gateway.text import counted, lasting

log = logging.getLogger("gateway.delivery")

ILL: Final = 3
"""Failures in a row that make a plugin unhealthy."""
TOLD_AFTER: Final = 1.0
"""Seconds that such a row lasts before the log tells of it."""
EVENTS: Final = 10
"""Events that must have failed in a row until single events probe the plugin: a few that can never be taken must not
hold up the others."""
PROBE_PAUSE: Final = 0.02
"""Seconds between the first two probes; each pause is twice as long as the one before, up to `backoff_max`."""


class Outage:
    """The failures of one plugin since it last took an event and made it durable. `Reject` is none, nor is a `Retry`
    that counts.
    `now` is in seconds of the event loop's clock."""

    def __init__(self, plugin: str, faults: FaultLog, clock: Callable[[], float] = time.time) -> None:
        self._plugin = plugin
        self._faults = faults
        self._clock = clock
        self._recovered: float | None = None
        """Seconds that an outage lasted whose end the log does not tell of yet."""
        self.on_end: Callable[[], None] = lambda: None
        self.reset()

    def reset(self) -> None:
        """Nothing is known to fail."""
        self.failures = 0
        self.probing = False
        """Whether single events probe the plugin, while all others wait."""
        self.probe_at = 0.0
        """When the next probe is due, by the event loop's clock."""
        self.probes_failed = False
        """Whether the next probe is rather an event that has failed before than one that has not."""
        self._checkpoint = False
        self._events: set[int] = set()
        self._pause = PROBE_PAUSE
        self._since = self._began = 0.0
        self._cause = ""
        self._told = False

    @property
    def ill(self) -> bool:
        """Whether the plugin counts as unhealthy."""
        return self.failures >= ILL or self._checkpoint

    def __str__(self) -> str:
        """`crm has taken nothing since 02:41: ConnectionRefusedError, at crm.py:88`. The time is in UTC, with the date
        once that is not today."""
        since, today = (datetime.fromtimestamp(at, UTC) for at in (self._since, self._clock()))
        when = since.strftime("%H:%M" if since.date() == today.date() else "%Y-%m-%d %H:%M")
        return f"{self._plugin} has taken nothing since {when}: {self._cause}"

    def failed(self, error: BaseException, now: float, seq: int | None = None) -> None:
        """A call failed, with the event at position `seq` or None for a checkpoint."""
        self._cause = self._faults.kind(error)
        if not self.failures:
            self._since, self._began = self._clock(), now
        self.failures += 1
        if seq is None:
            self._cause, self._checkpoint, self.probing = f"its checkpoint fails: {self._cause}", True, True
        elif not self.probing:
            self._events.add(seq)
            self.probing = len(self._events) >= EVENTS
        if self.probing:
            self.probe_at = now + self._pause
        if self.ill and not self._told and now - self._began >= TOLD_AFTER:
            self._told = True
            log.warning(
                "plugin %s; it is tried again and again, and its events wait without losing attempts", str(self)
            )

    def begin_probe(self, longest: float) -> None:
        """A single event is handed out; should it fail, the next one follows after at most `longest` seconds."""
        self.probes_failed = not self.probes_failed
        self._pause = max(PROBE_PAUSE, min(longest, 2 * self._pause))

    def end(self, now: float) -> None:
        """The plugin has taken an event and made it durable."""
        self._recovered = now - self._began if self._told else self._recovered
        self.reset()
        self.on_end()

    def tell_end(self, waiting: Callable[[], int]) -> None:
        """Log that an outage is over, once; `waiting` counts the events that are still to be delivered."""
        if self._recovered is not None:
            seconds, self._recovered = self._recovered, None
            log.info(
                "plugin %s takes events again after %s; %s waited",
                self._plugin, lasting(seconds), counted(waiting(), "event"),
            )  # fmt: skip
