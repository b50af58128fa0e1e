"""The events of one plugin that have a row in the journal, and what of these rows is still to be written."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import msgspec

from gateway.delivery.items import Item
from gateway.journal.attempts import Attempt
from gateway.journal.interface import DEAD, NO_TAKER, UNORDERED, Parked


class ParkedEvents:
    """Parked events by position, and the dead letters past the cursor: met again after a crash, they stay dead."""

    def __init__(self, clock: Callable[[], float], rows: Sequence[Parked], dead_ahead: Iterable[int]) -> None:
        self.items: dict[int, Item] = {}
        self.dead_ahead = set(dead_ahead)
        self.attempts: list[Attempt] = []
        """Those that are still to be written."""
        self._clock = clock
        self._to_park: dict[int, Parked] = {}
        self._to_release: set[int] = set()
        self._writing: set[int] = set()
        """Positions in the settlement that is not durable yet, perhaps because the journal has no room."""
        self._left: set[int] | None = None
        """What was written while the journal is being asked what is parked."""
        self._more = _unordered(rows) >= UNORDERED

    @property
    def unwritten(self) -> bool:
        return bool(self._to_park or self._to_release)

    def park(self, item: Item, state: str) -> Parked:
        """Give an event a row, or change it. It no longer keeps its window open."""
        if item.row is None:
            item.row = Parked(
                seq=item.seq,
                state=state,
                since=self._clock(),
                conversation=None if item.replay else item.key,
                replayed=item.replay,
            )
            if item.conversation is not None:
                item.conversation.parked += 1
        item.row.state = state
        self.items[item.seq] = item
        self._to_park[item.seq] = item.row
        self._to_release.discard(item.seq)
        item.close()
        return item.row

    def bury(self, item: Item, attempts: int, error: str) -> None:
        """Make an event's row a dead letter."""
        row = self.park(item, DEAD)
        row.attempts, row.error, row.since = attempts, error, self._clock()
        del self.items[item.seq]
        self.dead_ahead.add(item.seq)

    def hold_back(self, seq: int) -> None:
        """The plugin's `where` holds an event back, so that it does not count as delivered."""
        self._to_park[seq] = Parked(seq=seq, state=NO_TAKER, since=self._clock())
        self._to_release.discard(seq)

    def not_held_back(self, seq: int) -> None:
        """The opposite, for an event that has been held back before, perhaps."""
        self._to_park.pop(seq, None)
        self._to_release.add(seq)

    def release(self, item: Item) -> None:
        """An event is settled: its row goes, unless it was replayed and an operator has had its dead letter retried
        meanwhile, which comes all the same."""
        if self.items.get(item.seq, item) is item:
            self.items.pop(item.seq, None)
            self._to_park.pop(item.seq, None)
            self._to_release.add(item.seq)

    def take_back(self, seqs: Iterable[int]) -> None:
        """These events are dead letters again: an operator has cancelled their retry."""
        for seq in seqs:
            del self.items[seq]
            self.dead_ahead.add(seq)

    def is_leaving(self, seq: int) -> bool:
        """Whether a change of an event's row is still to be written."""
        return seq in self._to_park or seq in self._to_release or seq in self._writing

    def forget(self, seqs: Iterable[int]) -> None:
        """The events at these positions were erased."""
        gone = set(seqs)
        for seq in gone:
            self.items.pop(seq, None)
            self._to_park.pop(seq, None)
        self.dead_ahead -= gone
        self.attempts = [one for one in self.attempts if one.seq not in gone]

    def changes(self, cursor: int) -> tuple[list[Parked], list[int]]:
        """The rows to write and the positions whose rows go, up to now; `cursor` is the new one."""
        park, release = self._to_park, self._to_release
        self._to_park, self._to_release = {}, set()
        self._writing = park.keys() | release
        if self._left is not None:
            self._left |= self._writing
        if self.dead_ahead:
            self.dead_ahead = {seq for seq in self.dead_ahead if seq > cursor}
        return [msgspec.structs.replace(row) for row in park.values()], list(release)

    def written(self) -> None:
        """The last `changes` are durable."""
        self._writing = set()

    # What operators change: dead letters become rows that are to be retried

    def begin_look(self) -> None:
        """The journal is about to be asked what is parked. What is being written may be missing in its answer."""
        self._left = set(self._writing)

    def end_look(self) -> None:
        self._left = None

    def new_of(self, rows: Sequence[Parked]) -> list[Parked]:
        """Those rows of the journal's answer that are not known, and have not left since it was asked."""
        known = self.items.keys() | self._to_park.keys() | self._to_release | (self._left or set())
        self._more = _unordered(rows) >= UNORDERED
        return [row for row in rows if row.seq not in known]

    @property
    def wants_more(self) -> bool:
        """Whether it is time to ask again, because the journal has more events without a conversation than it returned
        at once."""
        if not self._more:
            return False
        return _unordered([item.row for item in self.items.values() if item.row is not None]) < UNORDERED // 2


def _unordered(rows: Iterable[Parked]) -> int:
    return sum(row.conversation is None for row in rows)
