"""The SQLite journal's tables and how a connection to it is opened."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import apsw

from gateway.journal.interface import JournalError
from gateway.journal.sqlite.write_ahead_log import BUSY_MS, LONG

VERSION: Final = 1
_ENTER: Final = os.R_OK | os.W_OK | os.X_OK
_USE: Final = os.R_OK | os.W_OK
_ONLY_LOOK: Final = apsw.SQLITE_OPEN_READONLY | apsw.SQLITE_OPEN_URI

# events: `created` and `digest` find a repeated body; the first event of a natural key owns `natural_key`.
# Both are null where they do not apply. Both indexes grow at their end, as dates and message numbers do.
TABLES: Final = """
CREATE TABLE IF NOT EXISTS events (
    seq INTEGER PRIMARY KEY,
    id TEXT NOT NULL,
    received_at INTEGER NOT NULL,  -- microseconds since 1970
    organisation TEXT NOT NULL,
    hook TEXT NOT NULL,
    conversation_id TEXT,
    customer_uid TEXT,
    readable INTEGER NOT NULL,
    conflict INTEGER NOT NULL,
    created INTEGER,
    digest BLOB,
    natural_key TEXT,
    raw BLOB NOT NULL
) STRICT;
CREATE UNIQUE INDEX IF NOT EXISTS events_id ON events (id);
CREATE UNIQUE INDEX IF NOT EXISTS events_body ON events (created, digest) WHERE digest IS NOT NULL;
CREATE INDEX IF NOT EXISTS events_natural ON events (natural_key) WHERE natural_key IS NOT NULL;
CREATE TABLE IF NOT EXISTS cursors (
    plugin TEXT PRIMARY KEY,
    begins INTEGER NOT NULL,  -- events up to here were before the plugin's time
    seq INTEGER NOT NULL,
    removed_at REAL
) STRICT, WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS parked (
    plugin TEXT NOT NULL,
    seq INTEGER NOT NULL,
    state TEXT NOT NULL,
    attempts INTEGER NOT NULL,
    next_at REAL NOT NULL,
    error TEXT NOT NULL,
    since REAL NOT NULL,
    conversation TEXT,  -- null: no order to keep
    replayed INTEGER NOT NULL,
    asked INTEGER NOT NULL,
    PRIMARY KEY (plugin, seq)
) STRICT, WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS parked_state ON parked (state, plugin, seq);
CREATE INDEX IF NOT EXISTS parked_seq ON parked (seq);
CREATE TABLE IF NOT EXISTS suspects (
    plugin TEXT NOT NULL,
    seq INTEGER NOT NULL,
    crashes INTEGER NOT NULL,
    running INTEGER NOT NULL,
    PRIMARY KEY (plugin, seq)
) STRICT, WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS replays (
    number INTEGER PRIMARY KEY,
    plugin TEXT NOT NULL,
    filter TEXT NOT NULL,
    position INTEGER NOT NULL,
    until INTEGER NOT NULL,
    matched INTEGER NOT NULL,
    done INTEGER NOT NULL,
    finished_at REAL
) STRICT;
CREATE TABLE IF NOT EXISTS given (
    number INTEGER PRIMARY KEY,
    at INTEGER NOT NULL,  -- microseconds since 1970
    organisation TEXT NOT NULL,
    customer_uid TEXT,
    address TEXT,  -- masked
    fields TEXT NOT NULL,
    status INTEGER NOT NULL
) STRICT;
CREATE INDEX IF NOT EXISTS given_at ON given (at);
CREATE TABLE IF NOT EXISTS meta (key TEXT PRIMARY KEY, value ANY) STRICT, WITHOUT ROWID;
"""


def rows(connection: apsw.Connection, sql: str, values: Sequence[Any] = ()) -> list[Any]:
    """All rows of a query."""
    return list(connection.execute(sql, values))


def open_writer(path: Path, vfs: str | None = None) -> apsw.Connection:
    """Open the one connection that writes, making the file where it is missing: WAL, every commit synced, both read
    back. `JournalError` with a sentence where it cannot be used; a file of something else is left as it is."""
    try:
        make_folder(path.parent)
        if vfs is None:
            os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
        connection = apsw.Connection(str(path), vfs=vfs)
    except (apsw.Error, OSError) as error:
        raise JournalError(f"the journal {path} cannot be opened: {why(error, path)}") from error
    try:
        _prepare(connection, path)
    except BaseException as error:
        connection.close()
        if isinstance(error, apsw.Error):
            raise JournalError(f"the journal {path} cannot be opened: {error}") from error
        raise
    return connection


def _prepare(connection: apsw.Connection, path: Path) -> None:
    connection.set_busy_timeout(BUSY_MS)
    version = _version(connection, path)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    mode, level = connection.pragma("journal_mode"), connection.pragma("synchronous")
    if (mode, level) != ("wal", 2):
        raise JournalError(f"{path}: needs WAL with synchronous=FULL, but SQLite gives {mode} and {level}")
    connection.wal_autocheckpoint(0)
    connection.pragma("journal_size_limit", LONG * connection.pragma("page_size"))
    connection.execute("PRAGMA cache_size = -65536")
    connection.execute("PRAGMA temp_store = MEMORY")
    if version == 0:
        with connection:
            connection.execute(TABLES)
            connection.execute(f"PRAGMA user_version = {VERSION}")


def look_at(path: Path) -> None:
    """`JournalError` with a sentence where a file is there that no gateway would take for its journal. Changes nothing,
    and so looks past what only a write-ahead log has."""
    if not path.exists():
        return
    if not path.is_file():
        raise JournalError(f"the journal {path} cannot be opened: it is no file")
    try:
        with contextlib.closing(apsw.Connection(f"{path.absolute().as_uri()}?immutable=1", flags=_ONLY_LOOK)) as found:
            _version(found, path)
    except apsw.Error as error:
        raise JournalError(f"the journal {path} cannot be opened: {error}") from error


def _version(connection: apsw.Connection, path: Path) -> int:
    """The layout of a journal; 0 for one that has no tables yet."""
    version = connection.pragma("user_version")
    if version == 0 and rows(connection, "SELECT 1 FROM sqlite_schema LIMIT 1"):
        raise JournalError(f"{path}: is a database, but no journal")
    if version not in (0, VERSION):
        raise JournalError(f"{path}: was written by another version of the gateway (layout {version})")
    return int(version)


def make_folder(folder: Path) -> None:
    """Make a folder (mode 0700) and those above it that are missing, so that they outlive a loss of power too."""
    if folder.is_dir():
        return
    make_folder(folder.parent)
    folder.mkdir(mode=0o700, exist_ok=True)
    descriptor = os.open(folder.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def why(error: Exception, path: Path) -> str:
    """Why a journal cannot be opened: SQLite does not tell that it is not allowed to."""
    denied = not all(os.access(place, mode) for place, mode in ((path.parent, _ENTER), (path, _USE)))
    if isinstance(error, apsw.CantOpenError) and denied:
        return "permission denied"
    return error.strerror or str(error) if isinstance(error, OSError) else str(error)


def open_reader_connection(path: Path, vfs: str | None = None) -> apsw.Connection:
    """Open a connection that only reads and never checkpoints."""
    if vfs is None and not path.exists():
        raise JournalError(f"there is no journal at {path} yet; `gateway run` makes it")
    connection = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READWRITE, vfs=vfs)
    try:
        connection.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1)
        connection.set_busy_timeout(BUSY_MS)
        connection.execute("PRAGMA query_only = 1")
        if connection.pragma("user_version") != VERSION:
            raise JournalError(f"{path}: is no journal of this version of the gateway")
    except BaseException:
        connection.close()
        raise
    return connection
