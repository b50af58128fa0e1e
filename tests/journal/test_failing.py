"""Faults that leave doubt stop the journal; faults of one operation stay with it."""

from __future__ import annotations

import asyncio
import contextlib
import tracemalloc
from pathlib import Path

import apsw
import pytest
from journal_kit import (
    FaultyFiles,
    broken,
    config_of,
    fill,
    ids_in,
    message,
    move_cursor,
    opened,
    put,
    put_together,
    take,
    until,
)

from gateway.journal.interface import Filter, JournalError, JournalFailed, JournalFull, Receipt
from gateway.journal.sqlite import operations, refusing, writer
from gateway.journal.sqlite.journal import SqliteJournal

UNKNOWN = "a commit to the journal failed (IOError: disk I/O error); what became of it is unknown"


@pytest.fixture(autouse=True)
def looks_often(monkeypatch: pytest.MonkeyPatch) -> None:
    """The journal looks after itself fifty times a second, so that tests need not wait."""
    monkeypatch.setattr(writer, "HOUSEKEEPING", 0.02)


async def test_a_sync_that_fails_stops_the_journal(tmp_path: Path) -> None:
    """All callers that wait are told, the owner of the process is told, and nothing is taken any more."""
    files = FaultyFiles()
    config = config_of(tmp_path)

    def fail() -> None:
        files.failing["sync", "-wal"] = broken()

    async def scenario() -> tuple[list[object], list[JournalFailed]]:
        failures: list[JournalFailed] = []
        async with opened(config, vfs=files.name) as journal:
            journal.on_failure = failures.append
            await take(journal, "archive")
            outcomes: list[object] = list(await put_together(journal, [message() for _ in range(20)], fail))
            files.failing.clear()
            with pytest.raises(JournalFailed, match="what became of it is unknown"):
                put(journal, message())
            with pytest.raises(JournalFailed, match="what became of it is unknown"):
                await move_cursor(journal, "archive", 1)
            assert journal.refusal() == UNKNOWN
            return outcomes, failures

    outcomes, failures = await scenario()
    assert {(type(outcome), str(outcome)) for outcome in outcomes} == {(JournalFailed, UNKNOWN)}
    assert [str(failure) for failure in failures] == [UNKNOWN]


async def test_an_event_whose_commit_failed_and_that_comes_again_is_there_once(tmp_path: Path) -> None:
    """Its outcome is unknown, so the sender repeats it: the journal knows it again, or did not have it."""
    files = FaultyFiles()
    config = config_of(tmp_path)
    raw = message()

    async def scenario() -> str:
        async with opened(config, vfs=files.name) as journal:
            files.failing["sync", "-wal"] = broken()
            with pytest.raises(JournalFailed):
                await put(journal, raw)
            files.failing.clear()
        async with opened(config) as journal:
            return (await put(journal, raw)).id

    event_id = await scenario()
    assert ids_in(config) == [event_id]


@pytest.mark.parametrize("operation", ["sync", "write"])
async def test_a_checkpoint_that_fails_stops_the_journal(tmp_path: Path, operation: str) -> None:
    """A disk that refuses what a checkpoint writes cannot be relied on any more."""
    files = FaultyFiles()
    config = config_of(tmp_path)

    async def scenario() -> str:
        failed: asyncio.Future[JournalFailed] = asyncio.get_running_loop().create_future()
        async with opened(config, vfs=files.name) as journal:
            journal.on_failure = failed.set_result
            files.failing[operation, "journal.db"] = broken()
            with contextlib.suppress(JournalFailed):  # the first look at the log may come before them
                await fill(journal, 5)
            failure = await asyncio.wait_for(failed, 10)
            with pytest.raises(JournalFailed):
                put(journal, message())
            files.failing.clear()
            return str(failure)

    assert await scenario() == "maintenance of the journal failed (IOError: disk I/O error)"
    assert len(ids_in(config)) == 5


@pytest.mark.parametrize("file", ["journal.db", "journal.db-wal"])
@pytest.mark.parametrize("how", ["deleted", "replaced"])
async def test_files_that_are_taken_away_stop_the_journal(tmp_path: Path, file: str, how: str) -> None:
    """What goes into a file without a name is lost at the next start: better to stop and say so."""
    config = config_of(tmp_path)
    path = config.journal.path.with_name(file)

    async def scenario() -> str:
        failed: asyncio.Future[JournalFailed] = asyncio.get_running_loop().create_future()
        async with opened(config) as journal:
            journal.on_failure = failed.set_result
            await fill(journal, 5)
            path.rename(tmp_path / "taken")
            if how == "replaced":
                path.write_bytes((tmp_path / "taken").read_bytes())
            failure = await asyncio.wait_for(failed, 10)
            with pytest.raises(JournalFailed):
                put(journal, message())
            return str(failure)

    assert await scenario() == (
        "maintenance of the journal failed (JournalError: its files were moved or deleted; newer events are not in the "
        "files at that path)"
    )


