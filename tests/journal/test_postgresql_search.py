"""What is special about searching a journal in PostgreSQL: by indexes, with shards, for a bounded time."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from journal_kit import config_of
from rich_journal import in_database
from schemas import Schema

from gateway.config.tables import Config
from gateway.journal import journal_space, kept_as_unknown, open_journal, open_reader
from gateway.journal.interface import DEAD, DELIVERED, RETRYING, WAITING, Filter, JournalError
from gateway.journal.postgresql import finding, reader
from gateway.journal.postgresql.reader import PostgresqlSearch
from gateway.journal.postgresql.reading import Reading
from gateway.journal.search import Search, SearchTooSlow, ValueRecordFilter

EVENTS = 30_000
_FILL = f"""
INSERT INTO events (seq, id, received_at, organisation, hook, conversation_id, customer_uid, readable, conflict, name,
    address, bucket, node, raw)
SELECT n, (lpad(to_hex(1767225600000 + n * 1000), 12, '0') || '70008000' || lpad(to_hex(n), 12, '0'))::uuid,
    timestamptz '2026-01-01 00:00+00' + n * interval '1 second', 'acme',
    CASE WHEN n % 100 = 0 THEN 'unknown' ELSE 'payment' END, n % 3000, n % 2000, n % 500 <> 1, false,
    CASE WHEN n % 100 = 0 THEN 'odd ' || n % 7 END, '44' || n % 2500, n % 64, 'test',
    convert_to('{{"type": "payment", "body": "number ' || n || '"}}', 'UTF8')
FROM generate_series(1, {EVENTS}) n;
UPDATE head SET seq = {EVENTS};
INSERT INTO plugins (plugin, begins, shards) VALUES ('crm', 0, 1), ('archive', 0, 4), ('late', 15000, 1);
INSERT INTO cursors (plugin, shard, seq) SELECT 'archive', n, 20000 + n FROM generate_series(0, 3) n;
INSERT INTO cursors (plugin, shard, seq) VALUES ('crm', 0, 29000), ('late', 0, 29500);
INSERT INTO takes VALUES ('crm', 0, '*'), ('archive', 0, ',payment,'), ('late', 0, '*');
INSERT INTO parked SELECT 'crm', n, n % 64, CASE WHEN n % 50 = 0 THEN 'dead' ELSE 'no taker' END, 3, 0,
    'ValueError: number ' || n || ' at a.py:8', 1767225600 + n, NULL, false, false FROM generate_series(1, 20000) n;
INSERT INTO parked SELECT 'archive', n, n % 64, CASE WHEN n % 100 = 0 THEN 'dead' ELSE 'retrying' END, 3, 0, 'OSError',
    1767225600 + n, NULL, false, false FROM generate_series(1, 20000, 9) n;
INSERT INTO attempts SELECT n, 'archive', to_timestamp(1767225600 + n), 1, 2.5, 'OSError'
    FROM generate_series(1, 20000, 3) n;
INSERT INTO value_records (at, organisation, customer_uid, fields, status)
    SELECT to_timestamp(1767225600 + n), 'acme', n % 2000, '{{"balance": {{}}}}', 200
    FROM generate_series(1, {EVENTS}) n;
