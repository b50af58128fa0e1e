"""The leases of one gateway: how long they last, and which it has."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from typing import Final, NamedTuple

from gateway.journal.interface import Track
from gateway.journal.lease import Lease


class LeaseTimes(NamedTuple):
    """In seconds. A lease lasts for `lasts` by the database's clock, and is renewed `every` so often. By its own clock,
    a gateway hands out nothing `own` after it asked for the last renewal that it got: well before others may. After a
    failover the database's clock may be another one, so that leases of others are over, at the earliest, `trust` after
    the gateway began to use that server."""

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
    """By track, the leases that the gateway has, or has lost and not noticed yet; and for how long those of others last
    that it was told of."""

    def __init__(self, times: LeaseTimes, clock: Callable[[], float] = CLOCK) -> None:
        self.times = times
        self.clock = clock
        self._held: dict[Track, Lease] = {}
        self._server_since = clock()
        self._too_long: dict[Track, tuple[datetime, float]] = {}
        """Leases of others that seem to last longer than any does: until when, and since when that is known."""

    def server_changed(self) -> None:
        """From now on the journal is on a server that may have another clock than that by which leases were made."""
        self._server_since = self.clock()

    def left(self, track: Track, until: datetime, seconds: float) -> float:
        """The seconds for which a lease of another gateway is valid, which ends at `until`, so many `seconds` from now
        by the database's clock. Where these are more than a lease lasts, it was made by a clock that was ahead: it is
        over once its owner has not renewed it for `trust`."""
        now = self.clock()
        since = self._server_since
        if seconds <= self.times.lasts:
            self._too_long.pop(track, None)
        else:
            known = self._too_long.get(track)
            if known is None or known[0] != until:
                known = self._too_long[track] = until, now
            seconds, since = 0.0, max(since, known[1])
        return max(seconds, self.times.trust - (now - since))

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
