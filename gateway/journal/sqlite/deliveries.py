"""How far each plugin is with the events of a page, and how it got there."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from datetime import datetime
from typing import Any

import apsw
import msgspec

from gateway.journal.append import moment
from gateway.journal.interface import DEAD, DELIVERED, DISCARDED, EVERY_HOOK, NO_TAKER, RETRYING, WAITING
from gateway.journal.search import AttemptRow, EventRow, overall_state
from gateway.journal.sqlite.checksum import SOUND
from gateway.journal.sqlite.connection import rows
from gateway.journal.sqlite.progress import attempts_of, passed
from gateway.journal.takes import names_of
from gateway.json_text import one_line


class Deliveries:
    """The deliveries of the events at a page's positions."""

    def __init__(self, connection: apsw.Connection, seqs: Sequence[int]) -> None:
        self._connection = connection
        self._cursors = rows(connection, "SELECT plugin, begins, seq FROM cursors WHERE removed_at IS NULL")
        self._states: dict[tuple[str, int], str] = {}
        self._next_try: dict[int, dict[str, datetime]] = {}
        self._attempts = attempts_of(connection, seqs)
        self._noted: dict[str, list[tuple[int, str]]] = {}
        for plugin, position, hooks in rows(connection, "SELECT plugin, position, hooks FROM takes ORDER BY position"):
            self._noted.setdefault(plugin, []).append((position, hooks))
        self._unsure: set[tuple[str, int]] = set()
        sql = f"SELECT {SOUND['parked']}, plugin, seq, state, attempts, error, since, next_at FROM parked WHERE seq IN"
        for sound, plugin, seq, *parked in rows(connection, f"{sql} ({','.join('?' * len(seqs))})", seqs):
            if sound:
                self._add_parked(plugin, seq, *parked)
            else:
                self._unsure.add((plugin, seq))

    @property
    def damaged(self) -> list[int]:
        """The positions of events with a delivery whose state is not what was written."""
        return sorted({seq for _, seq in self._unsure})

    def _add_parked(
        self, plugin: str, seq: int, state: str, attempts: int, error: str, since: float, next_at: float
    ) -> None:
        self._states[plugin, seq] = state
        if not attempts or state not in (DEAD, RETRYING):
            return
        if state == RETRYING:
            self._next_try.setdefault(seq, {})[plugin] = moment(int(next_at * 1_000_000))
        known = self._attempts.setdefault(seq, {}).setdefault(plugin, [])
        if not known:  # it was parked by a version that did not keep them
            at = moment(int(since * 1_000_000)) if state == DEAD else None
            known.append(AttemptRow(at=at, attempt=attempts, error=error, ms=None))

    def event_row(self, row: tuple[Any, ...], times: bool) -> EventRow:
        """The line of an event, from a row of `EVENT`; with `times` also when cursors passed it."""
        seq, event_id, received_at, organisation, hook, conversation_id, customer_uid, readable, conflict, *_ = row
        states = self._of(row)
        attempts = self._attempts.get(seq, {})
        between: dict[str, tuple[datetime, datetime]] | msgspec.UnsetType = msgspec.UNSET
        if times:
            at_once = [name for name, state in states.items() if state == DELIVERED and name not in attempts]
            found = [(name, passed(self._connection, name, seq, moment(received_at))) for name in at_once]
            between = {name: limits for name, limits in found if limits is not None}
        return EventRow(
            id=event_id,
            received_at=moment(received_at),
            organisation=organisation,
            hook=hook,
            conversation_id=conversation_id,
            customer_uid=customer_uid,
            readable=bool(readable),
            conflict=bool(conflict),
            name=row[13],
            state=overall_state(states),
            deliveries={plugin: state for plugin, state in states.items() if state != DISCARDED},
            attempts=attempts,
            next_try=self._next_try.get(seq, {}),
            delivered_between=between,
            body=msgspec.Raw(one_line(row[12])),
        )

    def _of(self, row: tuple[Any, ...]) -> dict[str, str]:
        """The state of each plugin's delivery. None of plugins without a hook for the event, or whose `where` held
        it back."""
        seq = row[0]
        return {
            plugin: self._states.get((plugin, seq), DELIVERED if seq <= cursor else WAITING)
            for plugin, begins, cursor in self._cursors
            if (plugin, seq) not in self._unsure
            and self._states.get((plugin, seq)) != NO_TAKER
            and ((plugin, seq) in self._states or (seq > begins and _had_hook(self._noted.get(plugin, []), row)))
        }


def _had_hook(noted: list[tuple[int, str]], row: tuple[Any, ...]) -> bool:
    """See `HAD_HOOK`. `noted` are the hooks of a plugin, by the positions that they were noted at."""
    place = bisect_left(noted, row[0], key=lambda one: one[0])
    hooks = noted[place - 1][1] if place else EVERY_HOOK
    return hooks == EVERY_HOOK or any(f",{name}," in hooks for name in names_of(row[4], row[3], row[7], row[13]))
