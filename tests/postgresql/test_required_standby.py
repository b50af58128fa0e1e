"""`require_standby`: an event is answered only once a second server has it, too."""

from __future__ import annotations

import asyncio
import signal

import pytest
from clusters import clusters
from journal_kit import message
from postgresql.conftest import Configure, opened
from postgresql.test_lost_connections import kept, put, until, until_taken
from schemas import execute

from gateway.journal.interface import JournalFull
from gateway.journal.postgresql import durability, refusing
from gateway.journal.postgresql.durability import STANDBY_REMOVED

SWITCHED_OFF = "the database has no synchronous standby: set synchronous_standby_names"


async def test_events_wait_for_the_standby(configure: Configure, monkeypatch: pytest.MonkeyPatch) -> None:
    """While it is away nothing is answered, and new events get 503; then everything goes on. The same where an
    operator takes it out of the settings, and where it is promoted and has no standby of its own yet."""
    monkeypatch.setattr(refusing, "HUNG", 0.2)
    with clusters(3) as (primary, standby, third):
        primary.make()
        primary.start()
        standby.follow(primary)
        standby.start()
        primary.change(synchronous_standby_names="standby")
        in_step = "SELECT count(*) FROM pg_stat_replication WHERE sync_state = 'sync'"
        await until(lambda: execute(primary.admin, in_step) == [(1,)])
        hosts = f"127.0.0.1:{primary.port},127.0.0.1:{standby.port}"
        config = configure(f"postgresql://gateway@{hosts}/gateway", "require_standby = true")
        async with opened(config) as journal:
            bodies = [message() for _ in range(4)]
            await put(journal, bodies[0])

            await asyncio.to_thread(standby.stop)
            waiting = put(journal, bodies[1])
            await until(lambda: "has not finished a commit" in (journal.refusal() or ""))
            assert not waiting.done()
            await asyncio.to_thread(standby.start)
            await asyncio.wait_for(waiting, 60)
            await until_taken(journal)

            primary.change(synchronous_standby_names="")
            with pytest.raises(JournalFull):
                while True:
                    await put(journal, bodies[2])
            await until(lambda: SWITCHED_OFF in (journal.refusal() or ""))
            primary.change(synchronous_standby_names="standby")
            await until_taken(journal)
            await put(journal, bodies[2])

            execute(standby.admin, "ALTER SYSTEM SET synchronous_standby_names = ''", "SELECT pg_reload_conf()")
            await asyncio.to_thread(primary.stop, signal.SIGKILL)
            standby.promote()
            await until(lambda: SWITCHED_OFF in (journal.refusal() or ""))
            third.follow(standby)
            third.start()
            standby.change(synchronous_standby_names="standby")
            await until_taken(journal)
            await put(journal, bodies[3])
            assert await kept(journal) == bodies


@pytest.mark.parametrize("lost", [False, True], ids=["appended", "looked-up"])
async def test_a_standby_that_is_taken_out_while_a_commit_waits_for_it(
    configure: Configure, monkeypatch: pytest.MonkeyPatch, lost: bool
) -> None:
    """PostgreSQL then ends the wait without a warning. It is not answered as kept, also where the first answer was lost
    and the commit of the look-up is the one that waits."""
    waits = "SELECT pid FROM pg_stat_activity WHERE wait_event = 'SyncRep' AND application_name LIKE '%writer'"
    monkeypatch.setattr("gateway.journal.postgresql.writer.IN_DOUBT", 0.0)
    with clusters(2) as (primary, standby):
        primary.make()
        primary.start()
        standby.follow(primary)
        standby.start()
        primary.change(synchronous_standby_names="standby")
        await until(lambda: execute(primary.admin, "SELECT sync_state FROM pg_stat_replication") == [("sync",)])
        async with opened(configure(primary.url, "require_standby = true")) as journal:
            await put(journal, message())
            await asyncio.to_thread(standby.stop)
            monkeypatch.setattr(durability, "_SYNCHRONOUS", "SELECT 1 AS found, 0 AS hidden")  # it died just now
            future = put(journal, message())
            await until(lambda: bool(execute(primary.admin, waits)))
            if lost:
                sessions = execute(primary.admin, waits)
                execute(primary.admin, f"SELECT pg_terminate_backend({sessions[0][0]})")
                await until(lambda: execute(primary.admin, waits) not in ([], sessions))
            primary.change(synchronous_standby_names="")
            with pytest.raises(JournalFull) as raised:
                await asyncio.wait_for(future, 60)
            assert str(raised.value) == STANDBY_REMOVED
            assert journal.refusal() is not None
