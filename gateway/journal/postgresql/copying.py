"""A journal in PostgreSQL as the source of a copy to another engine, and as the target of one: see
`journal/copying.py`."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from uuid import UUID

import msgspec

from gateway.config.tables import Config
from gateway.journal.copying import MICROS, NOTES, TABLES, TEXT, CopiedTable, Row
from gateway.journal.interface import JournalError
from gateway.journal.postgresql.columns import address_in, bucket_of
from gateway.journal.postgresql.layout import copied_from, upgrade
from gateway.journal.postgresql.reading import Reading
from gateway.journal.postgresql.tables import MARKER

LOCK: Final = 0x77656263
"""The first half of the number of the lock that one copy into a schema holds."""
ROWS: Final = 200
"""Rows that are fetched at a time."""
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)
_BUSY: Final = (
    "SELECT name FROM nodes WHERE stopped_at IS NULL AND beat_at > clock_timestamp() - interval '15 seconds'"
    " UNION SELECT owner_name FROM cursors WHERE lease_until > clock_timestamp() LIMIT 1"
)
_STATE: Final = (
    f"SELECT concat_ws(' ', (SELECT journal FROM {MARKER}), (SELECT seq FROM head), (SELECT sum(epoch) FROM cursors),"
    " (SELECT max(beat_at) FROM nodes), (SELECT count(*) FROM nodes), (SELECT max(number) FROM operations))"
)
_DONE: Final = (
    "(SELECT min(greatest(coalesce(c.seq, p.begins), coalesce(c.floors[bucket + 1], 0)))"
    " FROM generate_series(0, 63) AS bucket LEFT JOIN cursors c ON c.plugin = p.plugin AND c.shard = bucket % p.shards)"
)
"""The position up to which every shard of the plugin `p` has had all events."""
_SOURCES: Final = {
    "cursors": (
        f"(SELECT p.plugin, p.begins, {_DONE} AS seq, p.removed_at,"
        " coalesce((SELECT max(epoch) FROM cursors c WHERE c.plugin = p.plugin), 0) AS epoch,"
        " coalesce((SELECT bool_and(clean) FROM cursors c WHERE c.plugin = p.plugin), true) AS clean FROM plugins p)"
    ),
    "marks": "(SELECT m.seq, m.plugin, m.at FROM marks m JOIN plugins p ON p.plugin = m.plugin AND p.shards = 1)",
    "replays": (
        "(SELECT number, min(plugin) AS plugin, min(filter) AS filter, min(position) AS position, max(until) AS until,"
        " sum(matched)::bigint AS matched, sum(done)::bigint AS done,"
        " CASE WHEN bool_and(finished_at IS NOT NULL) THEN max(finished_at) END AS finished_at"
        " FROM replays GROUP BY number)"
    ),
    "notes": f"(SELECT name, value FROM notes WHERE name ~ '^({'|'.join(NOTES)})')",
}
"""In place of a table of that name, as if each plugin had one shard."""
_TYPES: Final = {"integer": "bigint", "text": "text", MICROS: "timestamptz"}
_NUMBERED: Final = ("operations", "value_records")


class _DatabaseRows:
    """The rows of a journal's tables, as they are in one transaction."""

    name: str
    _reading: Reading

    def rows(self, table: CopiedTable, after: Row | None = None) -> Iterator[Row]:
        work = self._pages(table, after)
        while (page := self._reading.run(_next(work))) is not None:
            yield from page

    async def _pages(self, table: CopiedTable, after: Row | None) -> AsyncIterator[list[Row]]:
        names = list(table.columns)
        keys = [_ordered(table, name) for name in names[: table.keys]]
        columns = [f"{name}::text" if (table.name, name) == ("events", "id") else name for name in names]
        condition = ""
        if after is not None:
            places = (f"${n}::{_TYPES[table.columns[name]]}" for n, name in enumerate(names[: table.keys], 1))
            condition = f" WHERE ({', '.join(keys)}) > ({', '.join(places)})"
        source = _SOURCES.get(table.name, table.name)
        sql = f"SELECT {', '.join(columns)} FROM {source} AS t{condition} ORDER BY {', '.join(keys)}"
        times = [place for place, kind in enumerate(table.columns.values()) if kind == MICROS]
        cursor = await self._reading.connection.cursor(sql, *_values(table, after or ()))
        while rows := await cursor.fetch(ROWS):
            yield [_neutral(row, times) for row in rows]


class DatabaseSource(_DatabaseRows):
    """A journal in PostgreSQL to copy from, on which no gateway runs."""

    def __init__(self, config: Config) -> None:
        self.name = str(config.journal.url)
        self._config = config
        self._reading = Reading(config, "copy")
        try:
            _require_idle(self._reading, self.name)
            self._reading.execute("SET idle_in_transaction_session_timeout = 0")
            self._reading.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
        except BaseException:
            self._reading.close()
            raise

    def state(self) -> str:
        now = Reading(self._config, "copy")  # beside the transaction, which sees what was when it began
        try:
            _require_idle(now, self.name)
            return str(now.value(_STATE))
        finally:
            now.close()

    def close(self) -> None:
        self._reading.close()


