"""The layout of the journal's database: numbered steps, each one transaction. A new journal is made by the same steps
that bring an older one up to date."""

from __future__ import annotations

import contextlib
import logging
import os
import secrets
import shutil
from pathlib import Path
from typing import Final

import apsw

from gateway.journal.interface import JournalError
from gateway.journal.lock import JournalLock
from gateway.journal.sqlite.checksum import EVENT, SEAL, register
from gateway.journal.sqlite.wal_file import NUMBERED, require_own_log

log = logging.getLogger("gateway.journal")

# events: `created` and `digest` find a repeated body; the first event of a natural key owns `natural_key`.
# Both are null where they do not apply. Both indexes grow at their end, as dates and message numbers do.
# suspects: events that a plugin had when a process died, or (`running`) has now.
_LAYOUT_1: Final = """
CREATE TABLE events (
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
CREATE UNIQUE INDEX events_id ON events (id);
CREATE UNIQUE INDEX events_body ON events (created, digest) WHERE digest IS NOT NULL;
CREATE INDEX events_natural ON events (natural_key) WHERE natural_key IS NOT NULL;
CREATE TABLE cursors (
    plugin TEXT PRIMARY KEY,
    begins INTEGER NOT NULL,  -- events up to here were before the plugin's time
    seq INTEGER NOT NULL,
    removed_at REAL
) STRICT, WITHOUT ROWID;
CREATE TABLE parked (
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
CREATE INDEX parked_state ON parked (state, plugin, seq);
CREATE INDEX parked_seq ON parked (seq);
CREATE TABLE suspects (
    plugin TEXT NOT NULL,
    seq INTEGER NOT NULL,
    crashes INTEGER NOT NULL,
    running INTEGER NOT NULL,
    PRIMARY KEY (plugin, seq)
) STRICT, WITHOUT ROWID;
CREATE TABLE replays (
    number INTEGER PRIMARY KEY,
    plugin TEXT NOT NULL,
    filter TEXT NOT NULL,
    position INTEGER NOT NULL,
    until INTEGER NOT NULL,
    matched INTEGER NOT NULL,
    done INTEGER NOT NULL,
    finished_at REAL
) STRICT;
CREATE TABLE given (
    number INTEGER PRIMARY KEY,
    at INTEGER NOT NULL,  -- microseconds since 1970
    organisation TEXT NOT NULL,
    customer_uid TEXT,
    address TEXT,  -- masked
    fields TEXT NOT NULL,
    status INTEGER NOT NULL
) STRICT;
CREATE INDEX given_at ON given (at);
CREATE TABLE meta (key TEXT PRIMARY KEY, value ANY) STRICT, WITHOUT ROWID;
"""
# Layout 1 knew of the whole journal whether it was closed cleanly; now each cursor has an owner of its own.
_LAYOUT_2: Final = """
ALTER TABLE cursors ADD COLUMN epoch INTEGER NOT NULL DEFAULT 0;
ALTER TABLE cursors ADD COLUMN clean INTEGER NOT NULL DEFAULT 1;
UPDATE cursors SET clean = coalesce((SELECT value FROM meta WHERE key = 'clean'), 1);
DELETE FROM meta WHERE key = 'clean';
UPDATE parked SET state = 'waiting' WHERE state = 'held';
ALTER TABLE given RENAME TO value_records;
DROP INDEX given_at;
CREATE INDEX value_records_at ON value_records (at);
"""
# Layout 2 did not keep the name that an event of the unknown hook came by: its `type`, or `/` and the rest of its path.
_LAYOUT_3: Final = """
ALTER TABLE events ADD COLUMN name TEXT;
UPDATE events SET name = CASE WHEN json_valid(CAST(raw AS TEXT))
    THEN substr(json_extract(CAST(raw AS TEXT), '$.type'), 1, 64) END WHERE hook = 'unknown';
CREATE INDEX events_unknown ON events (name, seq) WHERE hook = 'unknown';
"""
# What older versions wrote is taken as it is; from here on a checksum covers it.
_LAYOUT_4: Final = f"""
ALTER TABLE events ADD COLUMN checksum INTEGER NOT NULL DEFAULT 0;
ALTER TABLE cursors ADD COLUMN checksum INTEGER NOT NULL DEFAULT 0;
UPDATE events SET checksum = row_checksum({EVENT});
{SEAL["cursors"]};
"""
# Layout 4 did not know which hooks a plugin had; what it shows as delivered stays so.
_LAYOUT_5: Final = """
CREATE TABLE takes (
    plugin TEXT NOT NULL,
    position INTEGER NOT NULL,  -- the plugin has these hooks for events after this one
    hooks TEXT NOT NULL,
    PRIMARY KEY (plugin, position)
) STRICT, WITHOUT ROWID;
CREATE INDEX events_named ON events (name, seq) WHERE name IS NOT NULL;
"""
# Layout 5 covered only events and cursors with a checksum, and knew of no journal which log it has: see `wal_file`.
_LAYOUT_6: Final = f"{SEAL['cursors']};" + "".join(
    f"ALTER TABLE {table} ADD COLUMN checksum INTEGER NOT NULL DEFAULT 0; {SEAL[table]};"
    for table in ("parked", "replays", "suspects", "takes", "value_records")
)
# Layout 6 did not keep when deliveries failed, nor where cursors were when.
_LAYOUT_7: Final = """
CREATE TABLE attempts (
    seq INTEGER NOT NULL,
    plugin TEXT NOT NULL,
    at INTEGER NOT NULL,  -- microseconds since 1970
    number INTEGER NOT NULL,
    ms REAL,
    error TEXT NOT NULL,  -- empty: it succeeded
    PRIMARY KEY (seq, plugin, at)
) STRICT, WITHOUT ROWID;
CREATE TABLE marks (
    plugin TEXT NOT NULL,
    seq INTEGER NOT NULL,
    at REAL NOT NULL,
    PRIMARY KEY (plugin, seq)
) STRICT, WITHOUT ROWID;
CREATE INDEX value_records_customer ON value_records (customer_uid, number) WHERE customer_uid IS NOT NULL;
"""
# Layout 7 knew of replays only: a retry, a discard or an erasure did not go on after a restart.
_LAYOUT_8: Final = f"""
CREATE TABLE operations (
    number INTEGER PRIMARY KEY,
    kind TEXT NOT NULL,
    filter TEXT NOT NULL,
    in_order INTEGER NOT NULL,
    state TEXT NOT NULL,
    begun_at REAL NOT NULL,
    ended_at REAL,
    at_plugin TEXT NOT NULL,  -- a retry or a discard has passed the dead letters up to here
    at_seq INTEGER NOT NULL,
    matched INTEGER NOT NULL,
    done INTEGER NOT NULL,
    value_records INTEGER NOT NULL,
    told TEXT NOT NULL,  -- what plugins erased
    error TEXT,
    checksum INTEGER NOT NULL DEFAULT 0
) STRICT;
CREATE TABLE retried (
    plugin TEXT NOT NULL,
    seq INTEGER NOT NULL,
    operation INTEGER NOT NULL,
    attempts INTEGER NOT NULL,  -- of the dead letter
    PRIMARY KEY (plugin, seq)
) STRICT, WITHOUT ROWID;
CREATE INDEX retried_operation ON retried (operation);
INSERT INTO operations SELECT number, 'replay', filter, 0, 'running', coalesce(finished_at, 0), finished_at, '', 0,
    matched, 0, 0, '{{}}', NULL, 0 FROM replays;
{SEAL["operations"]};
"""
STEPS: Final = dict(
    enumerate(
        (_LAYOUT_1, _LAYOUT_2, _LAYOUT_3, _LAYOUT_4, _LAYOUT_5, _LAYOUT_6, _LAYOUT_7, _LAYOUT_8),
        1,
    )
)
LAYOUT: Final = max(STEPS)


