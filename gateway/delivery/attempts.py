"""Which attempts count. An outage must not use up those of the events that it meets: an attempt counts where the plugin
has taken another event since."""

from __future__ import annotations

from typing import Final

import msgspec

from gateway.delivery.items import Item
from gateway.delivery.retry import RetryPolicy, asked_again

STILL_WORKS: Final = 10.0
"""Seconds after an event was taken in which the plugin counts as one that works, unless an event fails for the first
time meanwhile. An event that keeps failing is found out although few others come beside it."""


class CountedAttempts:
    """Numbers and counts the attempts of one plugin's events. Every `now` is in seconds of the event loop's clock."""

    def __init__(self, policy: RetryPolicy) -> None:
        self.taken = 0
        """How many events the plugin has taken."""
        self._policy = policy
        self._durable = 0
        """How many of these are durable, and so prove that it works: a full buffer alone does not."""
        self._durable_at = 0.0
        self._first_failed = 0
        """How many it had taken when an event last failed for the first time."""

    @property
    def unproven(self) -> bool:
        """Whether the plugin has taken events that are not durable yet."""
        return self.taken > self._durable

    def prove(self, taken: int, now: float) -> None:
        """What the plugin had taken when `taken` was read is durable."""
        self._durable, self._durable_at = taken, now

    def rewind(self) -> None:
        """What is not durable does not count."""
        self.taken = self._first_failed = self._durable

    def take_up(self, item: Item, age: float, now: float) -> None:
        """An event comes from the journal, whose last attempt counted `age` seconds ago."""
        item.mark, item.counted_at = self.taken, now - age

    def begin(self, item: Item, now: float) -> None:
        """A parked event is handed out: number this attempt, and note whether it counts should it fail."""
        if item.row is None or item.event is None:
            return
        still = self._durable > self._first_failed and now - self._durable_at < STILL_WORKS
        item.works = item.row.attempts > 0 and (still or self._durable > item.mark)
        item.event = msgspec.structs.replace(item.event, attempt=max(item.row.attempts, item.failures) + 1)

    def failed(self, item: Item, error: BaseException, now: float) -> tuple[int, bool]:
        """An attempt failed. Returns how many count now, and whether it was the last."""
        before = 0 if item.row is None else item.row.attempts
        patient = asked_again(error)
        item.failures, item.mark = item.failures + 1, self.taken
        counts = not before or item.works or patient
        if counts:
            item.counted_at = now
        attempts = before + (counts and before < self._policy.max_attempts)
        if self._policy.gives_up(error, attempts, item.works, now - item.counted_at):
            return max(1, attempts), True
        if not (before or patient):
            self._first_failed = self.taken
        return attempts, False
