"""Connections to the journal's database: one that writes and checkpoints, and those that only read."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import apsw

from gateway.journal.contents import error_key, has_address, has_words
from gateway.journal.interface import JournalDamaged, JournalError
from gateway.journal.lock import LINK, JournalLock
from gateway.journal.search import SearchTooSlow
from gateway.journal.sqlite.checksum import register
from gateway.journal.sqlite.layout import LAYOUT, begin_generation, layout_of, sync, upgrade
from gateway.journal.sqlite.wal_file import log_of, require_own_log

PAGES: Final = 2000
"""Pages that the log grows by between two checkpoints."""
LONG: Final = 16_384
"""Pages (64 MiB) from which a checkpoint waits for readers: the log cannot restart while one reads."""
WAIT_MS: Final = 100
BUSY_MS: Final = 5000
"""How long a statement waits for another process that has the database locked."""
_ENTER: Final = os.R_OK | os.W_OK | os.X_OK
_USE: Final = os.R_OK | os.W_OK


def rows(connection: apsw.Connection, sql: str, values: Sequence[Any] = ()) -> list[Any]:
    """All rows of a query. `JournalDamaged`, or `SearchTooSlow` where the connection has a limit."""
    try:
        return list(connection.execute(sql, values))
    except apsw.InterruptError:
        raise SearchTooSlow("the search took too long; give it fewer events to read, for example with since") from None
    except (apsw.CorruptError, apsw.NotADBError, UnicodeDecodeError) as error:
        raise JournalDamaged(f"the journal is damaged ({error}); run `gateway journal check`") from error


def open_writer(path: Path, vfs: str | None = None, copy: bool = True, repair: bool = False) -> apsw.Connection:
    """Open the one connection that writes, of the current layout, making the file where it is missing: WAL, every
    commit synced, both read back. `JournalError` where it cannot be used; a file of another kind, and a database beside
    another one's log, are left as they are. With `repair`, what stands behind damage in the log is given up."""
    try:
        make_folder(path.parent)
        with contextlib.suppress(*((JournalDamaged,) if repair else ())):
            require_own_log(path)
        for beside in (path.with_name(f"{path.name}-wal"), path.with_name(f"{path.name}-shm")):
            if beside.is_symlink():
                raise JournalError(f"{beside} cannot be opened: {LINK}")
        if vfs is None:
            os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600))
        connection = apsw.Connection(str(path), vfs=vfs)
    except (apsw.Error, OSError) as error:
        raise JournalError(f"the journal {path} cannot be opened: {why(error, path)}") from error
    try:
        _prepare(connection, path)
        upgrade(connection, path, copy)
        _register_contents(connection)
        _begin_log(connection)
    except BaseException as error:
        connection.close()
        if isinstance(error, apsw.Error | UnicodeDecodeError):
            raise JournalError(f"the journal {path} cannot be opened: {error}") from error
        raise
    return connection


def _prepare(connection: apsw.Connection, path: Path) -> None:
    connection.set_busy_timeout(BUSY_MS)
    layout_of(connection, path)  # before anything is changed
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    mode, level = connection.pragma("journal_mode"), connection.pragma("synchronous")
    if (mode, level) != ("wal", 2):
        raise JournalError(f"{path}: needs WAL with synchronous=FULL, but SQLite gives {mode} and {level}")
    connection.wal_autocheckpoint(0)
    connection.pragma("journal_size_limit", LONG * connection.pragma("page_size"))
    connection.execute("PRAGMA cache_size = -65536")
    connection.execute("PRAGMA temp_store = MEMORY")
    connection.execute("PRAGMA secure_delete = ON")  # what is deleted, by retention too, is overwritten


def _register_contents(connection: apsw.Connection) -> None:
    """Let statements on this connection look into bodies and errors."""
    connection.create_scalar_function("error_key", lambda *values: error_key(*values), 1, deterministic=True)
    connection.create_scalar_function("has_address", lambda *values: has_address(*values), 2, deterministic=True)
    connection.create_scalar_function("has_words", lambda *values: has_words(*values), 2, deterministic=True)


def _begin_log(connection: apsw.Connection) -> None:
    """Move all of the log into the database, which gets a generation that no copy made before has."""
    begin_generation(connection)
    connection.set_busy_timeout(WAIT_MS)
    with contextlib.suppress(apsw.BusyError):  # a reader has the log
        connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_TRUNCATE)
    connection.set_busy_timeout(BUSY_MS)