def layout_of(connection: apsw.Connection, path: Path) -> int:
    """A database's layout; 0 for an empty one. `JournalError` for one that this version cannot work with."""
    layout = int(connection.pragma("user_version"))
    if layout == 0 and connection.execute("SELECT 1 FROM sqlite_schema LIMIT 1").fetchone():
        raise JournalError(f"{path}: is a database, but not a journal")
    if layout > LAYOUT:
        raise JournalError(
            f"{path}: was written by a newer version of the gateway (layout {layout}); this one knows up to {LAYOUT}: "
            "install that version"
        )
    return layout


def copy_of(path: Path) -> Path:
    """Where the copy goes that is made before a journal is upgraded."""
    return path.with_name(f"{path.name}.before-{LAYOUT}")


def upgrade(connection: apsw.Connection, path: Path, copy: bool) -> None:
    """Bring a database to the current layout, after a checked copy where `copy` is true and there is anything in it."""
    register(connection)
    layout = layout_of(connection, path)
    if layout == LAYOUT:
        return
    if layout and copy:
        _copy(connection, path)
    if layout >= NUMBERED:
        begin_generation(connection)
    with connection if layout == 0 else contextlib.nullcontext():
        for number in range(layout + 1, LAYOUT + 1):
            with connection:
                connection.execute(STEPS[number])
                connection.pragma("user_version", number)
    if layout < NUMBERED:
        connection.pragma("application_id", secrets.randbits(30) + 1)  # so that no two journals begin alike
    connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_TRUNCATE)  # `gateway check` reads only the database itself
    if layout:
        log.warning("journal: %s was upgraded from layout %d to %d", path, layout, LAYOUT)