class DatabaseTarget(_DatabaseRows):
    """An empty database, or an empty schema. Until the copy is complete, the journal's layout refuses gateways."""

    def __init__(self, config: Config) -> None:
        self.name = str(config.journal.url)
        self._node = config.node.name
        self._reading = Reading(config, "copy", copying=True)
        try:
            self._reading.execute("SET idle_in_transaction_session_timeout = 0")
            if not self._reading.value(f"SELECT pg_try_advisory_lock({LOCK}, hashtext(current_schema()))"):
                raise JournalError(f"another process copies a journal to {self.name}")
        except BaseException:
            self._reading.close()
            raise

    def begun(self) -> tuple[str, str] | None:
        found = self._reading.run(copied_from(self._reading.connection))
        if found is not None:
            return msgspec.json.decode(found, type=tuple[str, str])
        if self._reading.value("SELECT to_regclass($1)", MARKER) is None:
            return None
        _require_idle(self._reading, self.name)
        for table in TABLES:
            name = "plugins" if table.name == "cursors" else table.name
            if table.name != "head" and self._reading.value(f"SELECT EXISTS (SELECT FROM {name})"):
                raise JournalError(
                    f"{self.name} has a journal already: its table {name} is not empty. Name an empty database, or an"
                    " empty schema with ?search_path="
                )
        return None

    def begin(self, source: str, state: str) -> None:
        note = msgspec.json.encode((source, state)).decode()
        names = {"plugins", *(table.name for table in TABLES)} - {"head"}
        self._reading.run(upgrade(self._reading.connection, copying=True))
        self._reading.execute("BEGIN")
        self._reading.execute(f"TRUNCATE {', '.join(sorted(names))}")
        self._reading.execute("UPDATE head SET seq = 0")
        self._reading.rows(f"UPDATE {MARKER} SET copy_of = $1", note)
        self._reading.execute("COMMIT")

    def rows(self, table: CopiedTable, after: Row | None = None) -> Iterator[Row]:
        self._reading.execute("BEGIN")
        try:
            yield from super().rows(table, after)
        finally:
            self._reading.execute("COMMIT")

    def last(self, table: CopiedTable) -> Row | None:
        if table.name == "head":
            return None
        names = list(table.columns)[: table.keys]
        order = ", ".join(f"{_ordered(table, name)} DESC" for name in names)
        source = _SOURCES.get(table.name, table.name)
        found = self._reading.rows(f"SELECT {', '.join(names)} FROM {source} AS t ORDER BY {order} LIMIT 1")
        times = [place for place, name in enumerate(names) if table.columns[name] == MICROS]
        return _neutral(found[0], times) if found else None

    def put(self, table: CopiedTable, rows: list[Row]) -> None:
        self._reading.run(self._put(table, [_values(table, row) for row in rows]))

    async def _put(self, table: CopiedTable, rows: list[tuple[Any, ...]]) -> None:
        connection, names = self._reading.connection, list(table.columns)

        async def into(name: str, columns: list[str], records: list[tuple[Any, ...]]) -> None:
            await connection.copy_records_to_table(name, records=records, columns=columns)

        async with connection.transaction():
            if table.name == "head":
                await connection.execute("UPDATE head SET seq = $1", rows[0][0])
            elif table.name == "events":
                await into("events", [*names, "bucket", "address", "node"], [_event(row, self._node) for row in rows])
            elif table.name == "cursors":
                await into("plugins", ["plugin", "begins", "removed_at"], [(row[0], row[1], row[3]) for row in rows])
                cursors = [(plugin, 0, seq, epoch, clean) for plugin, _, seq, _, epoch, clean in rows]
                await into("cursors", ["plugin", "shard", "seq", "epoch", "clean"], cursors)
            elif table.name in ("parked", "suspects"):
                seqs = [row[0] for row in rows]
                buckets = dict(await connection.fetch("SELECT seq, bucket FROM events WHERE seq = ANY($1)", seqs))
                await into(table.name, [*names, "bucket"], [(*row, buckets.get(row[0], 0)) for row in rows])
            elif table.name in ("marks", "replays"):
                await into(table.name, [*names, "shard"], [(*row, 0) for row in rows])
            else:
                await into(table.name, names, rows)

    def finish(self) -> None:
        for name in _NUMBERED:
            last = "coalesce(max(number), 1), max(number) IS NOT NULL"
            self._reading.value(f"SELECT setval(pg_get_serial_sequence('{name}', 'number'), {last}) FROM {name}")
        for name in ("events", "parked", "attempts", "value_records"):
            self._reading.execute(f"ANALYZE {name}")  # else nothing is known of them when the first search comes
        self._reading.execute(f"UPDATE {MARKER} SET copy_of = NULL")

    def close(self) -> None:
        self._reading.close()

    def state(self) -> str:
        return ""


async def _next(pages: AsyncIterator[list[Row]]) -> list[Row] | None:
    return await anext(pages, None)


def _require_idle(reading: Reading, name: str) -> None:
    if (node := reading.value(_BUSY)) is not None:
        raise JournalError(f"the journal {name} is in use by the gateway {node}; stop its gateways first")


def _ordered(table: CopiedTable, name: str) -> str:
    """A key column as an order that all engines have."""
    return f'{name} COLLATE "C"' if table.columns[name] == TEXT else name


def _neutral(row: Any, times: list[int]) -> Row:
    values = list(row)
    for place in times:
        if values[place] is not None:
            values[place] = (values[place] - _EPOCH) // _MICROSECOND
    return tuple(values)


def _values(table: CopiedTable, row: Row) -> tuple[Any, ...]:
    """The values of columns, or of the first of them, for the driver."""
    return tuple(
        _EPOCH + value * _MICROSECOND if kind == MICROS and value is not None else value
        for kind, value in zip(table.columns.values(), row, strict=False)
    )


def _event(row: tuple[Any, ...], node: str) -> tuple[Any, ...]:
    seq, event_id, received_at, organisation, hook, conversation_id, *rest, raw = row
    bucket = bucket_of(organisation, conversation_id, event_id)
    return (
        seq,
        UUID(event_id),
        received_at,
        organisation,
        hook,
        conversation_id,
        *rest,
        raw,
        bucket,
        address_in(raw),
        node,
    )
