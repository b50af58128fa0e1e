"""Filters as SQL for PostgreSQL, and rows as records. Values are parameters, not parts of a statement.

Within a condition, `events` is the event's row. What a plugin has had of it is told by `p`, its row of `plugins`, and
by `c`, the cursor of the shard that the event belongs to.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any, Final
from uuid import UUID

import msgspec

from gateway.events import UNKNOWN
from gateway.journal.append import first_id
from gateway.journal.contents import error_key, has_words, wanted_words
from gateway.journal.interface import DEAD, DELIVERED, NO_TAKER, RETRYING, WAITING, Filter
from gateway.journal.postgresql.columns import storable
from gateway.journal.search import ValueRecord, ValueRecordFilter
from gateway.selector import address_key

RECORD_COLUMNS: Final = "number, at, organisation, customer_uid, address, fields, status"
EVERYTHING: Final = 2**63 - 1
ALL: Final = "true"
"""The condition of a filter that selects every event."""
CURSORS: Final = "plugins p LEFT JOIN cursors c ON c.plugin = p.plugin AND c.shard = events.bucket % p.shards"
"""Each plugin with the cursor that the event is delivered by."""
HAD: Final = "greatest(coalesce(c.seq, p.begins), coalesce(c.floors[events.bucket + 1], 0))"
"""The position up to which the plugin has had the events of this event's bucket. What is parked is an exception."""
_CAME_AS: Final = f"CASE WHEN events.name IS NULL THEN events.hook ELSE '{UNKNOWN}' END"
HAD_HOOK: Final = (
    "coalesce((SELECT t.hooks = '*' OR strpos(t.hooks, ',*@' || events.organisation || ',') > 0"
    f" OR strpos(t.hooks, ',' || {_CAME_AS} || '*,') > 0"
    f" OR strpos(t.hooks, ',' || {_CAME_AS} || '*@' || events.organisation || ',') > 0"
    " OR (events.readable AND events.name IS NULL AND (strpos(t.hooks, ',' || events.hook || ',') > 0"
    " OR strpos(t.hooks, ',' || events.hook || '@' || events.organisation || ',') > 0))"
    " FROM takes t WHERE t.plugin = p.plugin AND t.position < events.seq ORDER BY t.position DESC LIMIT 1), true)"
)
"""Whether the plugin `p` took such an event when it came: one of `names_of` is among what it takes."""
_OPEN: Final = (
    f"SELECT 1 FROM {CURSORS} WHERE p.removed_at IS NULL AND p.begins < events.seq AND {HAD_HOOK}"
    " AND NOT EXISTS (SELECT 1 FROM parked h WHERE h.plugin = p.plugin AND h.seq = events.seq"
    f" AND h.state = '{NO_TAKER}')"
)
_ROW: Final = (
    "SELECT 1 FROM parked r JOIN plugins p ON p.plugin = r.plugin AND p.removed_at IS NULL"
    f" WHERE r.seq = events.seq AND r.state <> '{NO_TAKER}'"
)
_UNSURE: Final = r"encode(events.raw, 'escape') ~ '\\\\u|\\[0-7]{3}'"
"""A body with letters outside of ASCII, or with escapes: only `has_words` can tell whether it has a word."""


class Parameters:
    """The values of a statement in the order of their numbers; `first` is the number of the first one."""

    def __init__(self, first: int = 1) -> None:
        self.values: list[Any] = []
        self._first = first

    def add(self, value: object, kind: str) -> str:
        """The place of a value in the statement; `kind` is its type in PostgreSQL."""
        self.values.append(storable(value) if isinstance(value, str) else value)
        return f"${self._first + len(self.values) - 1}::{kind}"

    def text(self, value: str) -> str:
        """The place of a text."""
        return self.add(value, "text")

    def texts(self, values: tuple[str, ...]) -> str:
        """The place of an array of texts."""
        return self.add([storable(value) for value in values], "text[]")


def where(which: Filter, first: int = 1) -> tuple[str, tuple[Any, ...]]:
    """A condition on `events`, and its values: the parameters from `first` on. `plugin` counts only together with
    `state` or `names`. Where `left_to_check` is a function, the rows that the condition finds have to pass that, too.
    """
    place = Parameters(first)
    parts: list[str] = []
    if which.ids:
        parts.append(f"events.id = ANY({place.add(_uuids(which.ids), 'uuid[]')})")
    if which.hook is not None:
        parts.append(f"events.hook = {place.text(which.hook)}")
    if which.organisation is not None:
        parts.append(f"events.organisation = {place.text(which.organisation)}")
    if which.conversation is not None:
        parts.append(whole("events.conversation_id", place.text(which.conversation)))
    if which.customer is not None:
        parts.append(whole("events.customer_uid", place.text(which.customer)))
    if which.address is not None:
        key = address_key(which.address)
        parts.append(whole("events.address", place.text(key)) if key else "false")
    if which.text is not None:
        parts.append(_words(which.text, place))
    if which.since is not None:  # the index of ids finds the place in time
        least = place.add(UUID(first_id(_micros(which.since))), "uuid")
        parts.append(f"events.id >= {least} AND events.received_at >= {place.add(which.since, 'timestamptz')}")
    if which.until is not None:
        most = place.add(UUID(first_id(_micros(which.until) + 1000)), "uuid")
        parts.append(f"events.id < {most} AND events.received_at < {place.add(which.until, 'timestamptz')}")
    parts += _state(which, place)
    if which.names:
        given = f"SELECT 1 FROM parked g WHERE g.seq = events.seq AND g.state <> '{NO_TAKER}'"
        given += f" AND g.plugin = {place.text(which.plugin or '')}"
        parts.append(f"events.name = ANY({place.texts(which.names)}) AND NOT EXISTS ({given})")
    return " AND ".join(parts) or ALL, tuple(place.values)


