"""The leases of one gateway: how long they last, and which it has."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from typing import Final, NamedTuple

from gateway.journal.interface import Track
from gateway.journal.lease import Lease


class LeaseTimes(NamedTuple):
    """In seconds. A lease lasts for `lasts` by the database's clock, and is renewed `every` so often. By its own clock,
    a gateway hands out nothing `own` after it asked for the last renewal that it got: well before others may. After a
    failover the database's clock may be another one, so that leases of others are over, at the earliest, `trust` after
    a connection was made."""

    lasts: float = 10.0
    own: float = 6.0
    every: float = 3.0
    trust: float = 10.0


DEFAULT_TIMES: Final = LeaseTimes()


def _running() -> float:
    """Seconds since the machine started, those included in which it was suspended."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


CLOCK: Final[Callable[[], float]] = _running if hasattr(time, "CLOCK_BOOTTIME") else time.monotonic


class Leases:
    """By track, the leases that the gateway has, or has lost and not noticed yet."""

    def __init__(self, times: LeaseTimes, clock: Callable[[], float] = CLOCK) -> None:
        self.times = times
        self.clock = clock
        self._held: dict[Track, Lease] = {}

    def begin(self, track: Track, epoch: int, asked: float) -> Lease:
        """A cursor was taken; `asked` is when that was asked for."""
        self.end(track)
        lease = self._held[track] = Lease(epoch, asked + self.times.own, self.clock)
        return lease

    def end(self, track: Track) -> None:
        """A cursor was released, or taken again."""
        if (lease := self._held.pop(track, None)) is not None:
            lease.lost = True

    def held(self) -> Mapping[Track, Lease]:
        """Those that there are now."""
        return dict(self._held)

    def renewed(self, asked_for: Mapping[Track, Lease], asked: float, found: Iterable[tuple[Track, int]]) -> None:
        """The database has renewed the leases in `found`, with their epochs; `asked_for` were held when it was asked.
        Those that it did not renew are lost."""
        epochs = dict(found)
        for track, lease in asked_for.items():
            if epochs.get(track) == lease.epoch:
                lease.until = max(lease.until, asked + self.times.own)
            else:
                lease.lost = True
