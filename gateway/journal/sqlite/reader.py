"""Search in SQLite, page by page: a long read would keep the write-ahead log from being restarted."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import closing
from itertools import chain, islice
from pathlib import Path
from typing import Any, Final

import apsw
import msgspec

from gateway.config.tables import Config
from gateway.journal.append import moment
from gateway.journal.damage import DamagedPlace
from gateway.journal.interface import DEAD, Filter, JournalError
from gateway.journal.operator import StoredOperation
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
from gateway.journal.sqlite import operations, summaries
from gateway.journal.sqlite.checksum import SOUND, sound_events
from gateway.journal.sqlite.connection import open_reader_connection, rows, why
from gateway.journal.sqlite.deliveries import Deliveries
from gateway.journal.sqlite.finding import Finder
from gateway.journal.sqlite.layout import LAYOUT, layout_of
from gateway.journal.sqlite.queries import (
    EVERYTHING,
    RECORD_COLUMNS,
    restore_record,
    where,
    where_record,
)
from gateway.journal.sqlite.search_file import SearchFile, search_path
from gateway.journal.sqlite.summaries import dead_groups, id_after, position_before, unreadable
from gateway.journal.sqlite.timeline import timeline

PAGE: Final = 500
STEPS: Final = 100_000
"""Steps of SQLite between two looks at the clock."""


def open_search(config: Config) -> SqliteSearch:
    """See `gateway.journal.open_reader`."""
    path = config.journal.path
    try:
        return SqliteSearch(open_reader_connection(path), SearchFile.to_read(search_path(path)))
    except (apsw.Error, OSError) as error:
        raise JournalError(f"the journal {path} cannot be read: {why(error, path)}") from error


def unknown_names(path: Path, running: bool) -> list[UnknownName]:
    """See `gateway.journal.kept_as_unknown`."""
    try:
        if running:
            connection = open_reader_connection(path)
        else:  # leaves no files beside it
            look = apsw.SQLITE_OPEN_READONLY | apsw.SQLITE_OPEN_URI
            connection = apsw.Connection(f"{path.absolute().as_uri()}?immutable=1", flags=look)
        with closing(connection):
            return summaries.unknown_names(connection) if layout_of(connection, path) == LAYOUT else []
    except (apsw.Error, OSError) as error:
        raise JournalError(f"the journal {path} cannot be read: {why(error, path)}") from error


class SqliteSearch:
    """See `Search`."""

    def __init__(self, connection: apsw.Connection, index: SearchFile | None = None) -> None:
        self._connection = connection
        self._finder = Finder(connection, index)
        self.damaged: list[int] = []
        self.damaged_records = 0

    def close(self) -> None:
        self._finder.close()
        self._connection.close()

    @property
    def unindexed(self) -> int:
        return self._finder.unindexed

    def plugins(self) -> list[str]:
        return [plugin for (plugin,) in rows(self._connection, "SELECT plugin FROM cursors WHERE removed_at IS NULL")]

    def knows_plugin(self, name: str) -> bool:
        return self._any("SELECT 1 FROM cursors WHERE plugin = ? UNION ALL SELECT 1 FROM parked WHERE plugin = ?", name)

    def knows_organisation(self, name: str) -> bool:
        sql = "SELECT 1 FROM {} WHERE organisation = ?"
        return self._any(f"{sql.format('events')} UNION ALL {sql.format('value_records')}", name)

    def _any(self, sql: str, name: str) -> bool:
        return bool(rows(self._connection, f"{sql} LIMIT 1", (name, name)))

    def count(self, which: Filter) -> int:
        return operations.count(self._connection, which, EVERYTHING)

    def count_dead(self, which: Filter, plugins: Collection[str] | None = None) -> int:
        return operations.count_dead(self._connection, which, plugins)

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
            page = Deliveries(self._connection, seqs)
            self.damaged += page.damaged
            found = f"events WHERE seq IN ({','.join('?' * len(seqs))}) ORDER BY seq"
            for row in sound_events(self._connection, found, seqs, self.damaged.append):
                yield page.event_row(row, times)

    def _listed(
        self, which: Filter, size: int, limit: int | None, newest: bool, before: str | None
    ) -> Iterator[list[int]]:
        """Pages of the positions of matching events; see `events`."""
        if newest and limit is not None:
            end = EVERYTHING if before is None else position_before(self._connection, before)
            backwards = chain.from_iterable(self._finder.pages([which], size, newest=True, before=end))
            seqs = list(islice(backwards, limit))[::-1]
            yield from (seqs[start : start + PAGE] for start in range(0, len(seqs), PAGE))
            return
        left = sys.maxsize if limit is None else limit
        for page in self._finder.pages([which], size):
            if page:
                yield page[:left]
            left -= len(page)
            if left <= 0:
                return

    def dead(self, which: Filter, limit: int | None = None) -> Iterator[DeadRow]:
        condition, values = where(msgspec.structs.replace(which, state=None, plugin=None))
        sql = (
            "SELECT p.seq, p.plugin, events.id, hook, conversation_id, attempts, error, since, sound"
            f" FROM (SELECT *, {SOUND['parked']} AS sound FROM parked) p CROSS JOIN events ON events.seq = p.seq"
            f" WHERE (p.seq, p.plugin) > (?, ?) AND state = '{DEAD}' AND p.plugin = coalesce(?, p.plugin)"
            f" AND error_key(error) = coalesce(?, error_key(error)) AND {condition} ORDER BY p.seq, p.plugin"
        )
        for page in self._pages(sql, lambda row: (*row[:2], which.plugin, which.error, *values), (0, ""), limit):
            for seq, plugin, event_id, hook, conversation_id, attempts, error, since, sound in page:
                if not sound:
                    self.damaged.append(seq)
                    continue
                yield DeadRow(
                    id=event_id,
                    plugin=plugin,
                    hook=hook,
                    conversation_id=conversation_id,
                    attempts=attempts,
                    error=error,
                    dead_since=moment(int(since * 1_000_000)),
                )

    def value_records(
        self, which: ValueRecordFilter, limit: int | None = None, newest: bool = False
    ) -> Iterator[ValueRecord]:
        condition, values = where_record(which)
        first = 1
        if newest and limit is not None:
            first = self._first_of_newest("number", f"value_records WHERE {condition}", values, limit)
        columns = f"{RECORD_COLUMNS}, {SOUND['value_records']}"
        sql = f"SELECT {columns} FROM value_records WHERE number > ? AND {condition} ORDER BY number"
        for page in self._pages(sql, lambda row: (row[0], *values), (first - 1,), limit):
            for *row, sound in page:
                if sound:
                    yield restore_record(row)
                else:
                    self.damaged_records += 1

    def timeline(self, which: Filter) -> Iterator[EventHappened | ValuesAsked]:
        return timeline(self._connection, which, self._finder, self.value_records, self.damaged.append)

    def _first_of_newest(self, key: str, source: str, values: tuple[Any, ...], limit: int) -> int:
        newest = f"SELECT {key} FROM {source} ORDER BY {key} DESC LIMIT ?"
        [(first,)] = rows(self._connection, f"SELECT min({key}) FROM ({newest})", (*values, limit))
        return int(first or 1)

    def _pages(
        self, sql: str, bound: Callable[[tuple[Any, ...]], tuple[Any, ...]], row: tuple[Any, ...], limit: int | None
    ) -> Iterator[list[Any]]:
        """Pages of a query; `bound` gives its values from the last row before the page."""
        left, keys = limit, len(row)
        while left is None or left > 0:
            size = PAGE if left is None else min(PAGE, left)
            page = rows(self._connection, f"{sql} LIMIT ?", (*bound(row), size))
            if not page:
                return
            yield page
            if tuple(page[-1][:keys]) <= row[:keys]:  # or it would go on for ever
                raise DamagedPlace("the order of its rows")
            row = page[-1]
            left = None if left is None else left - len(page)

    def unknown_names(self) -> list[UnknownName]:
        return summaries.unknown_names(self._connection)

    def dead_groups(self, which: Filter) -> list[DeadGroup]:
        return dead_groups(self._connection, which)

    def unreadable(self) -> list[UnreadableBodies]:
        return unreadable(self._connection)

    def operations(self, limit: int) -> list[StoredOperation]:
        return operations.listed(self._connection, limit, False)

    def operation(self, number: int) -> StoredOperation | None:
        return operations.found(self._connection, number)

    def limit(self, seconds: float, page_seconds: float | None = None) -> None:
        end = time.monotonic() + seconds
        for connection in self._finder.connections():
            connection.set_progress_handler(lambda: time.monotonic() > end, STEPS)
        self._finder.stop_at = None if page_seconds is None else time.monotonic() + page_seconds

    def goes_on_before(self) -> str | None:
        return None if self._finder.stopped is None else id_after(self._connection, self._finder.stopped)

    def names(self) -> list[str]:
        return [name for (name,) in rows(self._connection, "SELECT DISTINCT name FROM events WHERE name IS NOT NULL")]
