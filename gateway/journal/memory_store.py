"""What is durable of a journal in memory. The methods do what those of `Cursors` and `Operator` state, each as one
operation of a commit."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Collection, Iterator

import msgspec

from gateway.decoding import Decoder
from gateway.events import UNKNOWN, Event
from gateway.journal.append import Append
from gateway.journal.contents import error_key, has_address, has_words
from gateway.journal.erasing import Erased, Retention, is_about
from gateway.journal.interface import (
    DEAD,
    DELIVERED,
    DISCARDED,
    EVERY_HOOK,
    NO_TAKER,
    RETRYING,
    UNORDERED,
    WAITING,
    Changes,
    Entry,
    Filter,
    JournalDamaged,
    LeaseLost,
    Parked,
    Receipt,
    Replay,
    Settlement,
    Standing,
    Track,
)
from gateway.journal.memory_operations import MemoryOperations
from gateway.journal.memory_rows import Cursor, Kept
from gateway.journal.search import UNKNOWN_NAMES, UnknownName, ValueRecord
from gateway.journal.takes import names_of

_LIVE = (RETRYING, WAITING)


class Store:
    """Events, cursors, replays and value records. A new store is an empty journal."""

    def __init__(self) -> None:
        self.newest = 0
        self.damaged: set[int] = set()
        """Positions of events that are not what was written."""
        self.events: dict[int, Kept] = {}
        self.value_records: list[ValueRecord] = []
        self._bodies: dict[tuple[int | None, bytes], Kept] = {}
        self._owners: dict[str, Kept] = {}
        self.cursors: dict[Track, Cursor] = {}
        self.operations = MemoryOperations(self)
        self.notes: dict[str, str] = {}
        self._replays = self.operations.replays

    def insert(self, append: Append, window: int) -> Receipt:
        """Keep an event; `window` is the dedupe window in microseconds."""
        event, digest, key = append.event, append.digest, append.natural_key
        first = self._bodies.get((append.created, digest)) if digest is not None else None
        if first is not None and abs(append.micros - first.micros) <= window:
            return Receipt(first.event.id, first.event.hook, True, first.event.readable)
        owner = self._owners.get(key) if key is not None else None
        if owner is not None and owner is not first and owner.digest != digest:
            event = msgspec.structs.replace(event, conflict=True)
        self.newest += 1
        kept = self.events[self.newest] = Kept(self.newest, event, append.micros, digest)
        if digest is not None:
            self._bodies[append.created, digest] = kept
        if key is not None and (owner is None or owner is first):
            self._owners[key] = kept
        return append.receipt

    def entries(self, which: Filter, after: int, until: int, limit: int | None = None) -> list[Entry]:
        """Matching events after a position, up to another."""
        seqs, found = list(self.events), list[Entry]()
        for seq in seqs[bisect_right(seqs, after) :]:
            if seq > until or len(found) == limit:
                break
            if self._matches(which, self.events[seq]):
                if seq in self.damaged and not found:
                    raise JournalDamaged(f"the event at position {seq} is damaged")
                if seq in self.damaged:
                    break
                found.append(Entry(seq, self.events[seq].event))
        return found

    def states(self, seq: int) -> dict[str, str]:
        """How far each plugin is with an event: the state of its parked row, or delivered or waiting."""
        found = {}
        for track, cursor in self.cursors.items():
            row = cursor.parked.get(seq)
            if cursor.removed_at is None and (row is not None or (seq > cursor.begins and self._had_hook(cursor, seq))):
                taken = DELIVERED if seq <= cursor.seq else WAITING
                found[track.plugin] = taken if row is None else row.state
        return {plugin: state for plugin, state in found.items() if state != NO_TAKER}

    def _had_hook(self, cursor: Cursor, seq: int) -> bool:
        event = self.events[seq].event
        hooks = next((hooks for after, hooks in reversed(cursor.hooks) if after < seq), (EVERY_HOOK,))
        return any(name in hooks for name in names_of(event.hook, event.organisation, event.readable, event.name))

    def _matches(self, which: Filter, kept: Kept) -> bool:
        event = kept.event
        pairs = (
            (which.hook, event.hook),
            (which.organisation, event.organisation),
            (which.conversation, event.conversation_id),
            (which.customer, event.customer_uid),
        )
        if any(wanted not in (None, found) for wanted, found in pairs) or (which.ids and event.id not in which.ids):
            return False
        if which.address is not None and not has_address(event.raw, which.address):
            return False
        if which.text is not None and not has_words(event.raw, which.text):
            return False
        if which.since is not None and event.received_at < which.since:
            return False
        if which.until is not None and event.received_at >= which.until:
            return False
        if which.names and (event.name not in which.names or self._rows(which.plugin or "", kept.seq)):
            return False
        if which.state is None:
            return True
        states = {state for plugin, state in self.states(kept.seq).items() if which.plugin in (None, plugin)}
        if which.state == NO_TAKER:
            return not states
        return states == {DELIVERED} if which.state == DELIVERED else which.state in states

    def _rows(self, plugin: str, seq: int) -> list[Parked]:
        """The rows of an event at a plugin."""
        cursors = [cursor for track, cursor in self.cursors.items() if track.plugin == plugin]
        rows = [cursor.parked[seq] for cursor in cursors if seq in cursor.parked]
        return [row for row in rows if row.state != NO_TAKER]

    def take(self, track: Track, begins: int, hooks: Collection[str]) -> Standing:
        cursor = self.cursors.setdefault(track, Cursor(begins, begins))
        clean, cursor.clean, cursor.removed_at = cursor.clean, False, None
        cursor.epoch += 1
        if not cursor.hooks or cursor.hooks[-1][1] != tuple(hooks):
            cursor.hooks = [*(one for one in cursor.hooks if one[0] < cursor.seq), (cursor.seq, tuple(hooks))]
        for seq in cursor.running:
            cursor.crashes[seq] = cursor.crashes.get(seq, 0) + 1
        cursor.running.clear()
        dead = [seq for seq, row in cursor.parked.items() if seq > cursor.seq and row.state in (DEAD, DISCARDED)]
        parked, replays = self.changes(track)
        return Standing(cursor.epoch, cursor.seq, clean, parked, sorted(dead), replays, dict(cursor.crashes))

    def _owned(self, track: Track, epoch: int) -> Cursor:
        cursor = self.cursors.get(track)
        if cursor is None or cursor.epoch != epoch:
            raise LeaseLost(f"the cursor of plugin {track.plugin} has been taken again")
        return cursor

    def release(self, track: Track, epoch: int, clean: bool) -> None:
        cursor = self._owned(track, epoch)
        cursor.clean = clean
        cursor.running.clear()

    def settle(self, settlement: Settlement) -> None:
        cursor = self._owned(settlement.track, settlement.epoch)
        for row in settlement.park:
            if row.seq in self.events:  # it may have been erased meanwhile
                cursor.parked[row.seq] = msgspec.structs.replace(row)
            self.operations.retried.pop((settlement.track.plugin, row.seq), None)
        for seq in settlement.release:
            cursor.parked.pop(seq, None)
            self.operations.retried.pop((settlement.track.plugin, seq), None)
        for seq in settlement.replayed:
            kept = self.events.get(seq)
            if kept is None or seq in cursor.parked:
                continue
            as_unknown = kept.event.name is not None and kept.event.hook != UNKNOWN
            if as_unknown or not self._had_hook(cursor, seq):
                cursor.parked[seq] = Parked(seq=seq, state=DELIVERED, replayed=True)
        if settlement.cursor is not None:
            cursor.seq = settlement.cursor
        if settlement.replay is not None:
            number, position, done = settlement.replay
            if (replay := self._replays.get(number)) is not None:
                replay.position, replay.done = position, replay.done + done

    def mark_running(self, track: Track, epoch: int, seq: int) -> None:
        self._owned(track, epoch).running.add(seq)

    def mark_survived(self, track: Track, epoch: int, seq: int) -> None:
        cursor = self._owned(track, epoch)
        cursor.running.discard(seq)
        cursor.crashes.pop(seq, None)

    def changes(self, track: Track) -> Changes:
        cursor = self.cursors.get(track)
        rows = sorted(cursor.parked.values(), key=lambda row: row.seq) if cursor is not None else []
        live = [msgspec.structs.replace(row) for row in rows if row.state in _LIVE]
        ordered = [row for row in live if row.conversation is not None]
        unordered = [row for row in live if row.conversation is None]
        replays = [msgspec.structs.replace(one) for one in self._unfinished() if one.plugin == track.plugin]
        return Changes(ordered + unordered[:UNORDERED], replays)

    def retire(self, keep: Collection[str], now: float) -> None:
        for track, cursor in self.cursors.items():
            if cursor.removed_at is None and track.plugin not in keep:
                cursor.removed_at = now

    def dead(self, which: Filter, plugins: Collection[str] | None = None) -> Iterator[tuple[Cursor, Parked]]:
        """Matching dead letters, of each plugin in order."""
        event_only = msgspec.structs.replace(which, plugin=None, state=None)
        for track, cursor in self.cursors.items():
            if which.plugin in (None, track.plugin) and (plugins is None or track.plugin in plugins):
                for seq, row in sorted(cursor.parked.items()):
                    same = which.error in (None, error_key(row.error))
                    if row.state == DEAD and same and self._matches(event_only, self.events[seq]):
                        yield cursor, row

    def unknown_names(self) -> list[UnknownName]:
        named: dict[str | None, list[Event]] = {}
        for kept in self.events.values():
            if kept.event.hook == UNKNOWN:
                named.setdefault(kept.event.name, []).append(kept.event)
        found = [UnknownName(name, len(of), of[0].received_at, of[-1].received_at) for name, of in named.items()]
        return sorted(found, key=lambda one: (-one.number, one.name or ""))[:UNKNOWN_NAMES]

    def recognise(self, decoder: Decoder, names: Collection[str]) -> None:
        """Give the events that came by one of these names the hook that the decoder now has for it."""
        for kept in self.events.values():
            event = kept.event
            if event.hook == UNKNOWN and event.name is not None and event.name in names and decoder.hook_of(event.name):
                hook = event.name if event.name.startswith("/") else None
                decoded = decoder.decode(event.organisation, event.raw, hook)
                kept.event = msgspec.structs.replace(
                    event, hook=decoded.hook, payload=decoded.payload, readable=decoded.readable
                )

    def _unfinished(self) -> Iterator[Replay]:
        return (replay for number, replay in self._replays.items() if self.operations.replays_on(number))

    def prune(self, now: float, retention: Retention, record_retention: float) -> None:
        """Drop what is older than its retention and needed by no plugin; `now` and `record_retention` in seconds."""
        cutoff, micros = now - retention.default / 1_000_000, int(now * 1_000_000)
        for track, cursor in list(self.cursors.items()):
            if cursor.removed_at is not None and cursor.removed_at < cutoff:
                del self.cursors[track]
                self.operations.drop_plugin(track.plugin)
        needed = [cursor.seq for cursor in self.cursors.values()] + [one.position for one in self._unfinished()]
        rows = [row for cursor in self.cursors.values() for row in cursor.parked.values()]
        kept = {row.seq for row in rows if row.state not in (DISCARDED, DELIVERED, NO_TAKER)}
        last = min(needed, default=self.newest)
        over = {seq for seq, one in self.events.items() if retention.is_over(one.event.hook, one.micros, micros)}
        if gone := {seq for seq in over if seq <= last} - kept:
            self._drop(gone)
        oldest = now - record_retention
        self.value_records = [one for one in self.value_records if one.at.timestamp() >= oldest]

    def _drop(self, gone: Collection[int]) -> None:
        self.events = {seq: one for seq, one in self.events.items() if seq not in gone}
        self._bodies = {key: one for key, one in self._bodies.items() if one.seq not in gone}
        self._owners = {key: one for key, one in self._owners.items() if one.seq not in gone}
        for cursor in self.cursors.values():
            cursor.parked = {seq: row for seq, row in cursor.parked.items() if seq not in gone}
            cursor.crashes = {seq: count for seq, count in cursor.crashes.items() if seq not in gone}

    def forget(self, which: Filter, number: int | None) -> Erased:
        gone = {seq for seq, kept in self.events.items() if self._matches(which, kept)}
        self._drop(gone)
        kept = [one for one in self.value_records if not is_about(one, which)]
        records, self.value_records = len(self.value_records) - len(kept), kept
        self.operations.erased(which, number, len(gone), records)
        return Erased(len(gone), records, gone)
