"""A circuit breaker: skips a provider that keeps failing, so that requests do not wait for it until the deadline."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Final

THRESHOLD: Final = 5  # failures in a row that open the breaker
FIRST_PAUSE: Final = 1.0  # seconds that it stays open at first; each failed probe doubles them
LONGEST_PAUSE: Final = 30.0  # seconds that it stays open at most
BREAKER_STATES: Final = ("closed", "open", "half-open")


class Breaker:
    """Closed: every call passes. Open: no call passes. Half-open: one call passes as a probe; its result decides.

    Where every failure was about the same customer, it is open for that customer only: calls about others pass."""

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self.failures = 0
        """Failures in a row."""
        self._customers: set[Hashable] = set()  # that these failures were about; two are enough
        self._pause = FIRST_PAUSE
        self._next_probe: float | None = None  # None: closed
        self._probing = False

    @property
    def state(self) -> str:
        """One of `BREAKER_STATES`."""
        if self._next_probe is None:
            return "closed"
        return "half-open" if self._probing or self._monotonic() >= self._next_probe else "open"

    @property
    def about_one(self) -> bool:
        """Whether it is open for one customer only."""
        return self._next_probe is not None and len(self._customers) == 1

    def allows(self, customer: Hashable) -> bool:
        """Whether a call about a customer may pass now. After each call that passes, the caller reports `succeeded`,
        `failed` or `released`."""
        if self._next_probe is None:
            return True
        if self.about_one and customer not in self._customers:
            return True
        if self._probing or self._monotonic() < self._next_probe:
            return False
        self._probing = True
        return True

    def succeeded(self) -> None:
        self.failures = 0
        self._customers.clear()
        self._pause = FIRST_PAUSE
        self._next_probe = None
        self._probing = False

    def failed(self, customer: Hashable) -> None:
        self.failures += 1
        if len(self._customers) < 2:
            self._customers.add(customer)
        if self._next_probe is None:
            if self.failures >= THRESHOLD:
                self._next_probe = self._monotonic() + self._pause
        elif self._probing:
            self._probing = False
            self._pause = min(2 * self._pause, LONGEST_PAUSE)
            self._next_probe = self._monotonic() + self._pause

    def released(self) -> None:
        """The call ended without a result, for instance because it was cancelled."""
        self._probing = False
