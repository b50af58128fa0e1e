"""Retention: what goes, what stays, and in which steps."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from journal_kit import Clock, FaultyFiles, config_of, fill, ids_in, message, move_cursor, opened, put, take, until

from gateway.journal.interface import DEAD, RETRYING, WAITING, Filter, Parked, ReplayProgress, Settlement, Track
from gateway.journal.sqlite import operations, writer
from gateway.journal.sqlite.journal import SqliteJournal
from gateway.journal.sqlite.retention import STEP

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


def test_what_is_old_and_delivered_goes_and_the_rest_stays(tmp_path: Path) -> None:
    """Exactly what is older than the retention goes, by itself."""
    clock, config = Clock(), config_of(tmp_path, **ONE_HOUR)

    async def scenario() -> tuple[list[str], list[str]]:
        async with opened(config, clock=clock) as journal:
            await with_cursor(journal, 20)
            clock.advance(1800)
            young = await with_cursor(journal, 5)
            clock.advance(1801)
            await until(lambda: len(ids_in(config)) <= 5)
            return young, ids_in(config)

    young, left = asyncio.run(scenario())
    assert left == young


def test_what_one_plugin_has_not_had_stays(tmp_path: Path) -> None:
    """The slowest plugin's cursor is the limit, however old the events are."""
    clock, config = Clock(), config_of(tmp_path, **ONE_HOUR)

    async def scenario() -> tuple[list[str], list[str]]:
        async with opened(config, clock=clock) as journal:
            await take(journal, "slow", from_start=False)
            ids = await with_cursor(journal, 20, "archive")
            await move_cursor(journal, "slow", 12)
            clock.advance(HOUR + 1)
            await until(lambda: len(ids_in(config)) < 20)
            before = ids_in(config)
            await move_cursor(journal, "slow", 20)
            await until(lambda: not ids_in(config))
            return ids, before

    ids, before = asyncio.run(scenario())
    assert before == ids[12:]


@pytest.mark.parametrize("state", [RETRYING, WAITING, DEAD])
def test_what_is_parked_or_dead_stays_until_it_is_not(tmp_path: Path, state: str) -> None:
    """Nothing that can still be repaired is dropped; once it is through or discarded, it goes like all others."""
    clock, config = Clock(), config_of(tmp_path, **ONE_HOUR)

    async def scenario() -> tuple[list[str], list[str]]:
        async with opened(config, clock=clock) as journal:
            ids = await with_cursor(journal, 30)
            parked = [Parked(seq=seq, state=state) for seq in (1, 7, 30)]
            await move_cursor(journal, "archive", park=parked)
            clock.advance(HOUR + 1)
            await until(lambda: len(ids_in(config)) <= 3)
            left = ids_in(config)
            if state == DEAD:
                await journal.discard_dead(Filter())
            else:
                await journal.settle(Settlement(track=Track("archive"), epoch=1, release=[1, 7, 30]))
            await until(lambda: not ids_in(config))
            return [ids[0], ids[6], ids[29]], left

    expected, left = asyncio.run(scenario())
    assert left == expected


def test_more_dead_letters_than_a_step_do_not_stop_retention(tmp_path: Path) -> None:
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

    expected, left = asyncio.run(scenario())
    assert left == expected


def test_an_unfinished_replay_keeps_what_it_has_yet_to_deliver(tmp_path: Path) -> None:
    """An operator asked for these events: they wait for the replay to pass."""
    clock, config = Clock(), config_of(tmp_path, **ONE_HOUR)

    async def scenario() -> tuple[int, int]:
        async with opened(config, clock=clock) as journal:
            await with_cursor(journal, 20)
            which = Filter(plugin="archive")
            replay = await journal.operate(lambda connection: operations.new_replay(connection, which, 20, 20))
            clock.advance(HOUR + 1)
            await journal.settle(
                Settlement(track=Track("archive"), epoch=1, replay=ReplayProgress(replay.number, 15, 15))
            )
            await until(lambda: len(ids_in(config)) <= 5)
            during = len(ids_in(config))
            await journal.settle(
                Settlement(track=Track("archive"), epoch=1, replay=ReplayProgress(replay.number, 20, 5))
            )
            await until(lambda: not ids_in(config))
            return during, len(ids_in(config))

    assert asyncio.run(scenario()) == (5, 0)


