"""A circuit breaker: a provider that keeps failing is skipped for a while, so that it costs nobody the deadline."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

THRESHOLD: Final = 5
FIRST_PAUSE: Final = 1.0
LONGEST_PAUSE: Final = 30.0
"""Failures in a row that open it; seconds it stays open at first, doubled by each failed probe, and at most."""


class Breaker:
    """Closed: calls go through. Open: none does. Half-open: a single probe does, and decides."""

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self.failures = 0
        """Failures in a row."""
        self._pause = FIRST_PAUSE
        self._opens: float | None = None  # when the next probe may go
        self._probing = False

    @property
    def state(self) -> str:
        """`"closed"`, `"open"` or `"half-open"`."""
        if self._opens is None:
            return "closed"
        return "half-open" if self._probing or self._monotonic() >= self._opens else "open"

    def allows(self) -> bool:
        """Whether a call may go through now. One that may must report `succeeded`, `failed` or `released`."""
        if self._opens is None:
            return True
        if self._probing or self._monotonic() < self._opens:
            return False
        self._probing = True
        return True

    def succeeded(self) -> None:
        self.failures = 0
        self._pause = FIRST_PAUSE
        self._opens = None
        self._probing = False

    def failed(self) -> None:
        self.failures += 1
        if self._opens is None:
            if self.failures >= THRESHOLD:
                self._opens = self._monotonic() + self._pause
        elif self._probing:
            self._probing = False
            self._pause = min(2 * self._pause, LONGEST_PAUSE)
            self._opens = self._monotonic() + self._pause

    def released(self) -> None:
        """The call ended without telling anything, such as when nobody needed its answer any more."""
        self._probing = False
