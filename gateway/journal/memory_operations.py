"""The operations of a journal in memory. The methods do what those of `Operator` state."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING

import msgspec

from gateway.journal.erasing import names_in
from gateway.journal.interface import DEAD, DISCARDED, RETRYING, WAITING, Filter, Parked, Replay, Track
from gateway.journal.memory_rows import Cursor
from gateway.journal.operator import CLEARED, KEPT_OPERATIONS, Kind, PluginAnswers, StoredOperation

if TYPE_CHECKING:
    from gateway.journal.memory_store import Store

_LIVE = (RETRYING, WAITING)
_ERASED = Filter(ids=CLEARED)


class MemoryOperations:
    """`replays` are those of operations by their number; `retried` has what a retry has made due and its plugin has not
    got since, with the number of the operation and the attempts of the dead letter."""

    def __init__(self, store: Store) -> None:
        self.kept: dict[int, StoredOperation] = {}
        self.replays: dict[int, Replay] = {}
        self.retried: dict[tuple[str, int], tuple[int, int]] = {}
        self._store = store

    def begin(self, kind: Kind, which: Filter, in_order: bool, now: float) -> StoredOperation:
        store, number = self._store, max(self.kept, default=0) + 1
        if kind in ("retry", "discard"):
            matched = len(list(store.dead(which)))
        else:
            matched = len(store.entries(which, 0, store.newest))
        self.kept[number] = StoredOperation(
            number=number, kind=kind, filter=which, in_order=in_order, begun_at=now, matched=matched
        )
        if kind == "replay":
            self.replays[number] = Replay(
                number=number, plugin=which.plugin or "", filter=which, position=0, until=store.newest, matched=matched
            )
        over = [one.number for one in self.listed(False) if one.state != "running" and not one.left]
        for old in over[KEPT_OPERATIONS:]:
            del self.kept[old]
            self.replays.pop(old, None)
        return self.one(number)

    def one(self, number: int) -> StoredOperation:
        """An operation as it is now."""
        kept = self.kept[number]
        left = sum(operation == number for operation, _ in self.retried.values())
        state, done = kept.state, kept.done
        if kept.kind == "replay":
            replay = self.replays.get(number)
            done = kept.done if replay is None else replay.done
            over = replay is None or replay.position >= replay.until
            state = "finished" if state == "running" and over else state
            left = kept.matched - done if state == "running" else 0
        return msgspec.structs.replace(kept, state=state, done=done, left=left, matched=max(kept.matched, done))

    def listed(self, running: bool) -> list[StoredOperation]:
        found = [self.one(number) for number in sorted(self.kept, reverse=True)]
        return [one for one in found if _is_unended(one)] if running else found

    def replays_on(self, number: int) -> bool:
        """Whether a replay has events left to hand out."""
        replay = self.replays[number]
        return self.kept[number].state == "running" and replay.position < replay.until

    def advance(self, number: int, plugins: Collection[str] | None, now: float) -> StoredOperation:
        operation = self.kept[number]
        if operation.state != "running" or operation.kind not in ("retry", "discard"):
            return self.one(number)
        letters = list(self._store.dead(operation.filter, plugins))
        if operation.kind == "discard":
            for _, row in letters:
                row.state = DISCARDED
        else:
            self._retry(number, letters, operation.in_order)
        operation.done += len(letters)
        self.end(number, None, now)
        return self.one(number)

    def _retry(self, number: int, letters: list[tuple[Cursor, Parked]], in_order: bool) -> None:
        names = {id(cursor): track.plugin for track, cursor in self._store.cursors.items()}
        for cursor, row in letters:
            self.retried[names[id(cursor)], row.seq] = number, row.attempts
            row.state, row.attempts, row.next_at, row.conversation = RETRYING, 0, 0.0, None
            event = self._store.events[row.seq].event
            if in_order and event.conversation_id is not None:
                row.conversation = f"{event.organisation}/{event.conversation_id}"
                chain = [one for one in cursor.parked.values() if one.conversation == row.conversation]
                if any(one.seq < row.seq and one.state in _LIVE for one in chain):
                    row.state = WAITING

    def cancel(self, number: int, now: float) -> None:
        found = self.one(number)
        if found.state == "running" or (found.state == "finished" and found.kind == "retry" and found.left):
            kept = self.kept[number]
            kept.state, kept.ended_at = "cancelled", now
            kept.filter = _ERASED if kept.kind == "forget" else kept.filter

    def of_retry(self, number: int) -> dict[str, list[int]]:
        found: dict[str, list[int]] = {}
        for (plugin, seq), (operation, _) in sorted(self.retried.items()):
            if operation == number:
                found.setdefault(plugin, []).append(seq)
        return found

    def take_back(self, track: Track, number: int, seqs: Collection[int]) -> None:
        cursor = self._store.cursors.get(track)
        for seq in seqs:
            operation, attempts = self.retried.get((track.plugin, seq), (0, 0))
            row = None if cursor is None else cursor.parked.get(seq)
            if operation == number and row is not None and row.state in _LIVE:
                row.state, row.attempts, row.next_at = DEAD, attempts, 0.0
                self.kept[number].done -= 1
            if operation == number:
                del self.retried[track.plugin, seq]

    def erased(self, which: Filter, number: int | None, events: int, records: int) -> None:
        """An erasure was made: it is counted, and what operators asked about the same person is forgotten."""
        for other, operation in self.kept.items():
            if other == number:
                operation.done += events
                operation.value_records += records
            elif _names_them(operation.filter, which):
                operation.filter = _ERASED
                operation.state = "finished" if operation.state == "running" else operation.state
        for replay in self.replays.values():
            if _names_them(replay.filter, which):
                replay.filter, replay.position = _ERASED, replay.until
        gone = [key for key in self.retried if key[1] not in self._store.events]
        for key in gone:
            del self.retried[key]

    def tell_answers(self, number: int, answers: PluginAnswers) -> None:
        self.kept[number].answers = answers

    def clear(self, number: int) -> None:
        self.kept[number].filter = _ERASED

    def end(self, number: int, error: str | None, now: float) -> None:
        operation = self.kept[number]
        operation.state, operation.error, operation.ended_at = "failed" if error else "finished", error, now
        if operation.kind == "forget":
            operation.filter = _ERASED

    def drop_plugin(self, plugin: str) -> None:
        """A plugin's cursor has expired, and with it its replays."""
        for number in [number for number, replay in self.replays.items() if replay.plugin == plugin]:
            self.kept[number].done = self.replays.pop(number).done


def _names_them(asked: Filter, which: Filter) -> bool:
    return bool(names_in(asked) & names_in(which))


def _is_unended(operation: StoredOperation) -> bool:
    if operation.state == "running":
        return operation.kind != "replay"
    return operation.state == "cancelled" and operation.left > 0