def require_readable_log(path: Path) -> None:
    """Like `require_own_log`, where no process writes to the journal; one that does has looked."""
    lock = JournalLock(path)
    if lock.is_held():
        return
    before = _written_at(path)
    try:
        require_own_log(path)
    except JournalError:
        time.sleep(0.02)  # longer than the step of the file system's clock
        if _written_at(path) == before and not lock.is_held():
            raise


def _written_at(path: Path) -> int:
    try:
        return log_of(path).stat().st_mtime_ns
    except FileNotFoundError:
        return 0


def open_reader_connection(
    path: Path, vfs: str | None = None, repair: bool = False, own: bool = False
) -> apsw.Connection:
    """Open a connection that only reads and never checkpoints. `repair` as in `open_writer`; `own` is whether this
    process writes to the journal."""
    if vfs is None and not path.exists():
        raise JournalError(f"there is no journal at {path} yet; `gateway run` makes it")
    if not (own or repair):
        require_readable_log(path)
    connection = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READWRITE, vfs=vfs)
    try:
        connection.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1)
        connection.set_busy_timeout(BUSY_MS)
        connection.execute("PRAGMA query_only = 1")
        register(connection)
        _register_contents(connection)
        if (layout := layout_of(connection, path)) != LAYOUT:
            raise JournalError(f"{path}: is of layout {layout}; run `gateway run` once to bring it to layout {LAYOUT}")
    except BaseException:
        connection.close()
        raise
    return connection


def make_folder(folder: Path) -> None:
    """Make a folder (mode 0700) and its missing parents, durably."""
    if folder.is_dir():
        return
    make_folder(folder.parent)
    folder.mkdir(mode=0o700, exist_ok=True)
    sync(folder.parent)


def why(error: Exception, path: Path) -> str:
    """Why a journal cannot be opened: SQLite does not tell that permission is missing."""
    if path.is_symlink():
        return LINK
    denied = not all(os.access(place, mode) for place, mode in ((path.parent, _ENTER), (path, _USE)))
    if isinstance(error, apsw.CantOpenError) and denied:
        return "permission denied"
    return error.strerror or str(error) if isinstance(error, OSError) else str(error)


class WriteAheadLog:
    """The log of the one connection that writes and checkpoints."""

    def __init__(self, connection: apsw.Connection) -> None:
        self._connection = connection
        self._may_begin = True
        self._changes = connection.total_changes()
        self._pages = 0
        self._moved = 0
        self._step = LONG // 4
        connection.set_wal_hook(self._committed)

    def number(self) -> None:
        """To be called before the end of each transaction: where the log may begin with it, it begins a generation. A
        transaction without changes begins no log."""
        if self._may_begin and self._connection.total_changes() != self._changes:
            begin_generation(self._connection)

    def keep_short(self, idle: bool) -> bool:
        """Checkpoint if due, when idle in any case; returns whether anything was moved."""
        step = 0 if idle else PAGES if self._pages < LONG else self._step
        if self._pages - self._moved <= step:
            return False
        self._may_begin = True
        if self._pages < LONG:
            self._connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_PASSIVE)
        else:
            self._restart()
        self._moved = self._pages
        return True

    def _restart(self) -> None:
        self._connection.set_busy_timeout(WAIT_MS)
        try:
            self._connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_RESTART)
            self._step = LONG // 4
        except apsw.BusyError:
            self._step *= 2  # a reader takes long, such as a backup: new events must not wait for it again and again
        finally:
            self._connection.set_busy_timeout(BUSY_MS)

    def move(self) -> None:
        """Move all of the log into the database. `BusyError` while a reader needs what is there: try again."""
        self._may_begin = True
        length, moved = self._connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_PASSIVE)
        self._moved = self._pages
        if moved < length:
            raise apsw.BusyError("a reader is at the log")

    def empty(self) -> None:
        """Leave nothing in the log. `BusyError` while a reader is at it."""
        self._may_begin = True
        self._connection.set_busy_timeout(WAIT_MS)
        try:
            self._connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_TRUNCATE)
        finally:
            self._connection.set_busy_timeout(BUSY_MS)
        self._pages = self._moved = 0

    def _committed(self, connection: apsw.Connection, name: str, pages: int) -> int:
        if pages < self._pages:
            self._moved = 0
        self._pages = pages
        self._may_begin = False
        self._changes = connection.total_changes()
        return apsw.SQLITE_OK
