"""How far each plugin is with the events of a page, and how it got there."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple

import msgspec

from gateway.journal.append import moment
from gateway.journal.interface import DEAD, DELIVERED, DISCARDED, EVERY_HOOK, NO_TAKER, RETRYING, WAITING
from gateway.journal.postgresql.columns import EVENT
from gateway.journal.postgresql.reading import Reading
from gateway.journal.search import AttemptRow, EventRow, overall_state
from gateway.journal.takes import names_of
from gateway.json_text import one_line

_EVENTS = f"SELECT {EVENT}, bucket FROM events WHERE seq = ANY($1) ORDER BY seq"
_CURSORS = (
    "SELECT p.plugin, p.begins, p.shards, c.shard, c.seq, c.floors FROM plugins p"
    " LEFT JOIN cursors c ON c.plugin = p.plugin WHERE p.removed_at IS NULL"
)
_PASSED = (
    "SELECT asked.plugin, asked.seq,"
    " (SELECT m.at FROM marks m WHERE m.plugin = asked.plugin AND m.shard = asked.shard AND m.seq < asked.seq"
    " ORDER BY m.seq DESC LIMIT 1),"
    " (SELECT m.at FROM marks m WHERE m.plugin = asked.plugin AND m.shard = asked.shard AND m.seq >= asked.seq"
    " ORDER BY m.seq LIMIT 1)"
    " FROM unnest($1::text[], $2::int[], $3::bigint[]) AS asked (plugin, shard, seq)"
)


class PluginCursor(NamedTuple):
    """How far a plugin is: by shard the position, and by bucket what was done before the number of shards changed."""

    begins: int
    shards: int
    positions: dict[int, int]
    floors: dict[int, Sequence[int | None]]

    def has_had(self, seq: int, bucket: int) -> bool:
        """Whether the plugin has had the event, unless that is parked."""
        shard = bucket % self.shards
        floors = self.floors.get(shard)
        return seq <= max(self.positions.get(shard, self.begins), (floors[bucket] or 0) if floors else 0)


def cursors_of(reading: Reading) -> dict[str, PluginCursor]:
    """The cursors of the plugins that are not retired, by their names in order."""
    found: dict[str, PluginCursor] = {}
    for plugin, begins, shards, shard, seq, floors in reading.rows(_CURSORS):
        cursor = found.setdefault(plugin, PluginCursor(begins, shards, {}, {}))
        if shard is not None:
            cursor.positions[shard] = seq
            if floors is not None:
                cursor.floors[shard] = floors
    return dict(sorted(found.items()))


class PageDeliveries:
    """The events at a page's positions, with their deliveries."""

    def __init__(self, reading: Reading, seqs: Sequence[int], times: bool) -> None:
        """With `times`, it is looked up when cursors passed them."""
        self._cursors = cursors_of(reading)
        self._states: dict[tuple[str, int], str] = {}
        self._next_try: dict[int, dict[str, datetime]] = {}
        self._attempts = _attempts_of(reading, seqs)
        self._noted: dict[str, list[tuple[int, str]]] = {}
        for plugin, position, hooks in reading.rows("SELECT plugin, position, hooks FROM takes ORDER BY position"):
            self._noted.setdefault(plugin, []).append((position, hooks))
        sql = "SELECT plugin, seq, state, attempts, error, since, next_at FROM parked WHERE seq = ANY($1)"
        for row in reading.rows(sql, seqs):
            self._add_parked(*row)
        self._events = reading.rows(_EVENTS, seqs)
        self._passed = self._limits(reading) if times else None

    def rows(self) -> list[EventRow]:
        """The lines of the events, in order."""
        return [self._row(event) for event in self._events]

    def _add_parked(
        self, plugin: str, seq: int, state: str, attempts: int, error: str, since: float, next_at: float
    ) -> None:
        self._states[plugin, seq] = state
        if not attempts or state not in (DEAD, RETRYING):
            return
        if state == RETRYING:
            self._next_try.setdefault(seq, {})[plugin] = moment(int(next_at * 1_000_000))
        known = self._attempts.setdefault(seq, {}).setdefault(plugin, [])
        if not known:  # it was copied from a journal of a version that did not keep them
            at = moment(int(since * 1_000_000)) if state == DEAD else None
            known.append(AttemptRow(at=at, attempt=attempts, error=error, ms=None))

    def _row(self, event: Mapping[str, Any]) -> EventRow:
        seq, states = event["seq"], self._of(event)
        between: dict[str, tuple[datetime, datetime]] | msgspec.UnsetType = msgspec.UNSET
        if self._passed is not None:
            between = {name: limits for name in states if (limits := self._passed.get((name, seq))) is not None}
        return EventRow(
            id=str(event["id"]),
            received_at=event["received_at"],
            organisation=event["organisation"],
            hook=event["hook"],
            conversation_id=event["conversation_id"],
            customer_uid=event["customer_uid"],
            readable=event["readable"],
            conflict=event["conflict"],
            name=event["name"],
            state=overall_state(states),
            deliveries={plugin: state for plugin, state in states.items() if state != DISCARDED},
            attempts=self._attempts.get(seq, {}),
            next_try=self._next_try.get(seq, {}),
            delivered_between=between,
            body=msgspec.Raw(one_line(event["raw"])),
        )

    def _of(self, event: Mapping[str, Any]) -> dict[str, str]:
        """The state of each plugin's delivery. None of plugins without a hook for the event, or whose `where` held
        it back."""
        seq, bucket = event["seq"], event["bucket"]
        return {
            plugin: self._states.get((plugin, seq), DELIVERED if cursor.has_had(seq, bucket) else WAITING)
            for plugin, cursor in self._cursors.items()
            if self._states.get((plugin, seq)) != NO_TAKER
            and (
                (plugin, seq) in self._states or (seq > cursor.begins and _had_hook(self._noted.get(plugin, []), event))
            )
        }

    def _limits(self, reading: Reading) -> dict[tuple[str, int], tuple[datetime, datetime]]:
        """Between which times cursors passed events that were taken at once, by plugin and position; without those
        that have no mark after them yet."""
        received = {event["seq"]: event["received_at"] for event in self._events}
        at_once = [
            (plugin, event["bucket"] % self._cursors[plugin].shards, event["seq"])
            for event in self._events
            for plugin, state in self._of(event).items()
            if state == DELIVERED and plugin not in self._attempts.get(event["seq"], {})
        ]
        found = reading.rows(_PASSED, *map(list, zip(*at_once, strict=True))) if at_once else []
        return {
            (plugin, seq): (min(max(received[seq], before or received[seq]), after), after)
            for plugin, seq, before, after in found
            if after is not None
        }


def _attempts_of(reading: Reading, seqs: Sequence[int]) -> dict[int, dict[str, list[AttemptRow]]]:
    """The attempts at these events by position and plugin, oldest first."""
    sql = "SELECT seq, plugin, at, number, ms, error FROM attempts WHERE seq = ANY($1) ORDER BY seq, plugin, at"
    found: dict[int, dict[str, list[AttemptRow]]] = {}
    for seq, plugin, at, number, ms, error in reading.rows(sql, seqs):
        made = AttemptRow(attempt=number, error=error or None, at=at, ms=ms)
        found.setdefault(seq, {}).setdefault(plugin, []).append(made)
    return found


def _had_hook(noted: list[tuple[int, str]], event: Mapping[str, Any]) -> bool:
    """See `HAD_HOOK`. `noted` are the hooks of a plugin, by the positions that they were noted at."""
    place = bisect_left(noted, event["seq"], key=lambda one: one[0])
    hooks = noted[place - 1][1] if place else EVERY_HOOK
    names = names_of(event["hook"], event["organisation"], event["readable"], event["name"])
    return hooks == EVERY_HOOK or any(f",{name}," in hooks for name in names)
