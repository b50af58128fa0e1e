"""What one plugin did not take: tried again later, held behind an earlier event of its conversation, or dead."""

from __future__ import annotations

import asyncio
import random
from bisect import insort
from collections import deque
from collections.abc import Callable, Iterable
from typing import Final

import msgspec

from gateway.delivery.health import Health
from gateway.delivery.items import Item, Key
from gateway.delivery.patience import patiently
from gateway.delivery.retries import Retries
from gateway.hookspecs import Reject, Retry
from gateway.journal.interface import DEAD, RETRYING, UNORDERED, WAITING, Cursors, Parked, Replay, Standing, Track
from gateway.plugin_host.call import CallTimeout, PluginFault, describe
from gateway.plugin_host.load import PluginDelivery

OUT: Final = 256
"""So many parked events at most are in memory: the others wait in the journal although they are due."""


class Parking:
    """One plugin's parked events. `deliver` gets items whose time has come; `moved` is told of each item that needs
    its place in the window no more, because it is parked; `position` tells how far the log has been read.

    An event of a conversation is due only when it is the first of those parked, and the log has been read past it:
    until then an earlier one may come, which a crash or a failed checkpoint has brought back."""

    def __init__(
        self,
        plugin: str,
        delivery: PluginDelivery,
        journal: Cursors,
        clock: Callable[[], float],
        health: Health,
        deliver: Callable[[list[Item]], None],
        moved: Callable[[Item], None],
        position: Callable[[], int],
    ) -> None:
        self._plugin = plugin
        self._delivery = delivery
        self._journal = journal
        self._clock = clock
        self._health = health
        self._deliver = deliver
        self._moved = moved
        self._position = position
        self._retries = Retries(self._fetch, lambda: len(self._out) < OUT)
        self._rows: dict[int, Parked] = {}
        self._chains: dict[Key, deque[Parked]] = {}
        """By conversation: the event that is to be tried again, and those held behind it, in order."""
        self._dead: set[int] = set()
        """Dead letters past the cursor: met again after a crash, they stay dead."""
        self._careful: set[int] = set()
        self._out: set[int] = set()
        """Those that were read again and are on their way to the plugin."""
        self._to_park: dict[int, Parked] = {}
        self._to_release: set[int] = set()
        self._gone: set[int] | None = None
        """What was settled since the journal was asked what is parked, while it is being asked."""
        self._more = False
        self._generation = 0

    def __len__(self) -> int:
        return len(self._rows)

    @property
    def unsettled(self) -> bool:
        return bool(self._to_park or self._to_release)

    @property
    def cautious(self) -> bool:
        """Whether an event that might have taken the process down is still to be tried."""
        return bool(self._careful)

    def start(self, standing: Standing, crashed: bool) -> asyncio.Task[None]:
        """Take up what the journal has; after a crash, what was due may have been in flight."""
        self._dead = set(standing.dead_ahead)
        now = self._clock()
        self._careful = {
            row.seq for row in standing.parked if row.seq in standing.crashes or (crashed and row.next_at <= now)
        }
        self._more = _unordered(standing.parked) >= UNORDERED
        self._add(standing.parked)
        return self._retries.start()

    async def stop(self) -> None:
        await self._retries.stop()

    async def look_again(self) -> list[Replay]:
        """Take up those that are new in the journal: dead letters that an operator had retried. Returns the replays
        that are not over."""
        self._gone = set()
        try:
            rows, replays = await self._journal.changes(Track(self._plugin))
            known = self._gone | self._rows.keys() | self._to_park.keys() | self._to_release
        finally:
            self._gone = None
        new = [row for row in rows if row.seq not in known]
        self._more = _unordered(rows) >= UNORDERED
        self._dead.difference_update(row.seq for row in new)
        self._add(new)
        return replays

    @property
    def wants_more(self) -> bool:
        """Whether the journal has more events without an order than could be taken up at once."""
        return self._more and _unordered(self._rows.values()) < UNORDERED // 2

    def go_back(self) -> None:
        """Deliver everything parked again, also what is with the plugin now and what it took since the last
        checkpoint."""
        rows = sorted(self._rows.values(), key=_seq)
        self._generation += 1
        self._retries.clear()
        self._rows.clear()
        self._chains.clear()
        self._out.clear()
        self._add(rows)

    def has(self, seq: int) -> bool:
        """Whether an event is to be tried again, or held."""
        return seq in self._rows

    def meet(self, seq: int) -> bool:
        """The log was read up to this event: whether it is parked or dead, so that it is not the log's to deliver."""
        row = self._rows.get(seq)
        if row is not None and self._is_first(row) and row.conversation is not None:
            self._schedule(row)
        return row is not None or seq in self._dead

    def holds(self, key: Key | None) -> bool:
        """Whether later events of this conversation have to wait."""
        return key in self._chains

    def hold(self, item: Item) -> None:
        """Let an item wait for its turn among those of its conversation."""
        if item.key is not None:
            row, chain = self.park(item, WAITING), self._chains[item.key]
            insort(chain, row, key=_seq)
            if item.careful:
                self._careful.add(item.seq)
            if chain[0] is row:
                self._schedule(row)

    def park(self, item: Item, state: str) -> Parked:
        """Write an item down in a state; it needs its place in the window no more."""
        row = self._row(item)
        row.state = state
        self._rows[item.seq] = self._to_park[item.seq] = row
        self._moved(item)
        return row

    def failed(self, item: Item, outcome: BaseException) -> None:
        """Try an item again after a pause, or bury it when it has had all its attempts."""
        self._out.discard(item.seq)
        error = outcome.cause if isinstance(outcome, PluginFault) else outcome
        row = self._row(item)
        row.attempts += 1
        row.error = describe(error)
        if isinstance(error, Reject):
            self._health.rejected()
        else:
            self._health.failed(row.error if isinstance(error, CallTimeout) else type(error).__name__)
        if isinstance(error, Reject) or row.attempts >= self._delivery.max_attempts:
            self.bury(item, row.attempts, row.error)
            return
        pause = self.pause(row.attempts, error)
        row.next_at = self._clock() + pause
        row.asked = isinstance(error, Retry) and error.after is not None
        self.park(item, RETRYING)
        if item.origin == "log" and item.key is not None:
            self._chains[item.key] = deque((row,))
        self._retries.add(row, pause)

    def bury(self, item: Item, attempts: int, error: str) -> None:
        """Make an item a dead letter; its conversation goes on."""
        row = self.park(item, DEAD)
        row.attempts, row.error, row.since = attempts, error, self._clock()
        del self._rows[item.seq]
        self._dead.add(item.seq)
        self._health.buried(item.event.id, attempts)
        self.through(item)

    def through(self, item: Item) -> None:
        """An item was taken or is dead: on with those held behind it, if any."""
        self._out.discard(item.seq)
        if item.row is not None:
            self._leave(item.row)

    def pause(self, attempts: int, error: BaseException) -> float:
        """Seconds until the next attempt: exponential with full jitter, or what the plugin asked for."""
        if isinstance(error, Retry) and error.after is not None:
            return error.after
        ceiling = min(self._delivery.backoff_max, self._delivery.backoff * 2.0 ** min(attempts - 1, 60))
        return random.uniform(0, ceiling)  # noqa: S311 - jitter

    def settled(self, batch: Iterable[Item], cursor: int) -> tuple[list[Parked], list[int]]:
        """The rows to write and to drop, now that `batch` was taken for good."""
        park, release = self._to_park, self._to_release
        self._to_park, self._to_release = {}, set()
        for item in batch:
            if item.row is not None or item.origin == "replay":
                self._rows.pop(item.seq, None)
                park.pop(item.seq, None)
                release.add(item.seq)
        if self._gone is not None:
            self._gone |= park.keys() | release
        self._dead = {seq for seq in self._dead if seq > cursor}
        return [msgspec.structs.replace(row) for row in park.values()], list(release)

    def _row(self, item: Item) -> Parked:
        if item.row is None:
            item.row = Parked(
                seq=item.seq,
                state=RETRYING,
                since=self._clock(),
                conversation=item.key if item.origin == "log" else None,
                replayed=item.event.replayed,
            )
        return item.row

    def _add(self, rows: Iterable[Parked]) -> None:
        chains = {}
        for row in rows:
            self._rows[row.seq] = row
            if row.conversation is None:
                self._schedule(row)
            else:
                chains[row.conversation] = chain = self._chains.setdefault(row.conversation, deque())
                chain.append(row)
        for chain in chains.values():
            if chain[0].seq <= self._position():
                self._schedule(chain[0])

    def _is_first(self, row: Parked) -> bool:
        return row.conversation is None or next(iter(self._chains.get(row.conversation, ())), None) is row

    def _leave(self, row: Parked) -> None:
        if row.conversation is None or not self._is_first(row):
            return
        chain = self._chains[row.conversation]
        chain.popleft()
        if not chain:
            del self._chains[row.conversation]
        elif chain[0].seq <= self._position():
            self._schedule(chain[0])

    def _schedule(self, row: Parked) -> None:
        now, wait = self._clock(), 0.0
        if row.next_at > now:
            wait = row.next_at - now
            if not row.asked or now < row.since:  # the config may have changed since, and the clock have been put back
                wait = min(wait, self._delivery.backoff_max)
        self._retries.add(row, wait)

    async def _fetch(self, due: list[Parked]) -> None:
        rows = [row for row in due if self._rows.get(row.seq) is row and self._is_first(row)]
        generation = self._generation
        events = await patiently(lambda: self._journal.fetch([row.seq for row in rows]))
        if generation != self._generation:
            return  # all went back meanwhile, these rows too
        items = []
        for row in rows:
            event = events.get(row.seq)
            if event is None:  # the journal has it no more
                del self._rows[row.seq]
                self._to_release.add(row.seq)
                self._leave(row)
                continue
            event = msgspec.structs.replace(event, attempt=row.attempts + 1, redelivered=True, replayed=row.replayed)
            items.append(Item(row.seq, event, row.conversation, "parked", row, row.seq in self._careful))
            self._careful.discard(row.seq)
        self._out.update(item.seq for item in items)
        self._deliver(items)


def _seq(row: Parked) -> int:
    return row.seq


def _unordered(rows: Iterable[Parked]) -> int:
    return sum(row.conversation is None for row in rows)