@pytest.mark.parametrize("fault", [ValueError("no number"), KeyError("x"), RuntimeError("odd")], ids=repr)
async def test_an_operation_that_raises_is_taken_back_and_harms_nothing_else(tmp_path: Path, fault: Exception) -> None:
    """Events and operations of the same commit are kept; its caller gets what it raised."""
    files = FaultyFiles()
    config = config_of(tmp_path)

    def faulty(connection: apsw.Connection) -> None:
        connection.execute("UPDATE cursors SET seq = 77")
        raise fault

    async def scenario() -> tuple[object, int, list[str]]:
        async with opened(config, vfs=files.name) as journal:
            await take(journal, "archive")
            operations: list[asyncio.Future[object]] = []

            def operate() -> None:
                operations.append(asyncio.ensure_future(journal.operate(faulty)))
                operations.append(asyncio.ensure_future(move_cursor(journal, "archive", 3)))

            receipts = await put_together(journal, [message() for _ in range(5)], operate)
            outcome, moved = await asyncio.gather(*operations, return_exceptions=True)
            assert moved is None
            cursor = (await take(journal, "archive")).cursor
            return outcome, cursor, [receipt.id for receipt in receipts if isinstance(receipt, Receipt)]

    outcome, cursor, ids = await scenario()
    assert outcome is fault
    assert cursor == 3
    assert ids_in(config) == ids


async def test_a_filter_too_large_for_sqlite_is_refused_and_stops_nothing(tmp_path: Path) -> None:
    """A request with forty thousand ids is a bad request, not a broken disk."""
    config = config_of(tmp_path)
    which = Filter(ids=tuple(str(number) for number in range(40_000)))

    async def scenario() -> tuple[str, str]:
        async with opened(config) as journal:
            with pytest.raises(JournalError) as writing:
                await journal.operate(lambda connection: operations.count_dead(connection, which))
            with pytest.raises(JournalError) as reading:
                await journal.scan(which, 0, 10, 10)
            await fill(journal, 1)
            assert not isinstance(writing.value, JournalFull | JournalFailed)
            return str(writing.value), str(reading.value)

    writing, reading = await scenario()
    assert writing == "the journal refused this: too many SQL variables"
    assert reading == "the journal cannot be read (SQLError: too many SQL variables)"


async def test_a_closed_journal_takes_nothing(tmp_path: Path) -> None:
    """What comes after the end is refused; it does not wait for ever."""
    config = config_of(tmp_path)

    async def scenario() -> None:
        journal = SqliteJournal(config)
        await journal.start()
        closing = asyncio.create_task(journal.close())
        late: list[asyncio.Future[Receipt]] = []
        while not closing.done():
            if len(late) < 200:
                with contextlib.suppress(JournalFull):
                    late.append(put(journal, message()))
            await asyncio.sleep(0)
        await closing
        assert all(not receipt.duplicate for receipt in await asyncio.gather(*late))
        with pytest.raises(JournalFull, match="the journal is closed"):
            put(journal, message())
        with pytest.raises(JournalFull, match="the journal is closed"):
            await journal.probe()

    await scenario()


async def test_a_write_that_fails_within_an_operation_is_not_the_operations_fault(tmp_path: Path) -> None:
    """The journal is refused until it can be written again; a wrong statement is refused alone."""

    def cannot_write(connection: apsw.Connection) -> None:
        raise apsw.FullError("database or disk is full")

    async with opened(config_of(tmp_path)) as journal:
        with pytest.raises(JournalFull, match=r"the journal cannot be written \(FullError\)"):
            await journal.operate(cannot_write)
        with pytest.raises(JournalError, match="the journal refused this: "):
            await journal.operate(lambda connection: connection.execute("SELECT nothing"))


async def test_a_write_that_hangs_refuses_new_events_until_it_returns(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A disk that does not answer: events are refused with the reason, so that memory does not fill with them. The log
    has one line when it begins, and one when it ends."""
    monkeypatch.setattr(refusing, "HUNG", 0.05)
    files = FaultyFiles()

    async with opened(config_of(tmp_path), vfs=files.name) as journal:
        with files.held("sync", "-wal") as held:
            first = put(journal, message())
            assert await asyncio.to_thread(held.reached.wait, 10)
            await until(lambda: journal.refusal() is not None)
            tracemalloc.start()
            for _ in range(1000):
                with pytest.raises(JournalFull, match=r"the disk has not finished a write to the journal for \d+ s"):
                    put(journal, message())
            assert tracemalloc.get_traced_memory()[0] < 2**20
            tracemalloc.stop()
            assert [record.getMessage() for record in caplog.records if "disk" in record.getMessage()] == [
                "journal: refuses new events with 503: the disk has not finished a write for 0 s; look at the disk, at"
                " what it is attached to, and at the kernel's log (dmesg); they are taken again once it has"
            ]
            held.release.set()
            await first
        await until(lambda: journal.refusal() is None)
        assert "journal: the disk finished the write after " in caplog.text
        assert len(await fill(journal, 1)) == 1