ANALYZE events, parked, attempts, value_records;
"""


def journal_in(directory: Path, schema: Schema, *statements: str) -> Config:
    """A journal in the schema, after these statements."""
    config = in_database(config_of(directory), schema)

    async def make() -> None:
        journal = open_journal(config)
        await journal.start()
        await journal.close()

    asyncio.run(make())
    schema.execute(*statements)
    return config


@pytest.fixture
def schema() -> Iterator[Schema]:
    made = Schema()
    yield made
    made.drop()


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Config]:
    """A journal with some 10,000 rows in each of the large tables."""
    schema = Schema()
    yield journal_in(tmp_path_factory.mktemp("large"), schema, _FILL)
    schema.drop()


def sequential(plan: dict[str, Any]) -> Iterator[str]:
    """The tables that a plan reads from one end to the other."""
    if plan["Node Type"] in ("Seq Scan", "Sample Scan"):
        yield plan["Relation Name"]
    for child in plan.get("Plans", ()):
        yield from sequential(child)


class Explained(Reading):
    """Notes the plans of what it runs."""

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self.read_whole: dict[str, str] = {}
        self.statements = 0

    def rows(self, sql: str, *values: object) -> list[Any]:
        self.statements += 1
        [(text,)] = super().rows(f"EXPLAIN (FORMAT JSON) {sql}", *values)
        for table in sequential(json.loads(text)[0]["Plan"]):
            self.read_whole[table] = sql
        return super().rows(sql, *values)

    def value(self, sql: str, *values: object) -> Any:
        found = self.rows(sql, *values)
        return found[0][0] if found else None


LARGE_TABLES = {"events", "parked", "attempts", "value_records"}
AN_ID = str(UUID(int=((1767225600000 + 20017 * 1000) << 80) + (0x7000_8000 << 48) + 20017))
QUESTIONS: dict[str, Callable[[Search], Any]] = {
    "customer": lambda search: list(search.events(Filter(customer="17"), 20, newest=True)),
    "customer, all": lambda search: list(search.events(Filter(customer="17"), times=True)),
    "customer within a time": lambda search: list(
        search.events(Filter(customer="17", since=datetime(2026, 1, 1, 2, tzinfo=UTC)))
    ),
    "customer with a state": lambda search: list(search.events(Filter(customer="100", state=DEAD))),
    "conversation": lambda search: list(search.events(Filter(conversation="17"), 20, newest=True)),
    "address": lambda search: list(search.events(Filter(address="4417"), 20, newest=True)),
    "id": lambda search: list(search.events(Filter(ids=(AN_ID,)))),
    "before": lambda search: list(search.events(Filter(customer="17"), 20, newest=True, before=AN_ID)),
    "newest": lambda search: list(search.events(Filter(), 20, newest=True)),
    "organisation": lambda search: list(search.events(Filter(organisation="acme"), 20, newest=True)),
    "dead": lambda search: list(search.events(Filter(state=DEAD), 20, newest=True)),
    "dead of a plugin": lambda search: list(search.events(Filter(state=DEAD, plugin="crm"), 20)),
    "retrying": lambda search: list(search.events(Filter(state=RETRYING, plugin="archive"), 20)),
    "waiting": lambda search: list(search.events(Filter(state=WAITING, plugin="crm"), 20, newest=True)),
    "delivered": lambda search: list(search.events(Filter(state=DELIVERED), 20, newest=True)),
    "since": lambda search: list(search.events(Filter(since=datetime(2026, 1, 1, 5, tzinfo=UTC)), 20)),
    "dead letters": lambda search: list(search.dead(Filter(), 20)),
    "dead letters of a plugin": lambda search: list(search.dead(Filter(plugin="crm"), 20)),
    "dead letters of a customer": lambda search: list(search.dead(Filter(customer="100"))),
    "dead groups": lambda search: search.dead_groups(Filter(plugin="archive")),
    "unknown names": lambda search: (search.names(), search.unknown_names()),
    "unreadable": lambda search: search.unreadable(),
    "timeline": lambda search: list(search.timeline(Filter(customer="17"))),
    "timeline of a conversation": lambda search: list(search.timeline(Filter(conversation="17"))),
    "values of a customer": lambda search: list(search.value_records(ValueRecordFilter(customer_uid="17"))),
    "newest values": lambda search: list(search.value_records(ValueRecordFilter(), 20, newest=True)),
    "count of a customer": lambda search: search.count(Filter(customer="17")),
    "plugin known": lambda search: search.knows_plugin("crm"),
}


@pytest.mark.parametrize("question", QUESTIONS)
def test_an_index_finds_it(large: Config, question: str) -> None:
    """No table of events, deliveries or records is read from one end to the other, but for a few parked events that are
    compared with a window of others."""
    reading = Explained(large)
    with closing(PostgresqlSearch(reading)) as search:
        assert QUESTIONS[question](search)
    allowed = {"parked"} if question in ("waiting", "delivered") else set()
    assert {table: sql for table, sql in reading.read_whole.items() if table in LARGE_TABLES - allowed} == {}


def test_a_listing_by_customer_takes_few_statements(large: Config) -> None:
    """Each is a round trip."""
    reading = Explained(large)
    with closing(PostgresqlSearch(reading)) as search:
        assert len(list(search.events(Filter(customer="17"), 20, newest=True))) == 15
    assert reading.statements <= 8


@pytest.mark.parametrize("page", [1, 7, 500])
def test_pages_lose_nothing_and_repeat_nothing(large: Config, monkeypatch: pytest.MonkeyPatch, page: int) -> None:
    """Also where a window ends between two pages."""
    monkeypatch.setattr(reader, "PAGE", page)
    monkeypatch.setattr(finding, "WINDOW", 1000)
    with closing(open_reader(large)) as search:
        which = Filter(hook="unknown", since=datetime(2026, 1, 1, 5, tzinfo=UTC))
        every = [row.id for row in search.events(which)]
        assert len(every) == len(set(every)) == search.count(which) == 121
        assert [row.id for row in search.events(which, 25, newest=True)] == every[-25:]
        assert [row.id for row in search.events(which, 25)] == every[:25]
        dead = [(row.id, row.plugin) for row in search.dead(Filter(customer="100"))]
        assert len(dead) == len(set(dead)) == search.count_dead(Filter(customer="100")) == 12


def test_a_search_that_takes_too_long_ends(large: Config) -> None:
    """By the clock here, and by the server's."""
    with closing(PostgresqlSearch(Reading(large))) as search:
        search.limit(0.2)
        with pytest.raises(SearchTooSlow, match="took too long"):
            search._reading.rows("SELECT pg_sleep(60)")
        with pytest.raises(SearchTooSlow):
            while True:
                list(search.events(Filter(), 1))
        assert search._reading._connection.is_closed() is False


