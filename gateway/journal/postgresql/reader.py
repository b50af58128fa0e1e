"""Search in PostgreSQL. Each page is a statement of its own, so a listing that is read slowly holds nothing up."""

from __future__ import annotations

import sys
import time
from collections.abc import Collection, Iterator, Sequence
from contextlib import closing
from itertools import chain, islice
from typing import Any, Final
from uuid import UUID

from gateway.config.tables import Config
from gateway.journal.interface import Filter
from gateway.journal.operator import StoredOperation
from gateway.journal.postgresql import dead_letters, letters, operations, summaries, unknown
from gateway.journal.postgresql.deliveries import PageDeliveries
from gateway.journal.postgresql.finding import EventFinder
from gateway.journal.postgresql.queries import (
    RECORD_COLUMNS,
    left_to_check,
    restore_record,
    where,
    where_record,
)
from gateway.journal.postgresql.reading import Reading
from gateway.journal.postgresql.state_limits import EVERYTHING
from gateway.journal.postgresql.timeline import timeline
from gateway.journal.search import (
    DeadGroup,
    DeadRow,
    EventHappened,
    EventRow,
    UnknownName,
    UnreadableBodies,
    ValueRecord,
    ValueRecordFilter,
    ValuesAsked,
)

PAGE: Final = 500
_SIZE: Final = (
    "SELECT sum(pg_total_relation_size(oid)) FROM pg_class"
    " WHERE relkind = 'r' AND relnamespace = current_schema()::regnamespace"
)


def open_search(config: Config) -> PostgresqlSearch:
    """See `gateway.journal.open_reader`."""
    return PostgresqlSearch(Reading(config))


def unknown_names(config: Config) -> list[UnknownName]:
    """See `gateway.journal.kept_as_unknown`."""
    with closing(Reading(config)) as reading:
        return reading.run(unknown.unknown_names(reading.connection))


def size(config: Config) -> int:
    """The size of the journal's tables with their indexes, in bytes."""
    with closing(Reading(config)) as reading:
        return int(reading.value(_SIZE))


