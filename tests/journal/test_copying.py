"""`gateway journal copy`: from a file into PostgreSQL, and back."""

from __future__ import annotations

import asyncio
import json
import subprocess
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import apsw
import asyncpg
import pytest
from cli_process import CliProcess
from click.testing import CliRunner, Result
from hypothesis import given, settings
from hypothesis import strategies as st
from journal_kit import config_of, message, opened, put
from rich_journal import LONG, fill_plainly, filters, in_database, made, told
from running import eventually
from schemas import Schema

from gateway.cli import cli
from gateway.config.tables import Config
from gateway.journal import copy_journal, copying, examine_journal, open_reader
from gateway.journal.interface import Filter, JournalError
from gateway.journal.lock import JournalLock
from gateway.journal.postgresql.copying import LOCK, DatabaseTarget
from gateway.journal.search import EventRow
from gateway.journal.sqlite.copying import FileTarget

NOT_COPIED = {"gateway_journal", "plugins", "nodes", "erasures"}
"""Of `plugins`, what there is goes with `cursors`."""
TEXTS = st.characters(exclude_characters="\0", exclude_categories=["Cs"])


@pytest.fixture
def schema() -> Iterator[Schema]:
    made = Schema()
    yield made
    made.drop()


@pytest.fixture
def config(tmp_path: Path) -> Config:
    return config_of(tmp_path)


def call(config: Config, target: str | Path, *options: str) -> Result:
    return CliRunner().invoke(cli, ["journal", "copy", "-c", str(config.source), "--to", str(target), *options])


def copied(config: Config, target: str | Path) -> dict[str, Any]:
    done = call(config, target, "--json")
    assert (done.exit_code, done.stderr) == (0, ""), done.output
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def with_url(config: Config, schema: Schema) -> Config:
    """A config file whose journal is in the schema."""
    directory = config.directory / "database"
    return config_of(directory, url=schema.url)


def test_a_search_tells_the_same_of_the_copy(config: Config, schema: Schema) -> None:
    """Of every filter, with states, attempts, times and bodies; of dead letters, timelines, records and operations."""
    ids = made(config)
    result = copied(config, schema.url)

    assert (result["events"], result["resumed"], result["source"]) == (len(ids), False, str(config.journal.path))
    assert [name for name, rows in result["rows"].items() if not rows] == []
    which = filters(ids)
    here, there = told(config, which, ids[8]), told(in_database(config, schema), which, ids[8])
    for question, answer in here.items():
        assert there[question] == answer, question


def test_back_in_a_file_it_is_the_same_journal(config: Config, schema: Schema) -> None:
    """Equal listings and the same digest; what is received there goes on behind it, and repeats are found."""
    ids = made(config)
    first = copied(config, schema.url)
    back = config.directory / "back" / "journal.db"
    second = copied(with_url(config, schema), back)

    assert (second["rows"], second["digest"]) == (first["rows"], first["digest"])
    other = config_of(config.directory / "other", path=str(back))
    which = filters(ids)
    assert told(other, which, ids[8]) == told(config, which, ids[8])
    assert examine_journal(other).ok

    async def receive() -> tuple[bool, int]:
        async with opened(other, clock=lambda: 1_700_000_900.0) as journal:
            raw = message(conversationId="7", communicationActionId="901", statusCode="1")
            await put(journal, raw)
            repeated = await put(journal, raw)
            return repeated.duplicate, journal.newest

    duplicate, newest = asyncio.run(receive())
    assert duplicate
    assert newest > len(ids)


def test_what_is_printed(config: Config, schema: Schema) -> None:
    """What was copied, that it is equal, and what to do next."""
    made(config)
    done = call(config, schema.url)

    first, second = done.stdout.splitlines()
    assert first.endswith(f"rows in all, equal to {config.journal.path}")
    assert "14 events" in first
    assert second == f"now set journal.url in {config.source}, and start the gateway"


class Broken(Exception):
    """A break in the middle."""


