"""The journal's files: their permissions, the lock, and files that are not a journal."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import stat
import subprocess
import sys
import threading
from pathlib import Path

import apsw
import pytest
from journal_kit import config_of, fill, ids_in, opened, until

from gateway.journal import open_reader
from gateway.journal.interface import JournalError
from gateway.journal.lock import JournalLock
from gateway.journal.sqlite.connection import open_writer
from gateway.journal.sqlite.journal import SqliteJournal
from gateway.journal.sqlite.layout import look_at
from gateway.journal.sqlite.search_file import remove, search_path


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


async def test_a_commit_is_synced_and_the_journal_a_write_ahead_log(tmp_path: Path) -> None:
    """Both are read back from the connection that writes."""
    config = config_of(tmp_path)

    async def scenario() -> tuple[object, object, object]:
        async with opened(config) as journal:

            def read(connection: apsw.Connection) -> tuple[object, object, object]:
                pragma = connection.pragma
                return pragma("journal_mode"), pragma("synchronous"), connection.wal_autocheckpoint

            mode, level, _ = await journal.operate(read)
            return mode, level, apsw.sqlite_lib_version()

    mode, level, version = await scenario()
    assert (mode, level) == ("wal", 2)
    assert tuple(map(int, str(version).split("."))) >= (3, 51, 3)


def test_where_wal_cannot_be_had_the_journal_does_not_open(tmp_path: Path) -> None:
    """An acknowledgement is worth nothing on a connection that does not do what was asked of it."""
    with pytest.raises(JournalError, match="needs WAL with synchronous=FULL, but SQLite gives memory and 2"):
        open_writer(tmp_path / "in-memory", vfs="memdb")


async def test_files_are_for_the_owner_only(tmp_path: Path) -> None:
    """0600 for every file and 0700 for the folder, also under a generous umask."""
    config = config_of(tmp_path)

    async def scenario() -> dict[str, int]:
        async with opened(config) as journal:
            await fill(journal, 3)
            await until(search_path(journal.path).exists)
            JournalLock(journal.path).take().release()
            return {path.name: mode_of(path) for path in journal.path.parent.iterdir()}

    umask = os.umask(0)
    try:
        modes = await scenario()
    finally:
        os.umask(umask)
    assert modes == dict.fromkeys(modes, 0o600)
    assert {"journal.db", "journal.db-wal", "journal.db-shm", "journal.db.lock", "journal-search.db"} <= modes.keys()
    assert mode_of(config.journal.path.parent) == 0o700


async def test_a_clean_end_leaves_one_file(tmp_path: Path) -> None:
    """Closed, everything is in the database itself: it may be copied, without the search index too."""
    config = config_of(tmp_path)

    async def scenario() -> list[str]:
        async with opened(config) as journal:
            return await fill(journal, 10)

    ids = await scenario()
    assert sorted(path.name for path in config.journal.path.parent.iterdir()) == ["journal-search.db", "journal.db"]
    remove(search_path(config.journal.path))
    assert ids_in(config) == ids


async def test_a_file_that_is_no_database_is_left_alone(tmp_path: Path) -> None:
    """Text, for example: an error with the path, and not a byte changed."""
    config = config_of(tmp_path, path="notes.txt")
    config.journal.path.write_text("these are notes, " * 1000)
    before = config.journal.path.read_bytes()
    with pytest.raises(JournalError) as refused:
        await SqliteJournal(config).start()
    assert str(refused.value) == f"the journal {config.journal.path} cannot be opened: file is not a database"
    with pytest.raises(JournalError) as unread:
        open_reader(config)
    assert str(unread.value) == f"the journal {config.journal.path} cannot be read: file is not a database"
    assert config.journal.path.read_bytes() == before


async def test_another_database_is_left_alone(tmp_path: Path) -> None:
    """A path that names the company's own data by mistake must not become a journal."""
    config = config_of(tmp_path, path="customers.db")
    theirs = apsw.Connection(str(config.journal.path))
    theirs.execute("CREATE TABLE customers (name); INSERT INTO customers VALUES ('Ada')")
    theirs.close()
    before = config.journal.path.read_bytes()
    with pytest.raises(JournalError) as refused:
        await SqliteJournal(config).start()
    assert str(refused.value) == f"{config.journal.path}: is a database, but not a journal"
    with pytest.raises(JournalError) as unread:
        open_reader(config)
    assert str(unread.value) == f"{config.journal.path}: is a database, but not a journal"
    assert config.journal.path.read_bytes() == before