def begin_generation(connection: apsw.Connection) -> None:
    """See `wal_file`."""
    connection.pragma("application_id", connection.pragma("application_id") + 1)


def look_at(path: Path) -> str | None:
    """See `gateway.journal.check_journal`."""
    if not path.exists():
        return None
    if not path.is_file():
        raise JournalError(f"the journal {path} cannot be opened: it is not a file")
    if not JournalLock(path).is_held():
        require_own_log(path)
    look = apsw.SQLITE_OPEN_READONLY | apsw.SQLITE_OPEN_URI
    try:
        with contextlib.closing(apsw.Connection(f"{path.absolute().as_uri()}?immutable=1", flags=look)) as connection:
            layout = layout_of(connection, path)
    except apsw.Error as error:
        raise JournalError(f"the journal {path} cannot be opened: {error}") from error
    if layout in (0, LAYOUT):
        return None
    return (
        f"{path} is of layout {layout}; `gateway run` brings it to layout {LAYOUT}, "
        f"after a copy of it to {copy_of(path).name}"
    )


def _copy(connection: apsw.Connection, path: Path) -> None:
    target, part = copy_of(path), path.with_name(f"{path.name}.part")
    pages = connection.pragma("page_count") - connection.pragma("freelist_count")
    size, free = pages * connection.pragma("page_size"), shutil.disk_usage(path.parent).free
    if free < size:
        raise JournalError(
            f"the journal {path} is copied before it is upgraded to layout {LAYOUT}, which needs {size >> 20} MiB; "
            f"{free >> 20} MiB are free. Make room, or do without the copy: `gateway run --no-copy`"
        )
    log.warning("journal: copying %s to %s before it is upgraded to layout %d", path, target.name, LAYOUT)
    try:
        part.unlink(missing_ok=True)
        make_private(part)
        connection.execute("VACUUM INTO ?", (str(part),))
        with contextlib.closing(apsw.Connection(str(part), flags=apsw.SQLITE_OPEN_READONLY)) as copied:
            [(verdict,)] = copied.execute("PRAGMA integrity_check(1)")
        if verdict != "ok":
            raise JournalError(f"the copy of the journal {path} is damaged ({verdict}); nothing was upgraded")
        sync(part)
        part.rename(target)
        sync(path.parent)
    except (apsw.Error, OSError) as error:
        raise JournalError(f"the journal {path} cannot be copied to {target.name}: {error}") from error
    finally:
        part.unlink(missing_ok=True)


def make_private(path: Path) -> None:
    """Make an empty file that only its owner may read. `FileExistsError` where there is one."""
    os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))


def sync(path: Path) -> None:
    """Make a file or a folder durable."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
