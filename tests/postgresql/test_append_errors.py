"""Errors and warnings as the journal appends that say nothing against an event."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from journal_kit import message
from postgresql.conftest import Configure, opened
from postgresql.test_lost_connections import WAIT, kept, put, until, until_taken
from schemas import Schema

from gateway.journal.interface import JournalError, JournalFailed, JournalFull
from gateway.journal.postgresql import listener
from gateway.journal.postgresql.connection import DatabaseConnection
from gateway.journal.postgresql.failures import ValueRefused, meaning
from gateway.journal.postgresql.upkeep import Upkeep


async def on_insert(schema: Schema, statement: str) -> None:
    """Have the database run a statement with each insert."""
    await schema.change(
        f"CREATE FUNCTION extra() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN {statement} RETURN NULL; END $$",
        "CREATE TRIGGER extra AFTER INSERT ON events EXECUTE FUNCTION extra()",
    )


async def test_a_warning_that_does_not_concern_the_commit(schema: Schema, configure: Configure) -> None:
    """Such as that of a notification queue that fills: the event is answered as kept."""
    async with opened(configure(schema.url)) as journal:
        await on_insert(schema, "RAISE WARNING 'something else';")
        assert not (await put(journal, message())).duplicate
        assert journal.refusal() is None


def test_a_full_notification_queue() -> None:
    """The sentence says what to do; other values beyond a limit are about the event."""
    from asyncpg.exceptions import ProgramLimitExceededError

    full, large = ProgramLimitExceededError("full"), ProgramLimitExceededError("large")
    full.server_source_filename = "async.c"
    assert type(meaning(full)) is JournalFull
    assert str(meaning(full)) == (
        "the notification queue of the database is full: end the session that has been idle in a transaction"
    )
    assert isinstance(meaning(large), ValueRefused)


async def test_a_transaction_that_is_to_be_repeated(schema: Schema, configure: Configure) -> None:
    """As after a deadlock with a session of an operator: nothing was committed, and it is repeated at once."""
    async with opened(configure(schema.url)) as journal:
        schema.execute("CREATE SEQUENCE tries")
        await on_insert(
            schema, "IF nextval('tries') < 3 THEN RAISE EXCEPTION 'again' USING ERRCODE = 'deadlock_detected'; END IF;"
        )
        raw = message()
        assert not (await put(journal, raw)).duplicate
        assert await kept(journal) == [raw]


async def test_an_error_that_is_not_foreseen(
    schema: Schema, configure: Configure, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its senders get an answer, and the journal says that it has failed."""

    async def fails(*values: Any) -> int:
        raise RuntimeError

    async with opened(configure(schema.url)) as journal:
        monkeypatch.setattr("gateway.journal.postgresql.writer.insert", fails)
        futures = [put(journal, message()) for _ in range(3)]
        outcomes = await asyncio.wait_for(asyncio.gather(*futures, return_exceptions=True), WAIT)
        assert [type(outcome) for outcome in outcomes] == [JournalFailed] * 3
        assert journal.refusal() == "the gateway failed as it appended (RuntimeError); its log has more"
        with pytest.raises(JournalFailed):
            put(journal, message())


async def test_housekeeping_goes_on_after_an_error_that_is_not_foreseen(
    schema: Schema, configure: Configure, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Among others it looks whether events can be taken again."""
    calls = 0

    async def fails(upkeep: Upkeep) -> None:
        nonlocal calls
        calls += 1
        raise RuntimeError

    monkeypatch.setattr(Upkeep, "look", fails)
    async with opened(configure(schema.url)) as journal:
        await until(lambda: calls > 1)
        journal._writer.refusing.refuse("for a test")
        await until_taken(journal)


async def test_an_end_that_is_cancelled_leaves_the_commit_alone(schema: Schema, configure: Configure) -> None:
    async with opened(configure(schema.url)) as journal:
        async with schema.holding_appends() as held:
            raw = message()
            future = put(journal, raw)
            await held.sessions()
            stop = asyncio.create_task(journal._writer.stop())
            await asyncio.sleep(0)
            stop.cancel()
            with pytest.raises(asyncio.CancelledError):
                await stop
        assert not (await asyncio.wait_for(future, WAIT)).duplicate
        assert await kept(journal) == [raw]


async def test_a_listener_that_cannot_listen_leaves_no_connection(
    schema: Schema, configure: Configure, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor does it wait for an answer for ever."""
    made: list[DatabaseConnection] = []

    async def hangs(connection: DatabaseConnection, *values: Any) -> None:
        made.append(connection)
        await asyncio.Event().wait()

    monkeypatch.setattr(listener, "CONNECT_SECONDS", 0.01)
    monkeypatch.setattr(DatabaseConnection, "add_listener", hangs)
    with pytest.raises(JournalError, match="it does not answer"):
        await asyncio.wait_for(listener.AppendListener(configure(schema.url), "c", lambda seq: None, {}).start(), WAIT)
    assert made[0].is_closed()