def left_to_check(which: Filter) -> Callable[[bytes], bool] | None:
    """What `where` does not tell of a body: whether the message has the words of `text`. None where it tells all."""
    if (text := which.text) is None:
        return None
    return lambda raw: has_words(raw, text)


def same_cause(which: Filter) -> Callable[[str], bool] | None:
    """What SQL does not tell of a dead letter's error: whether it is of the cause that the filter names."""
    if (cause := which.error) is None:
        return None
    return lambda error: error_key(error) == cause


def _micros(moment: datetime) -> int:
    return round(moment.timestamp() * 1_000_000)


def _uuids(ids: tuple[str, ...]) -> list[UUID]:
    found: list[UUID] = []
    for text in ids:
        try:
            found.append(UUID(text))
        except ValueError:  # no event has this id
            continue
    return found


def whole(column: str, place: str) -> str:
    """Equality for a column whose index has only the beginning of each text."""
    return f"left({column}, 256) = left({place}, 256) AND {column} = {place}"


def _words(text: str, place: Parameters) -> str:
    """Leaves out bodies that cannot have the words: see `left_to_check`."""
    wanted = [word for word, _ in wanted_words(text)]
    if not wanted:
        return "false"
    if not all(map(str.isascii, wanted)):
        return _UNSURE
    body = "lower(encode(events.raw, 'escape') COLLATE \"C\")"
    has = " AND ".join(f"{body} LIKE {place.text(f'%{word}%')}" for word in wanted)
    return f"({has} OR {_UNSURE})"


def _state(which: Filter, place: Parameters) -> list[str]:
    if which.state is None:
        return []
    plugin = "" if which.plugin is None else f" AND p.plugin = {place.text(which.plugin)}"
    parked = (
        "events.seq IN (SELECT r.seq FROM parked r JOIN plugins p ON p.plugin = r.plugin AND p.removed_at IS NULL"
        f" WHERE r.state = '{which.state}'{plugin})"
    )
    no_row = "NOT EXISTS (SELECT 1 FROM parked r WHERE r.plugin = p.plugin AND r.seq = events.seq)"
    ahead = f"{_OPEN}{plugin} AND {HAD} < events.seq"
    if which.state in (DEAD, RETRYING):
        return [parked]
    if which.state == WAITING:
        return [f"(EXISTS ({ahead} AND {no_row}) OR {parked})"]
    if which.state == DELIVERED:
        taken = f"(EXISTS ({_OPEN}{plugin}) OR EXISTS ({_ROW}{plugin}))"
        return [f"{taken} AND NOT EXISTS ({ahead}) AND NOT EXISTS ({_ROW}{plugin} AND r.state <> '{DELIVERED}')"]
    if which.state == NO_TAKER:
        return [f"NOT EXISTS ({_OPEN}{plugin}) AND NOT EXISTS ({_ROW}{plugin})"]
    return []


def restore_record(row: Mapping[str, Any]) -> ValueRecord:
    """A record from a row of `RECORD_COLUMNS`."""
    return ValueRecord(
        at=row["at"],
        organisation=row["organisation"],
        customer_uid=row["customer_uid"],
        address=row["address"],
        fields=msgspec.json.decode(row["fields"]),
        status=row["status"],
    )


def where_record(which: ValueRecordFilter, first: int = 1) -> tuple[str, tuple[Any, ...]]:
    """A condition on `value_records`, and its values: the parameters from `first` on."""
    place = Parameters(first)
    parts: list[str] = []
    if which.organisation is not None:
        parts.append(f"organisation = {place.text(which.organisation)}")
    if which.customer_uid is not None:
        parts.append(whole("customer_uid", place.text(which.customer_uid)))
    if which.fields:
        parts.append(f"fields::jsonb ?| {place.texts(which.fields)}")
    if which.status is not None:
        parts.append(f"status = {place.add(which.status, 'int')}")
    if which.since is not None:
        parts.append(f"at >= {place.add(which.since, 'timestamptz')}")
    if which.until is not None:
        parts.append(f"at < {place.add(which.until, 'timestamptz')}")
    return " AND ".join(parts) or ALL, tuple(place.values)
