"""A standby becomes the primary: the gateway goes there by itself, with what the database has and not with what it had
in memory."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Iterator

import pytest
from clusters import Cluster, clusters
from journal_kit import message
from postgresql.conftest import Configure, opened
from postgresql.test_lost_connections import WAIT, kept, put, until
from schemas import execute

from gateway.config.tables import Config
from gateway.journal.interface import JournalFull, Settlement, Standing, Track
from gateway.journal.postgresql import promotion
from gateway.journal.postgresql.journal import PostgresqlJournal

Pair = tuple[Cluster, Cluster]


@pytest.fixture
def pair() -> Iterator[Pair]:
    """A primary, and a standby that it does not wait for."""
    with clusters(2) as (primary, standby):
        primary.make()
        primary.start()
        standby.follow(primary)
        standby.start()
        yield primary, standby


def both(configure: Configure, pair: Pair) -> Config:
    hosts = ",".join(f"127.0.0.1:{one.port}" for one in pair)
    return configure(f"postgresql://gateway@{hosts}/gateway")


def wait_for_each_commit(primary: Cluster) -> None:
    primary.change(synchronous_standby_names="standby")


def promote(standby: Cluster) -> None:
    execute(standby.admin, "ALTER SYSTEM SET synchronous_standby_names = ''", "SELECT pg_reload_conf()")
    standby.promote()


async def put_at_last(journal: PostgresqlJournal, raw: bytes) -> None:
    """Append an event as Webio does, which tries again after a 503."""
    async with asyncio.timeout(WAIT):
        while True:
            try:
                await put(journal, raw)
                return
            except JournalFull:
                await asyncio.sleep(0.05)


async def test_the_standby_that_is_promoted_takes_over(configure: Configure, pair: Pair) -> None:
    """The URL names both; what the old primary had answered is there. Cursors are taken again, from the database."""
    primary, standby = pair
    wait_for_each_commit(primary)
    async with opened(both(configure, pair)) as journal:
        before = [message() for _ in range(20)]
        await asyncio.gather(*(put(journal, raw) for raw in before))
        standing = await journal.take_cursor(Track("crm"), from_start=True)
        assert isinstance(standing, Standing)
        await journal.settle(Settlement(track=Track("crm"), epoch=standing.epoch, cursor=15))
        await asyncio.to_thread(primary.stop, signal.SIGKILL)
        promote(standby)
        after = message()
        await put_at_last(journal, after)
        assert await kept(journal) == [*before, after]
        assert standing.lease is not None
        assert standing.lease.lost
        again = await journal.take_cursor(Track("crm"), from_start=True)
        assert isinstance(again, Standing)
        assert (again.cursor, again.epoch) == (15, standing.epoch + 1)


async def test_a_former_primary_that_still_answers_is_left(
    configure: Configure, pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It waits for a standby that it does not have any more; the commit is made at the new primary, once."""
    monkeypatch.setattr(promotion, "LOOK_AROUND", 0.2)
    primary, standby = pair
    wait_for_each_commit(primary)
    async with opened(both(configure, pair)) as journal:
        before, hanging, after = message(), message(), message()
        await put(journal, before)
        promote(standby)
        await asyncio.wait_for(put(journal, hanging), WAIT)
        await put(journal, after)
        await journal.probe()
        assert await kept(journal) == [before, hanging, after]
        assert standby.execute("SELECT count(*) FROM events") == [(3,)]


async def test_what_an_asynchronous_standby_has_lost_is_told(
    configure: Configure, pair: Pair, caplog: pytest.LogCaptureFixture
) -> None:
    """Events that were answered are gone, and their positions are given again. New ones are not passed over."""
    primary, standby = pair
    async with opened(both(configure, pair)) as journal:
        there = message()
        await put(journal, there)
        await until(lambda: standby.execute("SELECT count(*) FROM events") == [(1,)])
        await asyncio.to_thread(standby.stop)
        await asyncio.gather(*(put(journal, message()) for _ in range(5)))
        await asyncio.to_thread(primary.stop, signal.SIGKILL)
        await asyncio.to_thread(standby.start)
        promote(standby)
        after = message()
        await put_at_last(journal, after)
        assert await kept(journal) == [there, after]
        assert journal.newest == 2
    assert "the database has lost events that were answered as kept" in caplog.text