async def test_a_journal_of_another_version_is_left_alone(tmp_path: Path) -> None:
    """A newer layout is not guessed at."""
    config = config_of(tmp_path)

    async def scenario() -> None:
        async with opened(config) as journal:
            await fill(journal, 1)

    await scenario()
    later = apsw.Connection(str(config.journal.path))
    later.pragma("user_version", 99)
    later.close()
    before = config.journal.path.read_bytes()
    with pytest.raises(JournalError) as refused:
        await SqliteJournal(config).start()
    assert str(refused.value) == (
        f"{config.journal.path}: was written by a newer version of the gateway (layout 99); this one knows up to 8: "
        "install that version"
    )
    assert config.journal.path.read_bytes() == before


async def test_an_empty_file_becomes_a_journal(tmp_path: Path) -> None:
    """A crash before the first write leaves one."""
    config = config_of(tmp_path)
    config.journal.path.parent.mkdir()
    config.journal.path.touch()

    async def scenario() -> list[str]:
        async with opened(config) as journal:
            return await fill(journal, 1)

    ids = await scenario()
    assert ids_in(config) == ids


async def test_a_path_that_cannot_be_is_an_error_in_a_sentence(tmp_path: Path) -> None:
    """A folder where the file should be; a file where a folder should be."""
    config = config_of(tmp_path)
    config.journal.path.mkdir(parents=True)
    with pytest.raises(JournalError, match=r"the journal .*journal\.db cannot be opened: Is a directory$"):
        await SqliteJournal(config).start()
    (tmp_path / "file").write_text("")
    with pytest.raises(JournalError, match=r"the journal .*journal\.db cannot be opened: .+"):
        await SqliteJournal(config_of(tmp_path, path="file/journal.db")).start()


def test_without_a_journal_a_reader_says_what_makes_one(tmp_path: Path) -> None:
    """And makes none itself."""
    config = config_of(tmp_path)
    with pytest.raises(JournalError) as missing:
        open_reader(config)
    assert str(missing.value) == f"there is no journal at {config.journal.path} yet; `gateway run` makes it"
    assert not config.journal.path.exists()


def test_one_process_holds_a_journal_and_is_named_to_the_others(tmp_path: Path) -> None:
    """A second gateway on the same journal is refused with the first one's process id."""
    path = tmp_path / "var" / "journal.db"
    code = (
        "import sys; from pathlib import Path; from gateway.journal.lock import JournalLock\n"
        f"JournalLock(Path({str(path)!r})).take(); print('held', flush=True); sys.stdin.read()"
    )
    holder = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        lock = JournalLock(path)
        assert lock.is_held()
        with pytest.raises(JournalError) as refused:
            lock.take()
        assert str(refused.value) == (
            f"the journal {path} is in use by the gateway with process id {holder.pid}; stop that one first"
        )
    finally:
        holder.kill()
        holder.communicate()
    assert not lock.is_held()
    with lock:
        assert lock.is_held()
    assert not lock.is_held()


def _hold(ready: object) -> None:
    ready.set()  # type: ignore[attr-defined]
    threading.Event().wait()


def test_a_lock_lasts_as_long_as_any_process_that_inherited_it(tmp_path: Path) -> None:
    """A worker that outlives its supervisor still keeps others away."""
    path = tmp_path / "journal.db"
    lock = JournalLock(path).take()
    context = multiprocessing.get_context("fork")
    ready = context.Event()
    worker = context.Process(target=_hold, args=(ready,))
    worker.start()
    try:
        assert ready.wait(10)
        lock.release()
        with pytest.raises(JournalError, match="is in use by the gateway with process id"):
            JournalLock(path).take()
    finally:
        worker.kill()
        worker.join()
    JournalLock(path).take().release()


def test_looking_whether_a_journal_is_held_does_not_take_it(tmp_path: Path) -> None:
    """Commands look at the lock all the time; a gateway that starts just then starts all the same."""
    path = tmp_path / "journal.db"
    JournalLock(path).take().release()
    over = threading.Event()

    def look() -> None:
        lock = JournalLock(path)
        while not over.is_set():
            lock.is_held()

    lookers = [threading.Thread(target=look) for _ in range(2)]
    for looker in lookers:
        looker.start()
    try:
        for _ in range(200):
            JournalLock(path).take().release()
    finally:
        over.set()
        for looker in lookers:
            looker.join()


def test_a_folder_is_not_a_journal(tmp_path: Path) -> None:
    """`gateway check` says so."""
    with pytest.raises(JournalError, match=f"the journal {tmp_path} cannot be opened: it is not a file"):
        look_at(tmp_path)


async def test_a_journal_without_one_of_its_tables_is_refused(tmp_path: Path) -> None:
    """With a sentence that names the file, and its connection is closed."""
    config = config_of(tmp_path)
    async with opened(config):
        pass
    with contextlib.closing(apsw.Connection(str(config.journal.path))) as connection:
        connection.execute("DROP TABLE cursors")
    with pytest.raises(JournalError, match=r"the journal .*journal.db cannot be read: .*no such table"):
        await SqliteJournal(config).start()
    assert not config.journal.path.with_name("journal.db-wal").exists()
