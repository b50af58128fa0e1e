"""An operator's filter as SQL. Values are bound, not written into the statement."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Final

import apsw

from gateway.journal.append import first_id
from gateway.journal.interface import DEAD, RETRYING, WAITING, Filter

_PARKED: Final = (
    "seq IN (SELECT p.seq FROM parked p JOIN cursors c ON c.plugin = p.plugin AND c.removed_at IS NULL"
    " WHERE p.state = ? AND p.plugin = coalesce(?, p.plugin))"
)
_OPEN: Final = (
    "SELECT 1 FROM cursors c WHERE c.plugin = coalesce(?, c.plugin) AND c.removed_at IS NULL AND c.begins < events.seq"
)
_UNTAKEN: Final = "c.seq < events.seq"
_STATES: Final = {
    "dead": _PARKED,
    "retrying": _PARKED,
    "waiting": f"(EXISTS ({_OPEN} AND {_UNTAKEN} AND NOT EXISTS (SELECT 1 FROM parked p"
    f" WHERE p.plugin = c.plugin AND p.seq = events.seq)) OR {_PARKED})",
    "delivered": f"(EXISTS ({_OPEN}) AND NOT EXISTS ({_OPEN} AND ({_UNTAKEN} OR EXISTS (SELECT 1 FROM parked p"
    " WHERE p.plugin = c.plugin AND p.seq = events.seq))))",
}
EVERYTHING: Final = 2**63 - 1


def micros(moment: datetime) -> int:
    """Microseconds since 1970."""
    return round(moment.timestamp() * 1_000_000)


def page_from(which: Filter) -> str:
    """The table as a listing reads it: by position, not by the index of ids, which would find and sort all the rest for
    each page."""
    return "events" if which.ids else "events NOT INDEXED"


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
    """A condition on `events`, and its values. `plugin` counts only together with `state`."""
    parts: list[str] = ["1"]
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
    if which.since is not None:  # the index of ids finds the place in time
        add("id >= ? AND received_at >= ?", first_id(micros(which.since)), micros(which.since))
    if which.until is not None:
        add("id < ? AND received_at < ?", first_id(micros(which.until) + 1000), micros(which.until))
    plugin = which.plugin
    if which.state in (DEAD, RETRYING):
        add(_STATES[which.state], which.state, plugin)
    elif which.state == WAITING:
        add(_STATES[WAITING], plugin, WAITING, plugin)
    elif which.state == "delivered":
        add(_STATES["delivered"], plugin, plugin)
    return " AND ".join(parts), tuple(values)
