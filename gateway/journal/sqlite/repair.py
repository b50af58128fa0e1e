"""Looks for damage in a journal that no process has open, and takes out what is damaged."""

from __future__ import annotations

import contextlib
import shutil
from pathlib import Path
from typing import Final

import apsw

from gateway.journal.interface import JournalDamaged, JournalError
from gateway.journal.search import Findings
from gateway.journal.sqlite.checksum import SEAL, SOUND, damaged_places, sound_events
from gateway.journal.sqlite.connection import open_reader_connection, open_writer, require_readable_log, rows
from gateway.journal.sqlite.layout import sync
from gateway.journal.sqlite.wal_file import log_of

MOST: Final = 100
"""Sentences of SQLite's own check, at most."""

_AGAIN: Final = (
    "state = 'retrying', attempts = 0, next_at = 0, error = '', conversation = NULL, replayed = 0, asked = 0"
)
_REPAIRS: Final = (
    f"UPDATE cursors SET begins = 0, seq = 0, removed_at = NULL, clean = 0 WHERE NOT ({SOUND['cursors']})",
    f"{SEAL['cursors']} WHERE NOT ({SOUND['cursors']})",
    f"UPDATE parked SET {_AGAIN} WHERE NOT ({SOUND['parked']})"
    " AND seq IN (SELECT seq FROM events) AND plugin IN (SELECT plugin FROM cursors)",
    f"{SEAL['parked']} WHERE NOT ({SOUND['parked']})"
    " AND seq IN (SELECT seq FROM events) AND plugin IN (SELECT plugin FROM cursors)",
    *(
        f"DELETE FROM {table} WHERE NOT ({SOUND[table]})"
        for table in ("operations", "parked", "replays", "suspects", "takes", "value_records")
    ),
)
"""What becomes of damaged rows: cursors go back to the start, parked events are delivered again, the rest is
deleted."""


def examine(path: Path) -> Findings:
    """Read every row of a journal, and run SQLite's own check. `JournalError` where it cannot be opened."""
    lost = []
    try:
        require_readable_log(path)
    except JournalDamaged as error:
        lost = [str(error)]
    try:
        with contextlib.closing(open_reader_connection(path, repair=True)) as connection:
            found = _examine(connection)
    except apsw.Error as error:
        raise JournalError(f"the journal {path} cannot be read: {error}") from error
    found.pages += lost
    return found


def _examine(connection: apsw.Connection) -> Findings:
    found = Findings()
    try:
        for _ in sound_events(connection, "events ORDER BY seq", (), found.events.append):
            found.sound += 1
        cursors = f"SELECT CAST(plugin AS BLOB) FROM cursors WHERE NOT ({SOUND['cursors']})"
        found.cursors = [plugin.decode(errors="replace") for (plugin,) in rows(connection, cursors)]
        for table in ("operations", "parked", "replays", "suspects", "takes", "value_records"):
            found.rows += damaged_places(connection, table)
        sentences = [str(line) for (line,) in rows(connection, f"PRAGMA integrity_check({MOST})")]
    except (apsw.Error, JournalError) as error:
        sentences = [str(error)]
    found.pages = [sentence for sentence in sentences if sentence != "ok"]
    return found


def repair(path: Path, found: Findings) -> Path:
    """Copy the journal to a file beside it, then take out what is damaged and make the indexes again. Returns the copy.
    `JournalError` where SQLite's check finds damage afterwards."""
    copy = path.with_name(f"{path.name}.damaged")
    if copy.exists():
        raise JournalError(f"{copy} exists: it is the copy of an earlier repair; move it away first")
    try:
        for file, to in ((path, copy), (log_of(path), log_of(copy))):
            if file.exists():
                _copy(file, to)
    except OSError as error:
        raise JournalError(f"the journal {path} cannot be copied to {copy.name}: {error.strerror}") from error
    with contextlib.closing(open_writer(path, repair=True)) as connection:
        try:
            with connection:
                for table in ("events", "parked"):
                    connection.executemany(f"DELETE FROM {table} WHERE seq = ?", [(seq,) for seq in found.events])
                for statement in _REPAIRS:
                    connection.execute(statement)
                connection.execute("REINDEX")
            left = _examine(connection)
        except apsw.Error as error:
            left = Findings(pages=[str(error)])
    if not left.ok:
        raise JournalError(
            f"the journal {path} cannot be repaired ({left.pages[0]}); restore a backup, or ask for help"
        )
    return copy


def _copy(file: Path, to: Path) -> None:
    shutil.copyfile(file, to)
    to.chmod(0o600)
    sync(to)