def test_a_page_that_takes_too_long_says_where_it_goes_on(large: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    """Page by page it finds what one search without a limit finds."""
    monkeypatch.setattr(finding, "WINDOW", 3000)
    which = Filter(text="number", hook="unknown")
    with closing(open_reader(large)) as search:
        every = [row.id for row in search.events(which)]
        assert search.goes_on_before() is None
    found: list[str] = []
    before = None
    while True:
        with closing(open_reader(large)) as search:
            search.limit(60, 0.0)
            found = [row.id for row in search.events(which, 100, newest=True, before=before)] + found
            before = search.goes_on_before()
        if before is None:
            break
    assert found == every


def test_a_delivery_goes_by_the_cursor_of_its_shard(tmp_path: Path, schema: Schema) -> None:
    """And by what was done before the number of shards changed; the filter agrees with the listing."""
    floors = ",".join("6" if bucket == 5 else "0" for bucket in range(64))
    config = journal_in(
        tmp_path,
        schema,
        "INSERT INTO events (seq, id, received_at, organisation, hook, readable, conflict, bucket, node, raw)"
        " SELECT n, gen_random_uuid(), now(), 'acme', 'payment', true, false, n - 1, 'test', '{}'"
        " FROM generate_series(1, 8) n",
        "UPDATE head SET seq = 8",
        "INSERT INTO plugins (plugin, begins, shards) VALUES ('crm', 1, 2)",
        f"INSERT INTO cursors (plugin, shard, seq, floors) VALUES ('crm', 0, 3, NULL), ('crm', 1, 2, '{{{floors}}}')",
    )
    with closing(open_reader(config)) as search:
        rows = list(search.events(Filter()))
        states = [row.deliveries.get("crm") for row in rows]
        assert states == [None, DELIVERED, DELIVERED, WAITING, WAITING, DELIVERED, WAITING, WAITING]
        for state in (DELIVERED, WAITING, "no taker"):
            expected = [row.id for row in rows if row.state == state]
            assert [row.id for row in search.events(Filter(state=state))] == expected
            assert [row.id for row in search.events(Filter(state=state, plugin="crm"), 8, newest=True)] == expected
            assert search.count(Filter(state=state)) == len(expected)


def test_clocks_that_differ_lose_no_event_by_time(tmp_path: Path, schema: Schema) -> None:
    """Ids follow the clock of the gateway that received an event, and positions do not."""
    from gateway.journal.append import Appends

    appends = Appends(lambda: 0.0)
    start = 1_767_225_600
    times = [start + 60 * n + (-300 if n % 2 else 300) for n in range(40)]
    values = ", ".join(
        f"({n}, '{appends.new_id(time * 1_000_000)}', to_timestamp({time}), 'acme', 'payment', true, false, 0, 'a', '')"
        for n, time in enumerate(times, 1)
    )
    columns = "seq, id, received_at, organisation, hook, readable, conflict, bucket, node, raw"
    config = journal_in(tmp_path, schema, f"INSERT INTO events ({columns}) VALUES {values}")
    with closing(open_reader(config)) as search:
        for edge in range(start - 400, start + 60 * 41, 130):
            moment = datetime.fromtimestamp(edge, UTC)
            since = [row.received_at.timestamp() for row in search.events(Filter(since=moment))]
            until = [row.received_at.timestamp() for row in search.events(Filter(until=moment))]
            assert since == [time for time in times if time >= edge]
            assert until == [time for time in times if time < edge]


def test_without_a_journal_there_is_a_sentence(tmp_path: Path, schema: Schema) -> None:
    """A search makes nothing."""
    config = in_database(config_of(tmp_path), schema)
    with pytest.raises(JournalError, match=r"no journal in the database of journal.url yet; `gateway run` makes it"):
        open_reader(config)
    with pytest.raises(JournalError):
        kept_as_unknown(config, running=False)
    assert schema.execute("SELECT count(*) FROM pg_class WHERE relnamespace = current_schema()::regnamespace") == [(0,)]


def test_a_search_cannot_write(large: Config) -> None:
    """Not even by mistake."""
    with closing(Reading(large)) as reading, pytest.raises(JournalError):
        reading.rows("DELETE FROM events RETURNING seq")


def test_the_size_of_a_database_is_that_of_the_journals_tables(large: Config) -> None:
    """With their indexes; the free space on its disk is not known."""
    used, free = journal_space(large)
    assert (used > 10_000_000, free) == (True, None)
    with closing(Reading(large)) as reading:
        assert used < reading.value("SELECT pg_database_size(current_database())")
