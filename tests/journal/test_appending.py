"""Appending to the journal: when it is kept, what is a duplicate, what is a conflict."""

from __future__ import annotations

import asyncio
import uuid
from pathlib import Path

import apsw
import pytest
from journal_kit import (
    Clock,
    FaultyFiles,
    config_of,
    fill,
    ids_in,
    message,
    opened,
    put,
    put_together,
    reading,
)

from gateway.config.tables import Config
from gateway.journal.interface import Filter
from gateway.journal.search import EventRow
from gateway.journal.sqlite import writer
from gateway.journal.sqlite.work import GROUP, GROUP_BYTES

OTHER = "umbrella"
DAY = 86400.0


def rows_in(config: Config) -> list[EventRow]:
    with reading(config) as reader:
        return list(reader.events(Filter()))


async def test_a_receipt_comes_only_once_another_connection_sees_the_event(tmp_path: Path) -> None:
    """When the future is done the event is committed: not earlier, and for every event of a group."""
    config = config_of(tmp_path)

    async def scenario() -> list[tuple[str, bool]]:
        seen: list[tuple[str, bool]] = []
        second = apsw.Connection(str(config.journal.path), flags=apsw.SQLITE_OPEN_READONLY)

        def look(receipt_id: str) -> None:
            found = second.execute("SELECT count(*) FROM events WHERE id = ?", (receipt_id,)).fetchone()
            seen.append((receipt_id, found == (1,)))

        async with opened(config) as journal:
            for _ in range(20):
                futures = [put(journal, message()) for _ in range(10)]
                for future in futures:
                    future.add_done_callback(lambda done: look(done.result().id))
                await asyncio.gather(*futures)
        second.close()
        return seen

    # the file has to be there before the second connection can open it
    async def make() -> None:
        async with opened(config):
            pass

    await make()
    seen = await scenario()
    assert len(seen) == 200
    assert all(visible for _, visible in seen)


async def test_a_commit_that_takes_long_gives_no_receipt_before_it_is_through(tmp_path: Path) -> None:
    """A receipt waits for the sync of the write-ahead log itself."""
    files = FaultyFiles()
    config = config_of(tmp_path)

    async def scenario() -> None:
        async with opened(config, vfs=files.name) as journal:
            with files.held("sync", "-wal") as held:
                future = put(journal, message())
                await asyncio.to_thread(held.reached.wait, 10)
                await asyncio.sleep(0.05)
                assert not future.done()
                held.release.set()
                assert (await future).duplicate is False

    await scenario()


@pytest.fixture
def no_checkpoints(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only commits sync the write-ahead log."""
    monkeypatch.setattr(writer, "HOUSEKEEPING", 3600.0)


@pytest.mark.usefixtures("no_checkpoints")
async def test_events_that_arrive_during_a_commit_share_the_next(tmp_path: Path) -> None:
    """Group commit: a thousand appends beside a running commit take one sync."""
    files = FaultyFiles()
    config = config_of(tmp_path)

    async def scenario() -> int:
        async with opened(config, vfs=files.name) as journal:
            before = files.syncs["journal.db-wal"]
            await put_together(journal, [message() for _ in range(1000)])
            return files.syncs["journal.db-wal"] - before

    assert await scenario() == 1


@pytest.mark.usefixtures("no_checkpoints")
async def test_large_events_do_not_all_wait_for_one_large_commit(tmp_path: Path) -> None:
    """A group is bounded in bytes too: the first are acknowledged while the last are being written."""
    files = FaultyFiles()
    config = config_of(tmp_path)

    async def scenario() -> int:
        async with opened(config, vfs=files.name) as journal:
            before = files.syncs["journal.db-wal"]
            await put_together(journal, [message(body="x" * 2**20) for _ in range(3 * GROUP_BYTES >> 20)])
            return files.syncs["journal.db-wal"] - before

    assert await scenario() >= 3


async def test_a_lone_append_waits_for_no_other(tmp_path: Path) -> None:
    """One after the other, each append gets a commit of its own at once: no timer gathers a group."""
    files = FaultyFiles()
    config = config_of(tmp_path)

    async def scenario() -> tuple[int, float]:
        loop = asyncio.get_running_loop()
        async with opened(config, vfs=files.name) as journal:
            before, began = files.syncs["journal.db-wal"], loop.time()
            for _ in range(20):
                await put(journal, message())
            return files.syncs["journal.db-wal"] - before, loop.time() - began

    syncs, seconds = await scenario()
    assert syncs == 20
    assert seconds < 20 * 0.1


async def test_more_than_a_group_are_all_kept_in_order(tmp_path: Path) -> None:
    """What does not fit into one transaction goes into the next, in the order of arrival."""
    config = config_of(tmp_path)

    async def scenario() -> list[str]:
        async with opened(config) as journal:
            return await fill(journal, 2 * GROUP + 7)

    ids = await scenario()
    assert ids_in(config) == ids
    assert len(set(ids)) == 2 * GROUP + 7


async def test_an_id_is_a_uuid_of_version_7_with_the_moment_of_receipt(tmp_path: Path) -> None:
    """In the canonical form; its first 48 bits are milliseconds since 1970."""
    clock = Clock(1_700_000_000.125)
    async with opened(config_of(tmp_path), clock=clock) as journal:
        [first] = await fill(journal, 1)
    parsed = uuid.UUID(first)
    assert (str(parsed), parsed.version, parsed.variant) == (first, 7, uuid.RFC_4122)
    assert parsed.int >> 80 == 1_700_000_000_125
