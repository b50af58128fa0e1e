"""Whether and when an event that a plugin did not take is tried again."""

from __future__ import annotations

import random

import msgspec

from gateway.hookspecs import Reject, Retry
from gateway.journal.interface import Parked
from gateway.plugin_host.load import PluginDelivery


def asked_again(error: BaseException) -> bool:
    """Whether a plugin that works asked for an event once more, as an attempt that counts."""
    return isinstance(error, Retry) and error.counts


class RetryPolicy(msgspec.Struct):
    """Limits of one plugin's retries; all but `max_attempts` are in seconds. Only `change` changes them."""

    max_attempts: int
    backoff: float
    backoff_max: float
    give_up_after: float

    @classmethod
    def of(cls, delivery: PluginDelivery) -> RetryPolicy:
        return cls(
            delivery.max_attempts,
            float(delivery.backoff),
            float(delivery.backoff_max),
            float(delivery.give_up_after),
        )

    def change(self, delivery: PluginDelivery) -> None:
        """Decide by other settings from now on."""
        new = self.of(delivery)
        for name in self.__struct_fields__:
            setattr(self, name, getattr(new, name))

    def gives_up(self, error: BaseException, attempts: int, works: bool, age: float) -> bool:
        """Whether an event is a dead letter after `attempts` that count. `works` is whether the plugin has taken
        another event since the attempt before; `age` is how many seconds no attempt has counted."""
        if isinstance(error, Reject) or asked_again(error) or works:
            return isinstance(error, Reject) or attempts >= self.max_attempts
        return age >= self.give_up_after

    def pause(self, failures: int, error: BaseException) -> float:
        """Seconds until the next attempt: what the plugin asked for, else exponential backoff with full jitter."""
        if isinstance(error, Retry) and error.after is not None:
            return error.after
        ceiling = min(self.backoff_max, self.backoff * 2.0 ** min(failures - 1, 60))
        return random.uniform(0, ceiling)  # noqa: S311 - jitter

    def left(self, row: Parked, now: float) -> float:
        """Seconds until a parked event is due. Since it was parked, the config may have changed and the clock may have
        been put back: only a pause that the plugin asked for can be longer than `backoff_max`."""
        left = max(0.0, row.next_at - now)
        return left if row.asked and now >= row.since else min(left, self.backoff_max)
