"""Filters as SQL, and rows as typed events and records. Values are bound, not written into the statement."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final

import apsw
import msgspec

from gateway.decoding import Decoder
from gateway.events import UNKNOWN, Event
from gateway.journal.append import first_id, moment
from gateway.journal.interface import DEAD, DELIVERED, NO_TAKER, RETRYING, WAITING, Filter
from gateway.journal.search import ValueRecord, ValueRecordFilter
from gateway.journal.sqlite.checksum import SEAL

_PARKED: Final = (
    "seq IN (SELECT p.seq FROM parked p JOIN cursors c ON c.plugin = p.plugin AND c.removed_at IS NULL"
    " WHERE p.state = ? AND p.plugin = coalesce(?, p.plugin))"
)
_CAME_AS: Final = f"iif(events.name IS NULL, events.hook, '{UNKNOWN}')"
HAD_HOOK: Final = (
    "(SELECT t.hooks = '*' OR instr(t.hooks, ',*@' || events.organisation || ',')"
    f" OR instr(t.hooks, ',' || {_CAME_AS} || '*,')"
    f" OR instr(t.hooks, ',' || {_CAME_AS} || '*@' || events.organisation || ',')"
    " OR (events.readable AND events.name IS NULL AND (instr(t.hooks, ',' || events.hook || ',')"
    " OR instr(t.hooks, ',' || events.hook || '@' || events.organisation || ',')))"
    " FROM takes t WHERE t.plugin = c.plugin AND t.position < events.seq ORDER BY t.position DESC LIMIT 1) IS NOT 0"
)
"""Whether the plugin of the cursor `c` took such an event when it came: one of `names_of` is among what it takes."""
_OPEN: Final = (
    "SELECT 1 FROM cursors c WHERE c.plugin = coalesce(?, c.plugin) AND c.removed_at IS NULL AND c.begins < events.seq"
    f" AND {HAD_HOOK} AND NOT EXISTS (SELECT 1 FROM parked h WHERE h.plugin = c.plugin AND h.seq = events.seq"
    f" AND h.state = '{NO_TAKER}')"
)
_ROW: Final = (
    "SELECT 1 FROM parked p JOIN cursors c ON c.plugin = p.plugin AND c.removed_at IS NULL"
    f" WHERE p.seq = events.seq AND p.plugin = coalesce(?, p.plugin) AND p.state <> '{NO_TAKER}'"
)
_UNTAKEN: Final = "c.seq < events.seq"
_STATES: Final = {
    "dead": _PARKED,
    "retrying": _PARKED,
    "waiting": f"(EXISTS ({_OPEN} AND {_UNTAKEN} AND NOT EXISTS (SELECT 1 FROM parked p"
    f" WHERE p.plugin = c.plugin AND p.seq = events.seq)) OR {_PARKED})",
    DELIVERED: f"((EXISTS ({_OPEN}) OR EXISTS ({_ROW})) AND NOT EXISTS ({_OPEN} AND {_UNTAKEN})"
    f" AND NOT EXISTS ({_ROW} AND p.state <> '{DELIVERED}'))",
    NO_TAKER: f"NOT EXISTS ({_OPEN}) AND NOT EXISTS ({_ROW})",
}
RECORD_COLUMNS: Final = "number, at, organisation, customer_uid, address, fields, status"
EVERYTHING: Final = 2**63 - 1
ALL: Final = "1"
"""The condition of a filter that selects every event."""


def micros(moment: datetime) -> int:
    """Microseconds since 1970."""
    return round(moment.timestamp() * 1_000_000)


def page_from(which: Filter) -> str:
    """The table as a listing reads it: by position, not by an index, which would find and sort all the rest for each
    page; unless ids or names find few."""
    return "events" if which.ids or which.names else "events NOT INDEXED"


def span(connection: apsw.Connection, which: Filter) -> tuple[int, int]:
    """The first and the last position that `since` and `until` leave."""
    if which.since is None and which.until is None:
        return 1, EVERYTHING
    [(first, last)] = connection.execute(
        "SELECT min(seq), max(seq) FROM events WHERE id >= ? AND id < ?",
        (
            first_id(micros(which.since)) if which.since is not None else "",
            first_id(micros(which.until) + 1000) if which.until is not None else "g",
        ),
    )
    return (1, 0) if first is None else (first, last)


def where(which: Filter) -> tuple[str, tuple[Any, ...]]:
    """A condition on `events`, and its values. `plugin` counts only together with `state` or `names`."""
    parts: list[str] = [ALL]
    values: list[Any] = []

    def add(part: str, *more: Any) -> None:
        parts.append(part)
        values.extend(more)

    if which.ids:
        add(f"id IN ({','.join('?' * len(which.ids))})", *which.ids)
    if which.hook is not None:
        add("hook = ?", which.hook)
    if which.organisation is not None:
        add("organisation = ?", which.organisation)
    if which.conversation is not None:
        add("conversation_id = ?", which.conversation)
    if which.customer is not None:
        add("customer_uid = ?", which.customer)
    if which.address is not None:
        add("has_address(raw, ?)", which.address)
    if which.text is not None:
        add("has_words(raw, ?)", which.text)
    if which.since is not None:  # the index of ids finds the place in time
        add("id >= ? AND received_at >= ?", first_id(micros(which.since)), micros(which.since))
    if which.until is not None:
        add("id < ? AND received_at < ?", first_id(micros(which.until) + 1000), micros(which.until))
    plugin = which.plugin
    if which.state in (DEAD, RETRYING):
        add(_STATES[which.state], which.state, plugin)
    elif which.state == WAITING:
        add(_STATES[WAITING], plugin, WAITING, plugin)
    elif which.state == DELIVERED:
        add(_STATES[DELIVERED], plugin, plugin, plugin, plugin)
    elif which.state == NO_TAKER:
        add(_STATES[NO_TAKER], plugin, plugin)
    if which.names:
        given = f"SELECT 1 FROM parked p WHERE p.seq = events.seq AND p.plugin = ? AND p.state <> '{NO_TAKER}'"
        add(f"name IN ({','.join('?' * len(which.names))}) AND NOT EXISTS ({given})", *which.names, plugin)
    return " AND ".join(parts), tuple(values)


def restore(decoder: Decoder, row: tuple[Any, ...]) -> Event:
    """An event from a row of `EVENT`; what could not be read when it came is tried again."""
    _, event_id, received_at, organisation, hook, conversation_id, customer_uid, _, conflict, *_, raw, name = row
    decoded = decoder.decode_kept(organisation, raw, hook, name)
    return Event(
        id=event_id,
        received_at=moment(received_at),
        organisation=organisation,
        hook=decoded.hook,
        payload=decoded.payload,
        raw=raw,
        readable=decoded.readable,
        conflict=bool(conflict),
        conversation_id=conversation_id,
        customer_uid=customer_uid,
        name=decoded.name,
    )


def keep_record(connection: apsw.Connection, record: ValueRecord) -> None:
    """Keep one record."""
    fields = msgspec.json.encode(record.fields).decode()
    connection.execute(
        f"INSERT INTO value_records ({RECORD_COLUMNS}) VALUES (NULL, ?, ?, ?, ?, ?, ?)",
        (micros(record.at), record.organisation, record.customer_uid, record.address, fields, record.status),
    )
    connection.execute(f"{SEAL['value_records']} WHERE number = last_insert_rowid()")


def restore_record(row: Sequence[Any]) -> ValueRecord:
    """A record from a row of `RECORD_COLUMNS`."""
    _, at, organisation, customer_uid, address, fields, status = row
    return ValueRecord(
        at=moment(at),
        organisation=organisation,
        customer_uid=customer_uid,
        address=address,
        fields=msgspec.json.decode(fields),
        status=status,
    )


def where_record(which: ValueRecordFilter) -> tuple[str, tuple[Any, ...]]:
    """A condition on `value_records`, and its values."""
    fields = msgspec.json.encode(which.fields).decode() if which.fields else None
    conditions = {
        "organisation = ?": which.organisation,
        "customer_uid = ?": which.customer_uid,
        "EXISTS (SELECT 1 FROM json_each(fields) WHERE key IN (SELECT value FROM json_each(?)))": fields,
        "status = ?": which.status,
        "at >= ?": which.since and micros(which.since),
        "at < ?": which.until and micros(which.until),
    }
    given = {condition: value for condition, value in conditions.items() if value is not None}
    return " AND ".join(("1", *given)), tuple(given.values())
