"""Looking things up in the journal, beside a running gateway or without one."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from datetime import datetime
from typing import Any, Final

import apsw
import msgspec

from gateway.config.tables import Config
from gateway.events import one_line
from gateway.journal.interface import DEAD, DISCARDED, HELD, DeadRow, EventRow, Filter, GivenRow, JournalError
from gateway.journal.sqlite import progress
from gateway.journal.sqlite.filters import page_from, span, where
from gateway.journal.sqlite.rows import COLUMNS, moment
from gateway.journal.sqlite.schema import open_reader_connection, rows, why
from gateway.journal.sqlite.value_records import GivenFilter, listed

PAGE: Final = 500
_SHOWN: Final = {HELD: "waiting"}


def open_reader(config: Config) -> JournalReader:
    """`JournalError` with a sentence where there is no journal, or none that can be read."""
    try:
        return JournalReader(open_reader_connection(config.journal.path))
    except (apsw.Error, OSError) as error:
        raise JournalError(
            f"the journal {config.journal.path} cannot be read: {why(error, config.journal.path)}"
        ) from error


class JournalReader:
    """See `gateway.journal.Reader`. Pages, so that no long read keeps the write-ahead log from being emptied."""

    def __init__(self, connection: apsw.Connection) -> None:
        self._connection = connection

    def close(self) -> None:
        self._connection.close()

    def plugins(self) -> list[str]:
        """The plugin instances that have a cursor and are switched on."""
        return [row[0] for row in self._connection.execute("SELECT plugin FROM cursors WHERE removed_at IS NULL")]

    def knows_plugin(self, name: str) -> bool:
        """Whether anything is kept of a plugin instance, which may be removed since."""
        return self._any("SELECT 1 FROM cursors WHERE plugin = ? UNION ALL SELECT 1 FROM parked WHERE plugin = ?", name)

    def knows_organisation(self, name: str) -> bool:
        """Whether anything is kept of an organisation."""
        return self._any(
            "SELECT 1 FROM events WHERE organisation = ? UNION ALL SELECT 1 FROM given WHERE organisation = ?", name
        )

    def _any(self, sql: str, name: str) -> bool:
        return self._connection.execute(f"{sql} LIMIT 1", (name, name)).fetchone() is not None

    def count(self, which: Filter) -> int:
        """How many events a filter means."""
        condition, values = where(which)
        [(count,)] = self._connection.execute(f"SELECT count(*) FROM events WHERE {condition}", values)
        return int(count)

    def count_dead(self, which: Filter, plugins: Collection[str] | None = None) -> int:
        """How many dead letters a filter means; with `plugins`, of these only."""
        return progress.count_dead(self._connection, which, plugins)

    def events(self, which: Filter, limit: int | None = None, newest: bool = False) -> Iterator[EventRow]:
        """Matching events, oldest first; with `newest` the last `limit` of them, still oldest first."""
        condition, values = where(which)
        first, last = span(self._connection, which)
        after, left = first - 1, limit
        if newest and limit is not None:
            row = self._connection.execute(
                f"SELECT min(seq) FROM (SELECT seq FROM events WHERE {condition} ORDER BY seq DESC LIMIT ?)",
                (*values, limit),
            ).fetchone()
            after = (row[0] if row and row[0] is not None else first) - 1
        while left is None or left > 0:
            size = PAGE if left is None else min(PAGE, left)
            page = rows(
                self._connection,
                f"SELECT {COLUMNS} FROM {page_from(which)} WHERE seq > ? AND seq <= ? AND {condition}"
                " ORDER BY seq LIMIT ?",
                (after, last, *values, size),
            )
            if not page:
                return
            deliveries = self._deliveries(page[0][0], page[-1][0])
            for row in page:
                yield _event_row(row, deliveries)
            after = page[-1][0]
            if left is not None:
                left -= len(page)

    def dead(self, which: Filter, limit: int | None = None) -> Iterator[DeadRow]:
        """Matching dead letters, by event and plugin."""
        condition, values = where(msgspec.structs.replace(which, state=None, plugin=None))
        after, left = (0, ""), limit
        while left is None or left > 0:
            size = PAGE if left is None else min(PAGE, left)
            page = rows(
                self._connection,
                "SELECT events.id, p.plugin, hook, conversation_id, attempts, error, since, p.seq"
                " FROM parked p CROSS JOIN events ON events.seq = p.seq"
                " WHERE state = ? AND p.plugin = coalesce(?, p.plugin) AND (p.seq, p.plugin) > (?, ?)"
                f" AND {condition} ORDER BY p.seq, p.plugin LIMIT ?",
                (DEAD, which.plugin, *after, *values, size),
            )
            if not page:
                return
            for event_id, plugin, hook, conversation_id, attempts, error, since, _ in page:
                yield DeadRow(
                    id=event_id,
                    plugin=plugin,
                    hook=hook,
                    conversation_id=conversation_id,
                    attempts=attempts,
                    error=error,
                    dead_since=moment(int(since * 1_000_000)),
                )
            after = (page[-1][7], page[-1][1])
            if left is not None:
                left -= len(page)

    def given(self, which: GivenFilter, limit: int | None = None, newest: bool = False) -> Iterator[GivenRow]:
        """What custom value requests were given."""
        return listed(self._connection, which, limit, newest)

    def _deliveries(self, first: int, last: int) -> _Deliveries:
        cursors = rows(self._connection, "SELECT plugin, begins, seq FROM cursors WHERE removed_at IS NULL")
        parked = {
            (plugin, seq): state
            for plugin, seq, state in self._connection.execute(
                "SELECT plugin, seq, state FROM parked WHERE seq BETWEEN ? AND ?", (first, last)
            )
        }
        return _Deliveries(cursors, parked)


class _Deliveries:
    """How far each plugin is with each event of a page."""

    def __init__(self, cursors: list[tuple[str, int, int]], parked: dict[tuple[str, int], str]) -> None:
        self._cursors = cursors
        self._parked = parked

    def of(self, seq: int) -> dict[str, str]:
        states = {}
        for plugin, begins, cursor in self._cursors:
            state = self._parked.get((plugin, seq))
            if state == DISCARDED:
                continue
            if state is not None:
                states[plugin] = _SHOWN.get(state, state)
            elif seq > begins:
                states[plugin] = "delivered" if seq <= cursor else "waiting"
        return states


def _event_row(row: tuple[Any, ...], deliveries: _Deliveries) -> EventRow:
    seq, event_id, received_at, organisation, hook, conversation_id, customer_uid, readable, conflict, raw = row
    when: datetime = moment(received_at)
    return EventRow(
        id=event_id,
        received_at=when,
        organisation=organisation,
        hook=hook,
        conversation_id=conversation_id,
        customer_uid=customer_uid,
        readable=bool(readable),
        conflict=bool(conflict),
        deliveries=deliveries.of(seq),
        body=msgspec.Raw(one_line(raw)),
    )
