"""Looks for damage in a journal that no process has open, and takes out what is damaged."""

from __future__ import annotations

import contextlib
import shutil
from pathlib import Path
from typing import Final

import apsw

from gateway.journal.interface import JournalError
from gateway.journal.search import Findings
from gateway.journal.sqlite.checksum import SOUND_CURSOR, sound_events
from gateway.journal.sqlite.connection import open_reader_connection, open_writer, rows
from gateway.journal.sqlite.cursors import change
from gateway.journal.sqlite.layout import sync

MOST: Final = 100
"""Sentences of SQLite's own check, at most."""


def examine(path: Path) -> Findings:
    """Read every row of a journal, and run SQLite's own check. `JournalError` where it cannot be opened."""
    try:
        with contextlib.closing(open_reader_connection(path)) as connection:
            return _examine(connection)
    except apsw.Error as error:
        raise JournalError(f"the journal {path} cannot be read: {error}") from error


def _examine(connection: apsw.Connection) -> Findings:
    found = Findings()
    try:
        for _ in sound_events(connection, "events ORDER BY seq", (), found.events.append):
            found.sound += 1
        found.cursors = [p for (p,) in rows(connection, f"SELECT plugin FROM cursors WHERE NOT {SOUND_CURSOR}")]
        sentences = [str(line) for (line,) in rows(connection, f"PRAGMA integrity_check({MOST})")]
    except (apsw.Error, JournalError) as error:
        sentences = [str(error)]
    found.pages = [sentence for sentence in sentences if sentence != "ok"]
    return found


def repair(path: Path, found: Findings) -> Path:
    """Copy the journal to a file beside it, then delete its damaged events, move damaged cursors to the start of the
    log, and make the indexes again. Returns the copy. `JournalError` where SQLite's check finds damage afterwards."""
    copy = path.with_name(f"{path.name}.damaged")
    if copy.exists():
        raise JournalError(f"{copy} exists: it is the copy of an earlier repair; move it away first")
    with contextlib.closing(open_writer(path)) as connection:
        connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_TRUNCATE)
        try:
            shutil.copyfile(path, copy)
            copy.chmod(0o600)
            sync(copy)
        except OSError as error:
            raise JournalError(f"the journal {path} cannot be copied to {copy.name}: {error.strerror}") from error
        try:
            with connection:
                connection.executemany("DELETE FROM events WHERE seq = ?", [(seq,) for seq in found.events])
                for plugin in found.cursors:
                    change(connection, plugin, "begins = 0, seq = 0, removed_at = NULL, clean = 0")
                connection.execute("REINDEX")
            left = _examine(connection)
        except apsw.Error as error:
            left = Findings(pages=[str(error)])
    if not left.ok:
        raise JournalError(
            f"the journal {path} cannot be repaired ({left.pages[0]}); restore a backup, or ask for help"
        )
    return copy
