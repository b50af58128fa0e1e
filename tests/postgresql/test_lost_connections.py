"""A connection that is lost with a commit, a server that stops, fails over or changes: nothing that was answered is
lost, nothing is kept twice, and the gateway goes on by itself."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import time
from collections.abc import Callable

import pytest
from clusters import Cluster, clusters
from journal_kit import ACME, message
from postgresql.conftest import Configure, opened
from postgresql.relay import relaying
from schemas import FULL, Schema, execute

from gateway.journal.append import Appends
from gateway.journal.interface import Filter, JournalError, JournalFull, Receipt
from gateway.journal.postgresql import refusing
from gateway.journal.postgresql.connection import connect
from gateway.journal.postgresql.database import LOCAL_ONLY
from gateway.journal.postgresql.failures import ValueRefused
from gateway.journal.postgresql.insert import Appending, insert
from gateway.journal.postgresql.journal import PostgresqlJournal

WAIT = 60.0


def put(journal: PostgresqlJournal, raw: bytes) -> asyncio.Future[Receipt]:
    return journal.append(ACME, journal.decoder.decode(ACME, raw, None), raw)


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(WAIT):
        while not condition():
            await asyncio.sleep(0.01)


async def until_taken(journal: PostgresqlJournal) -> None:
    await until(lambda: journal.refusal() is None)


async def kept(journal: PostgresqlJournal) -> list[bytes]:
    return [entry.event.raw for entry in await journal.read(0, 100_000)]


async def test_a_commit_that_the_server_broke_off_is_made_again(schema: Schema, configure: Configure) -> None:
    """Its senders wait, and get the answer of the new commit; new events get 503 meanwhile."""
    async with opened(configure(schema.url)) as journal:
        bodies = [message() for _ in range(3)]
        async with schema.holding_appends() as held:
            futures = [put(journal, raw) for raw in bodies]
            await held.end()
            await until(lambda: journal.refusal() is not None)
            with pytest.raises(JournalFull, match="the database cannot be reached"):
                put(journal, message())
        receipts = await asyncio.wait_for(asyncio.gather(*futures), WAIT)
        assert [receipt.duplicate for receipt in receipts] == [False] * 3
        assert await kept(journal) == bodies
        assert journal.refusal() is None


async def test_a_commit_whose_answer_was_lost_is_looked_up(
    cluster: Cluster, schema: Schema, configure: Configure
) -> None:
    """What was kept is answered so, and not kept again; what repeats another event is still told to."""
    async with relaying(cluster.port) as relay:
        url = schema.url.replace(f":{cluster.port}/", f":{relay.port}/")
        async with opened(configure(url)) as journal:
            old = message()
            first = await put(journal, old)
            new = [message() for _ in range(3)]
            relay.swallows = True
            futures = [put(journal, raw) for raw in (new[0], old, new[1], new[1], new[2])]
            await asyncio.sleep(0)
            await until(lambda: schema.execute("SELECT count(*) FROM events") == [(4,)])
            relay.cut()
            receipts = await asyncio.wait_for(asyncio.gather(*futures), WAIT)
            assert [receipt.duplicate for receipt in receipts] == [False, True, False, True, False]
            assert receipts[1].id == first.id
            assert receipts[3].id == receipts[2].id
            assert await kept(journal) == [old, *new]
            assert journal.newest == 6  # the positions of the two repeats stay free


async def test_a_value_that_the_database_refuses_after_a_lost_connection(schema: Schema, configure: Configure) -> None:
    """It gets 503; what was appended with it is kept."""
    async with opened(configure(schema.url)) as journal:
        bad, good = message(), [message() for _ in range(5)]
        await schema.change(f"ALTER TABLE events ADD CHECK (position('{bad.hex()}' in encode(raw, 'hex')) = 0)")
        async with schema.holding_appends() as held:
            futures = [put(journal, raw) for raw in (*good[:2], bad, *good[2:])]
            await held.end()
        outcomes = await asyncio.wait_for(asyncio.gather(*futures, return_exceptions=True), WAIT)
        assert [isinstance(outcome, Receipt) for outcome in outcomes] == [True, True, False, True, True, True]
        assert isinstance(outcomes[2], ValueRefused)
        assert await kept(journal) == good
        await until_taken(journal)


async def test_a_disk_that_is_full_after_a_lost_connection(
    schema: Schema, configure: Configure, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """New events are taken once it has room, and not as soon as there is a connection."""
    monkeypatch.setattr("gateway.journal.postgresql.writer.IN_DOUBT", 0.0)
    async with opened(configure(schema.url)) as journal:
        async with schema.holding_appends() as held:
            future = put(journal, message())
            await held.end()
            await held.connection.execute(FULL.format(schema=schema.name))
        with pytest.raises(JournalFull, match="the disk of the database is full"):
            await asyncio.wait_for(future, WAIT)
        await until(lambda: not journal._writer.reconnecting)
        assert "takes new events again" not in caplog.text
        await schema.make_room()
        await until_taken(journal)


async def test_an_append_that_had_arrived_after_all_is_not_a_duplicate(schema: Schema, configure: Configure) -> None:
    """A first call whose answer was lost may reach the database after it was asked what it has."""
    config = configure(schema.url)
    async with opened(config) as journal:
        raw = message()
        append = Appends(time.time).make(ACME, journal.decoder.decode(ACME, raw, None), raw, lambda outcome: None)
        connection = await connect(config, "test")
        for _ in range(2):
            await insert(connection, [append], Appending("node", 60_000_000, "channel", False))
        await connection.close()
        assert append.receipt == Receipt(append.event.id, append.event.hook, False, True)
        assert schema.execute("SELECT count(*) FROM events") == [(1,)]


async def test_what_was_not_sent_is_refused_at_once(schema: Schema, configure: Configure) -> None:
    """An event that arrived while a commit ran, whose connection was then lost, was certainly not kept."""
    async with opened(configure(schema.url)) as journal:
        async with schema.holding_appends() as held:
            sent = put(journal, message())
            await held.sessions()
            waiting = put(journal, message())
            await held.end()
            with pytest.raises(JournalFull, match="the database cannot be reached"):
                await asyncio.wait_for(waiting, WAIT)
        await asyncio.wait_for(sent, WAIT)
        assert len(await kept(journal)) == 1


async def test_a_server_that_is_away_longer_than_senders_wait(
    configure: Configure, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are told to try again; the gateway goes on by itself once the server is back."""
    monkeypatch.setattr("gateway.journal.postgresql.writer.IN_DOUBT", 0.0)
    with clusters(1) as (server,):
        server.make()
        server.start()
        async with opened(configure(server.url)) as journal:
            before = message()
            await put(journal, before)
            appended = put(journal, message())
            await asyncio.to_thread(server.stop, signal.SIGQUIT)
            with contextlib.suppress(JournalFull):  # it may have been quicker
                await asyncio.wait_for(appended, WAIT)
            await until(lambda: journal.refusal() is not None)
            with pytest.raises(JournalFull):
                await journal.probe()
            with pytest.raises(JournalFull, match=r"the database (cannot be reached|starts or stops)"):
                put(journal, message())
            await asyncio.to_thread(server.start)
            await until_taken(journal)
            after = message()
            await put(journal, after)
            await journal.probe()
            assert set(await kept(journal)) >= {before, after}


