"""The write-ahead log stays short, and long reads cost writes little."""

from __future__ import annotations

import asyncio
from pathlib import Path

import apsw
import pytest
from journal_kit import FaultyFiles, config_of, fill, ids_in, message, opened, put, until

from gateway.config.tables import Config
from gateway.journal.sqlite import connection as wal
from gateway.journal.sqlite import writer


@pytest.fixture(autouse=True)
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """A log that is long from 2 MiB on, and looked at fifty times a second."""
    monkeypatch.setattr(writer, "HOUSEKEEPING", 0.02)
    monkeypatch.setattr(wal, "PAGES", 50)
    monkeypatch.setattr(wal, "LONG", 512)
    monkeypatch.setattr("gateway.journal.sqlite.connection.LONG", 512)


def size_of(config: Config) -> int:
    return config.journal.path.with_name("journal.db-wal").stat().st_size


async def test_the_log_is_moved_into_the_database_while_events_come(tmp_path: Path) -> None:
    """It restarts each time, so that it stays at a few hundred KiB however much comes."""
    config = config_of(tmp_path)

    async def scenario() -> int:
        longest = 0
        async with opened(config) as journal:
            for _ in range(100):
                await put(journal, message(body="x" * 20_000))
                longest = max(longest, size_of(config))
        return longest

    assert await scenario() < 100 * 4096
    assert len(ids_in(config)) == 100


async def test_when_nothing_comes_all_of_it_is_moved(tmp_path: Path) -> None:
    """Then the database alone has everything, and an open has nothing to recover."""
    config = config_of(tmp_path)

    async def scenario() -> list[tuple[int]]:
        async with opened(config) as journal:
            await fill(journal, 10)

            def moved() -> bool:
                copy = tmp_path / "copy.db"
                copy.write_bytes(config.journal.path.read_bytes())
                copied = apsw.Connection(str(copy))
                try:
                    return list(copied.execute("SELECT count(*) FROM events")) == [(10,)]
                except apsw.SQLError:
                    return False
                finally:
                    copied.close()

            await until(moved)
        return []

    await scenario()


async def test_many_readers_do_not_make_the_log_grow_for_ever(tmp_path: Path) -> None:
    """There is always some reader: the checkpoint waits a moment for it and the log restarts, so that before long much
    more was written than the log is long."""
    config = config_of(tmp_path)
    body = "x" * 40_000
    async with opened(config) as journal:
        await fill(journal, 2000)
        over = False

        async def read() -> None:
            after = 0
            while not over:
                entries = await journal._read("events WHERE seq > ? ORDER BY seq LIMIT 500", (after,))
                after = entries[-1].seq if entries else 0

        readers = [asyncio.create_task(read()) for _ in range(4)]
        written = 0
        while written < 2 * size_of(config) or written < 2**24:
            assert written < 2**28, "the log never restarted"
            await put(journal, message(body=body))
            written += len(body)
        over = True
        await asyncio.gather(*readers)


async def test_one_reader_that_never_ends_costs_little_and_leaves_no_long_log(tmp_path: Path) -> None:
    """An open transaction of another process holds the log: commits go on with a sync each and hardly one more, and
    afterwards the file is short again."""
    files = FaultyFiles()
    config = config_of(tmp_path)

    async def scenario() -> tuple[int, int, int]:
        async with opened(config, vfs=files.name) as journal:
            await fill(journal, 1)
            other = apsw.Connection(str(config.journal.path))
            other.execute("BEGIN; SELECT count(*) FROM events")
            before = sum(files.syncs.values())
            for _ in range(200):
                await put(journal, message(body="x" * 40_000))
            syncs, longest = sum(files.syncs.values()) - before, size_of(config)
            other.execute("COMMIT")
            other.close()

            async def write() -> None:
                await put(journal, message(body="x" * 4000))

            while size_of(config) > 3 * 2**20:
                await write()
            return syncs, longest, size_of(config)

    syncs, longest, afterwards = await scenario()
    assert longest > 8 * 2**20
    assert syncs < 200 + 100
    assert afterwards <= 3 * 2**20


async def test_a_reader_that_takes_long_is_waited_for_less_and_less_often(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Such as a backup: commits wait for it a few times, not again and again while the log grows."""
    waits, restart = list[wal.WriteAheadLog](), wal.WriteAheadLog._restart

    def counted(log: wal.WriteAheadLog) -> None:
        waits.append(log)
        restart(log)

    monkeypatch.setattr(wal, "PAGES", 16)
    monkeypatch.setattr(wal, "LONG", 64)
    monkeypatch.setattr(wal, "WAIT_MS", 1)
    monkeypatch.setattr(wal.WriteAheadLog, "_restart", counted)
    config = config_of(tmp_path)
    async with opened(config) as journal:
        await fill(journal, 1)
        other = apsw.Connection(str(config.journal.path))
        other.execute("BEGIN; SELECT count(*) FROM events")
        for _ in range(200):  # of 10 pages each
            await put(journal, message(body="x" * 40_000))
        other.execute("COMMIT")
        other.close()
        assert 2 < len(waits) < 20
