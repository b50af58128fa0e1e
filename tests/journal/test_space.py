"""No room: refused at once, nothing of it kept, delivery and repair go on, and room comes back by itself."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import apsw
import pytest
from journal_kit import (
    Clock,
    FaultyFiles,
    broken,
    config_of,
    fill,
    full,
    ids_in,
    message,
    move_cursor,
    opened,
    put,
    put_together,
    take,
    until,
)

from gateway.journal.interface import DEAD, Filter, JournalFull, Parked
from gateway.journal.sqlite import writer
from gateway.journal.sqlite.journal import SqliteJournal


@pytest.fixture(autouse=True)
def looks_often(monkeypatch: pytest.MonkeyPatch) -> None:
    """The journal looks after itself fifty times a second, so that tests need not wait."""
    monkeypatch.setattr(writer, "HOUSEKEEPING", 0.02)


async def fill_up(journal: SqliteJournal) -> None:
    """Put events into the journal until it refuses them."""
    while journal.refusal() is None:
        await asyncio.gather(*(put(journal, message(body="x" * 4000)) for _ in range(20) if not journal.refusal()))


async def repairs(journal: SqliteJournal) -> None:
    """What has to go on without room: cursors, parked events, discarding, the readiness probe."""
    parked = [Parked(seq=1, state=DEAD), Parked(seq=2, state=DEAD)]
    await move_cursor(journal, "archive", 1, parked)
    assert await journal.discard_dead(Filter()) == 2
    await journal.probe()


async def test_beyond_max_size_events_are_refused_and_retention_makes_room(tmp_path: Path) -> None:
    """The refusal says which setting it is; after retention the journal takes events again, in the same file."""
    clock = Clock()
    config = config_of(tmp_path, max_size="1 MiB", retention="1h")

    async def scenario() -> tuple[str, int]:
        async with opened(config, clock=clock) as journal:
            await take(journal, "archive")
            await fill_up(journal)
            with pytest.raises(JournalFull) as refused:
                put(journal, message())
            await repairs(journal)
            for _ in range(5):  # of 1 MiB at least; a busy machine looks at the size late
                clock.advance(3601)
                await move_cursor(journal, "archive", journal.newest)
                await until(lambda: journal.refusal() is None and not ids_in(config))  # all of it, not just enough
                await fill_up(journal)
        return str(refused.value), config.journal.path.stat().st_size

    sentence, size = await scenario()
    assert sentence.endswith("MiB more than journal.max_size")
    assert size < 5 * 2**20


class Disk:
    """Stands for the journal's disk: `free` bytes."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, free: int) -> None:
        self.free = free
        monkeypatch.setattr(os, "statvfs", self.statvfs)

    def statvfs(self, path: object) -> os.statvfs_result:
        blocks = self.free // 4096
        return os.statvfs_result((4096, 4096, 2 * blocks, blocks, blocks, 0, 0, 0, 0, 255))


async def test_below_min_free_events_are_refused_until_there_is_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The low-water mark keeps room for delivery and repair; no restart is needed afterwards."""
    disk = Disk(monkeypatch, 2**30)
    config = config_of(tmp_path, min_free="256 MiB")

    async def scenario() -> str:
        async with opened(config) as journal:
            await take(journal, "archive")
            await fill(journal, 3)
            disk.free = 200 * 2**20
            await until(lambda: journal.refusal() is not None)
            with pytest.raises(JournalFull) as refused:
                put(journal, message())
            await repairs(journal)
            disk.free = 300 * 2**20
            await until(lambda: journal.refusal() is None)
            await fill(journal, 3)
            return str(refused.value)

    assert await scenario() == "the journal has 200 MiB free, 56 MiB less than journal.min_free"
    assert len(ids_in(config)) == 6


async def test_a_journal_that_filled_its_disk_gets_its_room_back_by_retention(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What retention freed stays in the file: it counts as free, or the gateway would refuse events for ever."""
    disk, clock = Disk(monkeypatch, 2**30), Clock()
    config = config_of(tmp_path, min_free="1 MiB", retention="1h")

    async def scenario() -> None:
        async with opened(config, clock=clock) as journal:
            await take(journal, "archive", from_start=False)
            for _ in range(4):
                await asyncio.gather(*(put(journal, message(body="x" * 4000)) for _ in range(200)))
            disk.free = 2**19
            await until(lambda: journal.refusal() is not None)
            clock.advance(3601)
            await move_cursor(journal, "archive", journal.newest)
            await until(lambda: journal.refusal() is None)
            await fill(journal, 1)

    await scenario()