def test_a_removed_plugin_keeps_its_place_for_the_retention_and_no_longer(tmp_path: Path) -> None:
    """Also in a gateway that is never restarted: its cursor must not hold the journal for ever."""
    clock, config = Clock(), config_of(tmp_path, **ONE_HOUR)

    async def scenario() -> tuple[int, int]:
        async with opened(config, clock=clock) as journal:
            await take(journal, "gone", from_start=False)
            await with_cursor(journal, 10)
            parked = [Parked(seq=3, state=DEAD)]
            await move_cursor(journal, "gone", 5, parked)
            clock.advance(1800)
            await journal.retire_cursors(["archive"])
            clock.advance(1801)
            await until(lambda: len(ids_in(config)) <= 6)
            kept = len(ids_in(config))
            back = await take(journal, "gone", from_start=False)
            assert (back.cursor, len(back.dead_ahead)) == (5, 0)
            await journal.retire_cursors(["archive"])
            clock.advance(HOUR + 1)
            await until(lambda: not ids_in(config))
            anew = await take(journal, "gone", from_start=False)
            return kept, anew.cursor

    assert asyncio.run(scenario()) == (6, 10)


def test_without_any_plugin_events_go_when_they_are_old(tmp_path: Path) -> None:
    """A gateway that only keeps is no exception."""
    clock, config = Clock(), config_of(tmp_path, **ONE_HOUR)

    async def scenario() -> int:
        async with opened(config, clock=clock) as journal:
            await fill(journal, 10)
            clock.advance(HOUR + 1)
            await until(lambda: not ids_in(config))
            await fill(journal, 2)
            return journal.newest

    assert asyncio.run(scenario()) == 12


def test_a_clock_that_was_ahead_does_not_stop_retention(tmp_path: Path) -> None:
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

    future, left = asyncio.run(scenario())
    assert left == future


def test_retention_takes_small_steps_between_which_events_are_kept(tmp_path: Path) -> None:
    """Ten thousand events go in at least twenty commits, and appends meanwhile do not wait for all of them."""
    files = FaultyFiles()
    clock, config = Clock(), config_of(tmp_path, **ONE_HOUR)

    async def scenario() -> tuple[int, int]:
        async with opened(config, clock=clock, vfs=files.name) as journal:
            await with_cursor(journal, 20 * STEP)
            before = files.syncs["journal.db-wal"]
            clock.advance(HOUR + 1)
            appended = 0
            while len(ids_in(config)) > appended:
                await put(journal, message())
                appended += 1
            return files.syncs["journal.db-wal"] - before - appended, appended

    steps, appended = asyncio.run(scenario())
    assert steps >= 20
    assert appended >= 2


def test_a_large_backlog_goes_without_pauses_when_nothing_else_happens(
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

    assert asyncio.run(scenario()) < 8


def test_a_pruned_body_may_come_again(tmp_path: Path) -> None:
    """What is gone is no duplicate's first, and owns no message's key."""
    clock, config = Clock(), config_of(tmp_path, retention="1h", dedupe_window="24h")
    raw = message()

    async def scenario() -> tuple[bool, bool]:
        async with opened(config, clock=clock) as journal:
            await put(journal, raw)
            clock.advance(HOUR + 1)
            await until(lambda: not ids_in(config))
            again = await put(journal, raw)
            [entry] = await journal.read(1, 10)
            return again.duplicate, entry.event.conflict

    assert asyncio.run(scenario()) == (False, False)
