"""Retention: what goes, what stays, and in which steps."""

from __future__ import annotations

import asyncio
from contextlib import ExitStack
from pathlib import Path

import apsw
import pytest
from journal_kit import (
    WAIT,
    Clock,
    FaultyFiles,
    config_of,
    fill,
    ids_in,
    message,
    move_cursor,
    opened,
    put,
    take,
    until,
)

from gateway.journal.interface import DEAD, Parked
from gateway.journal.sqlite import writer
from gateway.journal.sqlite.journal import SqliteJournal
from gateway.journal.sqlite.retention import STEP, expire_records

HOUR = 3600.0
ONE_HOUR = {"retention": "1h"}


@pytest.fixture(autouse=True)
def looks_often(monkeypatch: pytest.MonkeyPatch) -> None:
    """The journal looks after itself fifty times a second, so that tests need not wait."""
    monkeypatch.setattr(writer, "HOUSEKEEPING", 0.02)


async def with_cursor(journal: SqliteJournal, count: int, plugin: str = "archive") -> list[str]:
    """So many events, which `plugin` all has."""
    standing = await take(journal, plugin, from_start=False)
    ids = await fill(journal, count)
    await move_cursor(journal, plugin, journal.newest, epoch=standing.epoch)
    return ids


async def test_more_dead_letters_than_a_step_do_not_stop_retention(tmp_path: Path) -> None:
    """Old dead letters at the front stay; what comes after them goes all the same."""
    clock, config = Clock(), config_of(tmp_path, **ONE_HOUR)
    dead = 2 * STEP + 10

    async def scenario() -> tuple[list[str], list[str]]:
        async with opened(config, clock=clock) as journal:
            ids = await with_cursor(journal, dead + 100)
            parked = [Parked(seq=seq, state=DEAD) for seq in range(1, dead + 1)]
            await move_cursor(journal, "archive", park=parked)
            clock.advance(HOUR + 1)
            await until(lambda: len(ids_in(config)) == dead)
            return ids[:dead], ids_in(config)

    expected, left = await scenario()
    assert left == expected


async def test_without_any_plugin_events_go_when_they_are_old(tmp_path: Path) -> None:
    """Also where the gateway only keeps events."""
    clock, config = Clock(), config_of(tmp_path, **ONE_HOUR)

    async def scenario() -> int:
        async with opened(config, clock=clock) as journal:
            await fill(journal, 10)
            clock.advance(HOUR + 1)
            await until(lambda: not ids_in(config))
            await fill(journal, 2)
            return journal.newest

    assert await scenario() == 12


async def test_a_clock_that_was_ahead_does_not_stop_retention(tmp_path: Path) -> None:
    """Events that bear a future moment wait for it, but not those after them."""
    clock, config = Clock(), config_of(tmp_path, **ONE_HOUR)

    async def scenario() -> tuple[list[str], list[str]]:
        async with opened(config, clock=clock) as journal:
            await take(journal, "archive", from_start=False)
            clock.advance(365 * 24 * HOUR)
            future = await fill(journal, STEP + 100)
            clock.advance(-365 * 24 * HOUR)
            await fill(journal, 50)
            await move_cursor(journal, "archive", journal.newest)
            clock.advance(HOUR + 1)
            await until(lambda: len(ids_in(config)) <= len(future))
            return future, ids_in(config)

    future, left = await scenario()
    assert left == future


async def test_retention_takes_small_steps_between_which_events_are_kept(tmp_path: Path) -> None:
    """Ten thousand events go in at least twenty commits, and appends meanwhile do not wait for all of them."""
    files = FaultyFiles()
    clock, config = Clock(), config_of(tmp_path, **ONE_HOUR)

    async with opened(config, clock=clock, vfs=files.name) as journal:
        await with_cursor(journal, 20 * STEP)
        before = files.syncs["journal.db-wal"]
        with ExitStack() as stack:
            step = stack.enter_context(files.held("sync", "-wal"))
            clock.advance(HOUR + 1)
            assert await asyncio.to_thread(step.reached.wait, WAIT)
            appended = put(journal, message())
            while not appended.done():  # one commit at a time, so that retention cannot run ahead of this task
                following = stack.enter_context(files.held("sync", "-wal"))
                step.release.set()
                assert await asyncio.to_thread(following.reached.wait, WAIT)
                step = following
            left = len(ids_in(config))
        await until(lambda: len(ids_in(config)) == 1)
        steps = files.syncs["journal.db-wal"] - before - 1

    assert left > 15 * STEP
    assert steps >= 20


async def test_a_large_backlog_goes_without_pauses_when_nothing_else_happens(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An idle journal looks rarely whether there is something to prune, but then takes step after step."""
    monkeypatch.setattr(writer, "HOUSEKEEPING", 1.0)
    clock, config = Clock(), config_of(tmp_path, **ONE_HOUR)

    async def scenario() -> float:
        loop = asyncio.get_running_loop()
        async with opened(config, clock=clock) as journal:
            await with_cursor(journal, 16 * STEP)
            clock.advance(HOUR + 1)
            began = loop.time()
            await until(lambda: not ids_in(config))
            return loop.time() - began

    assert await scenario() < 8


async def test_more_records_of_requests_than_a_step_go_step_by_step(tmp_path: Path) -> None:
    """Each step says whether there may be more; newer records stay."""
    async with opened(config_of(tmp_path)) as journal:

        def expire(connection: apsw.Connection) -> tuple[list[bool], list[tuple[int]]]:
            sql = "INSERT INTO value_records (at, organisation, fields, status) VALUES (?, 'acme', '{}', 200)"
            connection.executemany(sql, [(at,) for at in range(STEP + 3)])
            more = [expire_records(connection, STEP + 2) for _ in range(2)]
            return more, list(connection.execute("SELECT at FROM value_records"))

        assert await journal.operate(expire) == ([True, False], [(STEP + 2,)])