@pytest.mark.parametrize("spared", [0, 5], ids=["first write", "later write"])
async def test_a_full_disk_refuses_the_group_and_recovers(
    tmp_path: Path, spared: int, caplog: pytest.LogCaptureFixture
) -> None:
    """SQLITE_FULL: none of the group is kept, all of it is told so, and the journal tries again by itself."""
    files = FaultyFiles()
    config = config_of(tmp_path)

    async def scenario() -> tuple[list[str], str | None, list[str]]:
        async with opened(config, vfs=files.name) as journal:
            kept = await fill(journal, 10)

            def fill_disk() -> None:
                files.spared = spared
                files.failing["write", "-wal"] = full()

            outcomes = await put_together(journal, [message() for _ in range(50)], fill_disk)
            refusal = journal.refusal()
            with pytest.raises(JournalFull):
                put(journal, message())
            with pytest.raises(JournalFull):
                await journal.probe()
            files.failing.clear()
            await until(lambda: journal.refusal() is None)
            kept += await fill(journal, 10)
            assert {type(outcome) for outcome in outcomes} == {JournalFull}
            return [str(outcome) for outcome in outcomes], refusal, kept

    sentences, refusal, kept = await scenario()
    assert set(sentences) == {"the journal cannot be written (FullError)"} == {refusal}
    assert ids_in(config) == kept
    assert [record.message for record in caplog.records] == [
        "journal: refuses new events with 503: the journal cannot be written (FullError); "
        f"the disk of {tmp_path}/var, or a quota on it, is full: make room there; it is tried again by itself",
        "journal: takes new events again, after 0 s",
    ]


async def test_a_full_disk_during_a_checkpoint_hinders_no_commit(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """What cannot be moved into the database stays in the log and is moved later; it is said once, not for ever."""
    files = FaultyFiles()
    config = config_of(tmp_path)

    async def scenario() -> int:
        async with opened(config, vfs=files.name) as journal:
            files.failing["write", "journal.db"] = full()
            for _ in range(10):
                await fill(journal, 5)
                await asyncio.sleep(0.05)
            files.failing.clear()
            await fill(journal, 5)
            await until(lambda: config.journal.path.stat().st_size > 20_000)
            return len(ids_in(config))

    assert await scenario() == 55
    assert [record.message for record in caplog.records] == [
        "journal: retention or a checkpoint cannot be written: FullError; trying again"
    ]


async def test_a_journal_on_a_full_disk_can_be_closed(tmp_path: Path) -> None:
    """Stopping the gateway is possible at all times, and what was acknowledged is there at the next start."""
    files = FaultyFiles()
    config = config_of(tmp_path)

    async def scenario() -> list[str]:
        async with opened(config, vfs=files.name) as journal:
            ids = await fill(journal, 5)
            files.failing["write", "-wal"] = full()
        files.failing.clear()
        async with opened(config):
            return ids

    assert await scenario() == ids_in(config)


async def test_a_database_locked_by_another_process_refuses_events_until_it_is_free(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An operator's `sqlite3` with an open transaction: refused, and afterwards kept again."""
    config = config_of(tmp_path)

    async def scenario() -> tuple[str, list[str]]:
        async with opened(config) as journal:
            journal._connection.set_busy_timeout(50)
            kept = await fill(journal, 2)
            other = apsw.Connection(str(config.journal.path))
            other.execute("BEGIN IMMEDIATE")
            with pytest.raises(JournalFull) as refused:
                await put(journal, message())
            other.execute("ROLLBACK")
            other.close()
            await until(lambda: journal.refusal() is None)
            return str(refused.value), kept + await fill(journal, 2)

    sentence, kept = await scenario()
    assert sentence == "the journal cannot be written (BusyError)"
    assert ids_in(config) == kept


async def test_a_write_that_fails_before_the_commit_keeps_nothing_and_the_journal_goes_on(tmp_path: Path) -> None:
    """While pages of a large group are written ahead of its commit, a fault leaves no doubt: nothing was kept."""
    files = FaultyFiles()
    config = config_of(tmp_path)

    def fail() -> None:
        files.failing["write", "-wal"] = broken(apsw.SQLITE_IOERR_WRITE)

    async def scenario() -> int:
        async with opened(config, vfs=files.name) as journal:
            journal._connection.pragma("cache_size", 10)
            outcomes = await put_together(journal, [message(body="x" * 3000) for _ in range(200)], fail)
            assert {str(outcome) for outcome in outcomes} == {"the journal cannot be written (IOError)"}
            assert {type(outcome) for outcome in outcomes} == {JournalFull}
            files.failing.clear()
            await until(lambda: journal.refusal() is None)
            await fill(journal, 2)
            return len(ids_in(config))

    assert await scenario() == 2


async def test_after_a_full_disk_retention_goes_on(tmp_path: Path) -> None:
    """Once there is room again, old events go as before."""
    clock, files = Clock(), FaultyFiles()
    config = config_of(tmp_path, retention="1h")
    async with opened(config, clock=clock, vfs=files.name) as journal:
        await take(journal, "archive", from_start=False)
        await fill(journal, 3)
        files.failing["write", "-wal"] = full()
        with pytest.raises(JournalFull):
            await put(journal, message())
        files.failing.clear()
        await until(lambda: journal.refusal() is None)
        await move_cursor(journal, "archive", journal.newest)
        clock.advance(3601)
        await until(lambda: not ids_in(config))
