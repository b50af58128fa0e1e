"""What came in each minute of the last day, in memory: differences of the counters of the metrics, so that counting
costs no request anything."""

from __future__ import annotations

import asyncio
import time
from collections import Counter, deque
from collections.abc import Callable, Sequence
from typing import Final

import msgspec

from gateway.metrics import SECONDS, Metrics

MINUTE: Final = 60
KEPT: Final = 24 * 60
"""Minutes that are kept."""


class Rate(msgspec.Struct, kw_only=True):
    """A span of time from `at` (seconds since 1970, a multiple of its length). `events` are those received, by hook,
    without repeated ones; `values` are custom value requests by status; `times` are how long these took, as counts by
    the buckets of the metrics."""

    at: int
    events: Counter[str]
    values: Counter[str]
    times: Counter[int]

    def add(self, other: Rate) -> None:
        """Take another span into this one."""
        self.events.update(other.events)
        self.values.update(other.values)
        self.times.update(other.times)

    def quantile(self, share: float) -> float | None:
        """The seconds within which this share of the custom value requests was answered, as exact as the buckets are:
        it is interpolated within one. None where there was no request; at most the last bound."""
        wanted = share * self.times.total()
        below = 0.0
        for index, bound in enumerate(SECONDS):
            count = self.times[index]
            if count and below + count >= wanted:
                least = SECONDS[index - 1] if index else 0.0
                return least + (bound - least) * (wanted - below) / count
            below += count
        return SECONDS[-1] if wanted else None


class Rates:
    """Counts from the start of the gateway, `since`, on."""

    def __init__(self, metrics: Metrics, clock: Callable[[], float] = time.time) -> None:
        self._metrics = metrics
        self._clock = clock
        self.since = clock()
        self._minutes: deque[Rate] = deque(maxlen=KEPT)
        self._minute = int(self.since) // MINUTE * MINUTE
        self._before = self._counters()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._task = asyncio.create_task(self._run(), name="rates by minute")

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(MINUTE - self._clock() % MINUTE)
            self.close_minute()

    def close_minute(self) -> None:
        """Keep the minute that has ended. One that the process slept through is left out; a clock that was put back
        lets its minute be longer."""
        minute = int(self._clock()) // MINUTE * MINUTE
        if minute > self._minute:
            self._minutes.append(self._open())
            self._minute = minute
            self._before = self._counters()

    def spans(self, length: int, number: int) -> list[Rate | None]:
        """The last `number` spans of `length` minutes, the newest last; it is not over yet. None is one from before
        `since`."""
        seconds = length * MINUTE
        newest = int(self._clock()) // seconds * seconds
        found: dict[int, Rate] = {}
        for minute in (*self._minutes, self._open()):
            at = minute.at // seconds * seconds
            found.setdefault(at, empty(at)).add(minute)
        first = int(self.since) // seconds * seconds
        wanted = (newest - seconds * back for back in range(number - 1, -1, -1))
        return [found.get(at) or (empty(at) if at >= first else None) for at in wanted]

    def _open(self) -> Rate:
        """The minute that is not over yet."""
        events, values, times = self._counters()
        before = self._before
        return Rate(at=self._minute, events=events - before[0], values=values - before[1], times=times - before[2])

    def _counters(self) -> tuple[Counter[str], Counter[str], Counter[int]]:
        events: Counter[str] = Counter()
        for (_, hook, kind), count in self._metrics.received.items():
            if kind != "duplicate":
                events[hook] += count
        values: Counter[str] = Counter()
        for (_, status), count in self._metrics.values.items():
            values[status] += count
        return events, values, Counter(dict(enumerate(self._metrics.seconds["custom_values"].counts)))


def empty(at: int) -> Rate:
    """A span in which nothing came."""
    return Rate(at=at, events=Counter(), values=Counter(), times=Counter())


def total(spans: Sequence[Rate | None]) -> Rate:
    """What came in all of these spans."""
    found = empty(0)
    for span in spans:
        if span is not None:
            found.add(span)
    return found