def test_a_copy_goes_on_wherever_it_was_broken_off(
    config: Config, schema: Schema, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever was kept is not copied again, and nothing is lost: broken off after each single commit."""
    ids = made(config)
    monkeypatch.setattr(copying, "ROWS", 2)
    put_rows = DatabaseTarget.put
    kept: list[tuple[str, int]] = []

    def put_then_break(self: DatabaseTarget, table: copying.CopiedTable, rows: list[copying.Row]) -> None:
        put_rows(self, table, rows)
        if table.name != "head":
            kept.append((table.name, len(rows)))
            raise Broken

    monkeypatch.setattr(DatabaseTarget, "put", put_then_break)
    database = in_database(config, schema)
    for _ in range(200):
        try:
            result = copy_journal(config, database)
            break
        except Broken:
            continue
    assert result.resumed
    counts = {name: sum(rows for table, rows in kept if table == name) for name in result.rows}
    assert counts | {"head": 1} == result.rows
    assert told(database, [Filter()], ids[8]) == told(config, [Filter()], ids[8])


def test_a_copy_back_goes_on_as_well(config: Config, schema: Schema, monkeypatch: pytest.MonkeyPatch) -> None:
    """The unfinished file has another name until it is complete."""
    made(config)
    copied(config, schema.url)
    monkeypatch.setattr(copying, "ROWS", 4)
    put_rows, database, back = FileTarget.put, in_database(config, schema), config.directory / "back.db"

    def put_then_break(self: FileTarget, table: copying.CopiedTable, rows: list[copying.Row]) -> None:
        put_rows(self, table, rows)
        if table.name != "head":
            raise Broken

    monkeypatch.setattr(FileTarget, "put", put_then_break)
    breaks = 0
    while True:
        try:
            result = copy_journal(database, back)
            break
        except Broken:
            breaks += 1
            assert not back.exists()
    assert breaks > 15
    assert result.resumed
    assert sorted(path.name for path in config.directory.glob("back.db*")) == ["back.db", "back.db.lock"]


def test_a_source_that_was_written_to_since_is_copied_anew(
    config: Config, schema: Schema, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What an unfinished copy has of an earlier state is not mixed with the later one."""
    made(config)
    database = in_database(config, schema)
    put_rows = DatabaseTarget.put

    def put_then_break(self: DatabaseTarget, table: copying.CopiedTable, rows: list[copying.Row]) -> None:
        put_rows(self, table, rows)
        raise Broken

    monkeypatch.setattr(DatabaseTarget, "put", put_then_break)
    with pytest.raises(Broken):
        copy_journal(config, database)
    monkeypatch.undo()
    asyncio.run(fill_plainly(config, 3))
    result = copy_journal(config, database)
    assert (result.events, result.resumed) == (17, False)


def test_a_copy_that_differs_is_not_finished(config: Config, schema: Schema, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both are read again and compared; then it begins anew."""
    made(config)
    database = in_database(config, schema)
    put_rows = DatabaseTarget.put

    def lose_one(self: DatabaseTarget, table: copying.CopiedTable, rows: list[copying.Row]) -> None:
        put_rows(self, table, [row for row in rows if row[0] != 7 or table.name != "events"])

    monkeypatch.setattr(DatabaseTarget, "put", lose_one)
    with pytest.raises(JournalError, match=r"the copy differs from .*: events has 13 rows there and 14 here"):
        copy_journal(config, database)
    with pytest.raises(JournalError, match="not finished"):
        open_reader(database)
    monkeypatch.undo()
    assert copy_journal(config, database).resumed is False


def changed(table: str, rows: list[copying.Row]) -> list[copying.Row]:
    return [(*row[:-1], row[-1] + b" ") if table == "events" else row for row in rows]


def test_a_changed_value_is_found(config: Config, schema: Schema, monkeypatch: pytest.MonkeyPatch) -> None:
    """The number of rows is not enough."""
    asyncio.run(fill_plainly(config, 3))
    put_rows = DatabaseTarget.put
    monkeypatch.setattr(
        DatabaseTarget, "put", lambda self, table, rows: put_rows(self, table, changed(table.name, rows))
    )
    with pytest.raises(JournalError, match="events has 3 rows there and 3 here, with other values"):
        copy_journal(config, in_database(config, schema))


def refused(config: Config, target: str | Path) -> str:
    done = call(config, target)
    assert done.exit_code == 1, done.output
    return done.stderr.strip()


def test_a_source_in_use_is_refused(config: Config, schema: Schema) -> None:
    """A gateway that runs would go on receiving into it."""
    made(config)
    with JournalLock(config.journal.path):
        sentence = refused(config, schema.url)
    assert "is in use by the gateway" in sentence
    assert sentence.endswith("stop that one first")


def test_a_database_in_use_is_refused_as_a_source(config: Config, schema: Schema) -> None:
    """By what its gateways write there every few seconds."""
    made(config)
    copied(config, schema.url)
    schema.execute(
        "INSERT INTO nodes (id, name, version, layout, about) VALUES (gen_random_uuid(), 'berlin-1', '1', 1, '{}')"
    )
    sentence = refused(with_url(config, schema), config.directory / "back.db")
    assert sentence.endswith("is in use by the gateway berlin-1; stop its gateways first")


def test_a_target_that_is_not_empty_is_refused(config: Config, schema: Schema, tmp_path: Path) -> None:
    """Another application's tables, a journal, a file, and the unfinished copy of another journal."""
    made(config)
    schema.execute("CREATE TABLE customers (name text)")
    assert "another application's" in refused(config, schema.url)
    schema.execute("DROP TABLE customers")
    copied(config, schema.url)
    assert "has a journal already: its table events is not empty" in refused(config, schema.url)
    assert "exists; name another file" in refused(with_url(config, schema), config.journal.path)
    other = Schema()
    try:
        with closing(DatabaseTarget(in_database(config, other))) as target:
            target.begin("/elsewhere/journal.db", "1")
        assert "has an unfinished copy of /elsewhere/journal.db" in refused(config, other.url)
    finally:
        other.drop()


def test_nothing_opens_an_unfinished_copy(config: Config, schema: Schema) -> None:
    """Neither a gateway nor a search."""
    database = in_database(config, schema)
    with closing(DatabaseTarget(database)) as target:
        target.begin("/elsewhere/journal.db", "1")
    with pytest.raises(JournalError, match="has a copy of another journal that is not finished"):
        open_reader(database)


def test_shards_become_one_cursor_at_what_all_of_them_have_had(config: Config, schema: Schema) -> None:
    """So events between the slowest shard and the others come again; what was settled before a change counts."""
    made(config)
    copied(config, schema.url)
    floors = ",".join("9" if bucket % 2 else "0" for bucket in range(64))
    schema.execute(
        "UPDATE plugins SET shards = 2 WHERE plugin = 'crm'",
        "UPDATE cursors SET seq = 11, epoch = 4 WHERE plugin = 'crm'",
        f"INSERT INTO cursors (plugin, shard, seq, epoch, floors) VALUES ('crm', 1, 6, 7, '{{{floors}}}')",
    )
    back = config.directory / "back.db"
    result = copied(with_url(config, schema), back)
    assert result["rows"]["cursors"] == 4
    connection = apsw.Connection(str(back))
    found = list(connection.execute("SELECT seq, epoch FROM cursors WHERE plugin = 'crm'"))
    connection.close()
    assert found == [(9, 7)]


def test_every_table_is_copied(config: Config, schema: Schema) -> None:
    """But for what each gateway makes anew: its own row, leases, and what is asked of the others."""
    database = in_database(config, schema)
    with closing(DatabaseTarget(database)) as target:
        target.begin("/elsewhere/journal.db", "1")
    tables = {name for (name,) in schema.execute("SELECT tablename FROM pg_tables WHERE schemaname = current_schema()")}
    assert tables - {table.name for table in copying.TABLES} == NOT_COPIED


@pytest.mark.parametrize(
    ("target", "sentence"),
    [
        ("copy.db", "the journal is in a file already; copy that one with `gateway backup`"),
        ("mysql://root@127.0.0.1/test", "expected the address of a database"),
        ("postgresql://root:secret@127.0.0.1/test", "has a password in it; leave it out"),
    ],
)
def test_other_targets_are_refused(config: Config, target: str, sentence: str) -> None:
    """In a sentence, without what may be a password."""
    asyncio.run(fill_plainly(config, 1))
    done = call(config, target)
    assert done.exit_code in (1, 2)
    assert sentence in done.stderr
    assert "secret" not in done.stderr.replace("secret file", "")


def test_a_damaged_source_is_refused(config: Config, schema: Schema) -> None:
    """What it has lost must not be lost in silence."""
    made(config)
    connection = apsw.Connection(str(config.journal.path))
    connection.execute("UPDATE events SET hook = 'other' WHERE seq = 3")
    connection.close()
    assert "is damaged; `gateway journal check` tells more" in refused(config, schema.url)


def test_long_natural_keys_and_odd_texts_survive(config: Config, schema: Schema) -> None:
    """A key that PostgreSQL keeps as a hash is found again in the body; U+FFFD stands for what it cannot hold."""

    async def keep() -> None:
        async with opened(config) as journal:
            await put(journal, message(communicationActionId=LONG, statusCode="1", conversationId="a\0b"))
            await put(journal, message(communicationActionId=LONG, statusCode="1", conversationId="é\U0001f600"))

    asyncio.run(keep())
    copied(config, schema.url)
    back = config.directory / "back.db"
    copied(with_url(config, schema), back)
    other = config_of(config.directory / "other", path=str(back))

    async def repeat() -> bool:
        async with opened(other) as journal:
            event = await put(journal, message(communicationActionId=LONG, statusCode="1", conversationId="new"))
            [entry] = await journal.scan(Filter(ids=(event.id,)), 0, 99, 9)
            return entry.event.conflict

    with closing(open_reader(other)) as search:
        assert [row.conversation_id for row in search.events(Filter())] == ["a\ufffdb", "é\U0001f600"]
    assert asyncio.run(repeat())


_HOLD = """
CREATE FUNCTION hold() RETURNS trigger LANGUAGE plpgsql AS
$$ BEGIN PERFORM pg_advisory_xact_lock(4711, hashtext(current_schema())); RETURN NEW; END $$;
CREATE TRIGGER hold BEFORE INSERT ON events FOR EACH ROW WHEN (NEW.seq = 5500) EXECUTE FUNCTION hold();
"""


def test_a_copy_that_is_killed_goes_on(config: Config, schema: Schema) -> None:
    """`kill -9` in the middle of the events: the next call goes on behind the last commit."""
    asyncio.run(fill_plainly(config, 6000))
    database = in_database(config, schema)
    with closing(DatabaseTarget(database)) as target:
        target.begin("/elsewhere/journal.db", "1")  # makes the tables
    schema.execute("UPDATE gateway_journal SET copy_of = NULL", _HOLD)
    arguments: list[str | Path] = ["journal", "copy", "-c", config.source, "--to", schema.url]

    async def kill_in_the_middle() -> int:
        holder = await asyncpg.connect(schema.url)
        try:
            await holder.execute("SELECT pg_advisory_lock(4711, hashtext(current_schema()))")
            process = CliProcess(arguments, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            waits = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND classid = 4711 AND NOT granted"
            async with asyncio.timeout(60):
                while not await holder.fetchval(waits):
                    assert process.poll() is None
                    await asyncio.sleep(0.01)
            process.kill()
            process.wait(60)
            return int(await holder.fetchval("SELECT count(*) FROM events"))
        finally:
            await holder.close()

    assert asyncio.run(kill_in_the_middle()) == 5000
    place = f"objid = hashtext(current_schema())::bigint & {2**32 - 1}"
    held = f"SELECT count(*) FROM pg_locks WHERE classid = {LOCK} AND {place}"
    eventually(lambda: schema.execute(held) == [(0,)])
    result = copied(config, schema.url)
    assert (result["events"], result["resumed"]) == (6000, True)


@settings(max_examples=6, deadline=None)
@given(
    events=st.lists(
        st.fixed_dictionaries(
            {},
            optional={
                "conversationId": st.text(TEXTS, max_size=9),
                "customerUID": st.text(TEXTS, max_size=400),
                "body": st.text(max_size=40),
                "outboundChannelAddress": st.one_of(st.text(max_size=20), st.integers(0, 2**70)),
                "type": st.sampled_from(["inboundMessage", "payment", "something new"]),
            },
        ),
        min_size=1,
        max_size=12,
    )
)
def test_whatever_was_received_is_the_same_after_two_copies(
    tmp_path_factory: pytest.TempPathFactory, events: list[dict[str, Any]]
) -> None:
    """From a file into the database and back, every listing is equal; the database's, too."""
    config = config_of(tmp_path_factory.mktemp("drawn"))

    async def keep() -> None:
        async with opened(config) as journal:
            for event in events:
                await put(journal, json.dumps(event).encode())

    asyncio.run(keep())
    which = [Filter(), *(Filter(customer=event["customerUID"]) for event in events if event.get("customerUID"))]
    which += [Filter(text=event["body"]) for event in events if event.get("body")]
    schema = Schema()
    try:
        copied(config, schema.url)
        back = config.directory / "back.db"
        copied(with_url(config, schema), back)
        here = listings(config, which)
        assert listings(in_database(config, schema), which) == here
        assert listings(config_of(config.directory / "other", path=str(back)), which) == here
    finally:
        schema.drop()


def listings(config: Config, which: list[Filter]) -> list[list[EventRow]]:
    with closing(open_reader(config)) as search:
        return [list(search.events(one)) for one in which]