async def test_a_server_that_stops_is_noticed_without_an_event(configure: Configure) -> None:
    """So health shows it, and the next event does not wait for a new connection."""
    with clusters(1) as (server,):
        server.make()
        server.start()
        async with opened(configure(server.url)) as journal:
            await asyncio.to_thread(server.stop)
            await until(lambda: "the database" in (journal.refusal() or ""))
            await asyncio.to_thread(server.start)
            await until_taken(journal)


async def test_under_load_across_crashes_each_event_is_there_once(configure: Configure) -> None:
    """Senders that try again until they are answered 200, and a server that crashes three times."""
    with clusters(1) as (server,):
        server.make()
        server.start()
        async with opened(configure(server.url)) as journal:
            answered: list[bytes] = []
            running = True

            async def sender() -> None:
                while running:
                    raw = message()
                    while True:
                        try:
                            await put(journal, raw)
                            break
                        except JournalFull:
                            await asyncio.sleep(0.01)
                    answered.append(raw)

            senders = asyncio.gather(*(sender() for _ in range(8)))
            for _ in range(3):
                count = len(answered)
                await until(lambda so_far=count: len(answered) > so_far + 50)  # type: ignore[misc]
                await asyncio.to_thread(server.stop, signal.SIGQUIT)
                await asyncio.to_thread(server.start)
            count = len(answered)
            await until(lambda: len(answered) > count + 50)
            running = False
            await asyncio.wait_for(senders, WAIT)
            assert sorted(await kept(journal)) == sorted(answered)


async def test_a_commit_without_the_standby_counts_as_failure(
    cluster: Cluster, schema: Schema, configure: Configure, monkeypatch: pytest.MonkeyPatch
) -> None:
    """PostgreSQL keeps it locally and warns, where a person cancels the wait. It is not answered as kept."""
    monkeypatch.setattr(refusing, "HUNG", 0.2)
    async with opened(configure(schema.url)) as journal:
        cluster.change(synchronous_standby_names="nobody")
        try:
            raw = message()
            future = put(journal, raw)
            waits = "SELECT pid FROM pg_stat_activity WHERE wait_event = 'SyncRep'"
            await until(lambda: bool(execute(cluster.admin, waits)))
            await until(lambda: "has not finished a commit" in (journal.refusal() or ""))
            execute(cluster.admin, waits.replace("pid", "pg_cancel_backend(pid)", 1))
            with pytest.raises(JournalFull) as raised:
                await asyncio.wait_for(future, WAIT)
            assert str(raised.value) == LOCAL_ONLY
            assert journal.refusal() is not None
        finally:
            cluster.change(synchronous_standby_names="")
        await until_taken(journal)
        assert (await put(journal, raw)).duplicate
        assert await kept(journal) == [raw]