class PostgresqlSearch:
    """See `Search`."""

    def __init__(self, reading: Reading) -> None:
        self._reading = reading
        self._finder = EventFinder(reading)
        self.damaged: list[int] = []
        """Always empty: PostgreSQL refuses a page that is damaged."""
        self.damaged_records = 0

    def close(self) -> None:
        self._reading.close()

    @property
    def unindexed(self) -> int:
        return 0

    def plugins(self) -> list[str]:
        found = self._reading.rows("SELECT plugin FROM plugins WHERE removed_at IS NULL")
        return sorted(plugin for (plugin,) in found)

    def knows_plugin(self, name: str) -> bool:
        sql = "EXISTS (SELECT FROM plugins WHERE plugin = $1) OR (SELECT min(seq) FROM parked WHERE plugin = $1) > 0"
        return bool(self._reading.value(f"SELECT {sql}", name))

    def knows_organisation(self, name: str) -> bool:
        sql = "SELECT 1 FROM {} WHERE organisation = $1"
        found = f"{sql.format('events')} UNION ALL {sql.format('value_records')} LIMIT 1"
        return self._reading.value(found, name) is not None

    def count(self, which: Filter) -> int:
        if left_to_check(which) is not None:
            return sum(map(len, self._finder.pages(which, PAGE)))
        condition, values = where(which)
        return int(self._reading.value(f"SELECT count(*) FROM events WHERE {condition}", *values))

    def count_dead(self, which: Filter, plugins: Collection[str] | None = None) -> int:
        return self._reading.run(letters.count_dead(self._reading.connection, which, plugins))

    def events(
        self,
        which: Filter,
        limit: int | None = None,
        newest: bool = False,
        times: bool = False,
        before: str | None = None,
    ) -> Iterator[EventRow]:
        size = PAGE if limit is None else min(PAGE, limit)
        for seqs in self._listed(which, size, limit, newest, before):
            yield from PageDeliveries(self._reading, seqs, times).rows()

    def _listed(
        self, which: Filter, size: int, limit: int | None, newest: bool, before: str | None
    ) -> Iterator[list[int]]:
        """Pages of the positions of matching events; see `events`."""
        if newest and limit is not None:
            end = EVERYTHING if before is None else self._position_before(before)
            backwards = chain.from_iterable(self._finder.pages(which, size, newest=True, before=end))
            seqs = list(islice(backwards, limit))[::-1]
            yield from (seqs[start : start + PAGE] for start in range(0, len(seqs), PAGE))
            return
        left = sys.maxsize if limit is None else limit
        for page in self._finder.pages(which, size):
            yield page[:left]
            left -= len(page)
            if left <= 0:
                return

    def _position_before(self, event_id: str) -> int:
        """The position of an event; where the journal no longer has it, that of the next one by its id."""
        try:
            found = self._reading.value("SELECT seq FROM events WHERE id >= $1 ORDER BY id LIMIT 1", UUID(event_id))
        except ValueError:  # no event has such an id
            return EVERYTHING
        return EVERYTHING if found is None else int(found)

    def dead(self, which: Filter, limit: int | None = None) -> Iterator[DeadRow]:
        return dead_letters.listed(self._reading, which, limit)

    def value_records(
        self, which: ValueRecordFilter, limit: int | None = None, newest: bool = False
    ) -> Iterator[ValueRecord]:
        condition, values = where_record(which, 3)
        first = 0
        if newest and limit is not None:
            first = self._before_newest(which, limit)
        sql = f"SELECT {RECORD_COLUMNS} FROM value_records WHERE number > $1 AND {condition} ORDER BY number LIMIT $2"
        for page in self._pages(sql, values, (first,), limit):
            yield from map(restore_record, page)

    def _before_newest(self, which: ValueRecordFilter, limit: int) -> int:
        """The number before that of the first of the newest records."""
        condition, values = where_record(which, 2)
        newest = f"SELECT number FROM value_records WHERE {condition} ORDER BY number DESC LIMIT $1"
        return int(self._reading.value(f"SELECT min(number) FROM ({newest}) newest", limit, *values) or 1) - 1

    def _pages(
        self, sql: str, values: Sequence[object], place: tuple[Any, ...], limit: int | None
    ) -> Iterator[list[Any]]:
        """Pages of a query: its first parameters are the first columns of the last row before the page, and then the
        most rows of it."""
        left = sys.maxsize if limit is None else limit
        while left > 0 and (page := self._reading.rows(sql, *place, min(PAGE, left), *values)):
            yield page
            place = tuple(page[-1])[: len(place)]
            left -= len(page)

    def timeline(self, which: Filter) -> Iterator[EventHappened | ValuesAsked]:
        return timeline(self._reading, which, self._finder, self.value_records)

    def unknown_names(self) -> list[UnknownName]:
        return self._reading.run(unknown.unknown_names(self._reading.connection))

    def dead_groups(self, which: Filter) -> list[DeadGroup]:
        return summaries.dead_groups(self._reading, which)

    def unreadable(self) -> list[UnreadableBodies]:
        return summaries.unreadable(self._reading)

    def operations(self, limit: int) -> list[StoredOperation]:
        return self._reading.run(operations.listed(self._reading.connection, limit, False))

    def operation(self, number: int) -> StoredOperation | None:
        return self._reading.run(operations.found(self._reading.connection, number))

    def limit(self, seconds: float, page_seconds: float | None = None) -> None:
        self._reading.limit(seconds)
        self._finder.stop_at = None if page_seconds is None else time.monotonic() + page_seconds

    def goes_on_before(self) -> str | None:
        if self._finder.stopped is None:
            return None
        found = self._reading.value("SELECT id FROM events WHERE seq > $1 ORDER BY seq LIMIT 1", self._finder.stopped)
        return None if found is None else str(found)

    def names(self) -> list[str]:
        found = self._reading.rows(
            "WITH RECURSIVE names AS (SELECT min(name) AS name FROM events WHERE name IS NOT NULL UNION ALL"
            " SELECT (SELECT min(name) FROM events WHERE name > names.name) FROM names WHERE names.name IS NOT NULL)"
            " SELECT name FROM names WHERE name IS NOT NULL"
        )
        return [name for (name,) in found]
