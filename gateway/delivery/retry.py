"""Whether and when an event that a plugin did not take is tried again."""

from __future__ import annotations

import random
from typing import NamedTuple

import msgspec

from gateway.hookspecs import Reject, Retry
from gateway.journal.interface import Parked
from gateway.plugin_host.load import PluginDelivery


class Decision(NamedTuple):
    """`pause` is in seconds, or None for a dead letter; `asked` is whether the plugin itself named it."""

    pause: float | None
    asked: bool = False


class RetryPolicy(msgspec.Struct):
    """Limits of one plugin's retries; `backoff` and `backoff_max` are in seconds. Only `change` changes them."""

    max_attempts: int
    backoff: float
    backoff_max: float

    @classmethod
    def of(cls, delivery: PluginDelivery) -> RetryPolicy:
        return cls(delivery.max_attempts, float(delivery.backoff), float(delivery.backoff_max))

    def change(self, delivery: PluginDelivery) -> None:
        """Decide by other settings from now on."""
        new = self.of(delivery)
        for name in self.__struct_fields__:
            setattr(self, name, getattr(new, name))

    def decide(self, attempts: int, error: BaseException) -> Decision:
        """What follows from an event's `attempts`-th failure."""
        if isinstance(error, Reject) or attempts >= self.max_attempts:
            return Decision(None)
        asked = isinstance(error, Retry) and error.after is not None
        return Decision(self.pause(attempts, error), asked)

    def pause(self, attempts: int, error: BaseException) -> float:
        """Seconds until the next attempt: what the plugin asked for, else exponential backoff with full jitter."""
        if isinstance(error, Retry) and error.after is not None:
            return error.after
        ceiling = min(self.backoff_max, self.backoff * 2.0 ** min(attempts - 1, 60))
        return random.uniform(0, ceiling)  # noqa: S311 - jitter

    def left(self, row: Parked, now: float) -> float:
        """Seconds until a parked event is due. Since it was parked, the config may have changed and the clock may have
        been put back: only a pause that the plugin asked for can be longer than `backoff_max`."""
        left = max(0.0, row.next_at - now)
        return left if row.asked and now >= row.since else min(left, self.backoff_max)