@pytest.mark.parametrize("setting", ["fsync", "full_page_writes"])
async def test_settings_that_change_while_the_gateway_runs(
    cluster: Cluster, schema: Schema, configure: Configure, setting: str
) -> None:
    """From then on nothing is answered as kept, until they are as they were."""
    async with opened(configure(schema.url)) as journal:
        await put(journal, message())
        cluster.change(**{setting: "off"})
        try:
            await until(lambda: execute(schema.url, f"SHOW {setting}") == [("off",)])
            with pytest.raises(JournalFull):
                while True:
                    await put(journal, message())
            await until(lambda: f"the database has {setting} = off" in (journal.refusal() or ""))
        finally:
            execute(cluster.admin, f"ALTER SYSTEM RESET {setting}", "SELECT pg_reload_conf()")
        await until_taken(journal)
        await put(journal, message())


async def test_a_table_that_is_dropped_while_the_gateway_runs(schema: Schema, configure: Configure) -> None:
    """Each event gets 503 with the reason."""
    async with opened(configure(schema.url)) as journal:
        await schema.change("ALTER TABLE head RENAME TO gone")
        with pytest.raises(JournalFull) as raised:
            await put(journal, message())
        assert str(raised.value) == (
            "a table, column or function of the journal is missing in the database: restore it"
        )
        assert journal.refusal() is not None
        await schema.change("ALTER TABLE gone RENAME TO head")
        await until_taken(journal)
        await put(journal, message())


async def test_an_event_that_the_database_cannot_keep_harms_no_other(schema: Schema, configure: Configure) -> None:
    """Those that arrived with it are kept, and new ones are taken."""
    async with opened(configure(schema.url)) as journal:
        bad = message()
        await schema.change(f"ALTER TABLE events ADD CHECK (position('{bad.hex()}' in encode(raw, 'hex')) = 0)")
        good = [message() for _ in range(9)]
        futures = [put(journal, raw) for raw in (*good[:4], bad, *good[4:])]
        outcomes = await asyncio.gather(*futures, return_exceptions=True)
        assert [isinstance(outcome, JournalFull) for outcome in outcomes].index(True) == 4
        assert len([outcome for outcome in outcomes if isinstance(outcome, Receipt)]) == 9
        assert await kept(journal) == good
        assert journal.refusal() is None


def end_begin(schema: Schema, how: str, mode: str) -> bool:
    """End the wait for the standby of a session that begins an operation; whether there was one."""
    return bool(
        schema.execute(
            f"SELECT pg_{how}_backend(pid) FROM pg_stat_activity JOIN pg_locks USING (pid)"
            f" WHERE wait_event = 'SyncRep' AND relation = 'operations'::regclass AND mode = '{mode}'"
        )
    )


@pytest.mark.parametrize("how", ["cancel", "terminate", "cut"])
async def test_an_operation_begins_once_where_the_answer_to_its_commit_is_lost(
    cluster: Cluster, schema: Schema, configure: Configure, how: str
) -> None:
    """Without its standby, in a session that ends, or with a connection that is lost while the commit goes on."""
    async with relaying(cluster.port) as relay:
        url = schema.url.replace(f":{cluster.port}/", f":{relay.port}/")
        async with opened(configure(url)) as journal:
            await put(journal, message())
            cluster.change(synchronous_standby_names="nobody")
            try:
                begun = asyncio.create_task(journal.begin("replay", Filter(plugin="crm")))
                if how == "cut":
                    waits = "SELECT FROM pg_stat_activity JOIN pg_locks USING (pid) WHERE wait_event = 'SyncRep'"
                    await until(lambda: bool(schema.execute(f"{waits} AND relation = 'operations'::regclass")))
                    relay.cut()
                    held = "SELECT FROM pg_locks WHERE relation = 'operations'::regclass AND NOT granted"
                    await until(lambda: bool(schema.execute(held)))
                else:
                    await until(lambda: end_begin(schema, how, "RowExclusiveLock"))
            finally:
                cluster.change(synchronous_standby_names="")
            operation = await asyncio.wait_for(begun, WAIT)
            assert (operation.kind, operation.matched, operation.left) == ("replay", 1, 1)
            assert schema.execute("SELECT number FROM operations") == [(operation.number,)]
            again = await journal.begin("replay", Filter(plugin="crm"))
            assert again.number > operation.number


async def test_an_operation_that_may_have_begun_is_told_as_such(
    cluster: Cluster, schema: Schema, configure: Configure
) -> None:
    """Who asked looks before asking again."""
    async with opened(configure(schema.url)) as journal:
        cluster.change(synchronous_standby_names="nobody")
        try:
            begun = asyncio.create_task(journal.begin("replay", Filter(plugin="crm")))
            await until(lambda: end_begin(schema, "terminate", "RowExclusiveLock"))
            await until(lambda: end_begin(schema, "cancel", "ShareRowExclusiveLock"))
            with pytest.raises(JournalError) as raised:
                await asyncio.wait_for(begun, WAIT)
        finally:
            cluster.change(synchronous_standby_names="")
        assert str(raised.value) == (
            f"{LOCAL_ONLY}; the operation may have begun: look at `gateway operations` before you ask for it again"
        )
        assert schema.execute("SELECT count(*) FROM operations") == [(1,)]
