"""Copies the journal into one file while a gateway works on it, and puts such a file in the journal's place."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import apsw

from gateway.journal.interface import JournalError
from gateway.journal.search import Backup
from gateway.journal.sqlite.connection import make_folder, open_reader_connection
from gateway.journal.sqlite.layout import look_at, make_private, sync
from gateway.journal.sqlite.repair import examine
from gateway.journal.sqlite.search_file import search_path

PAGES: Final = 2048
"""Pages (8 MiB) that are copied between two reports of progress."""
Progress = Callable[[int, int], None]
_FILES: Final = ("-wal", "-shm", "")
"""What the names of a database's files end with, in the order in which they are moved away: a log must never stand
beside a database that is not its own."""


def back_up(path: Path, target: Path, progress: Progress | None) -> Backup:
    """Copy a journal as it is at this moment to `target`, which must not exist, and check the copy; `progress` gets
    pages (done, total). `JournalError`, and nothing is left at `target`, where that fails."""
    if target.exists() or target.is_symlink():
        raise JournalError(f"{target} exists; name another file, or move that one away")
    part = target.with_name(f"{target.name}.part")
    try:
        with contextlib.closing(open_reader_connection(path)) as source:
            part.unlink(missing_ok=True)
            make_private(part)
            with contextlib.closing(apsw.Connection(str(part))) as copy:
                _copy(source, copy, progress)
        found = check(part)
        sync(part)
        os.link(part, target)  # unlike a rename, this replaces no file
        part.unlink()
        sync(target.absolute().parent)
    except apsw.Error as error:
        raise JournalError(f"the journal {path} cannot be copied to {target}: {error}") from error
    except OSError as error:
        raise JournalError(f"the journal {path} cannot be copied to {target}: {error.strerror}") from error
    finally:
        with contextlib.suppress(OSError):
            part.unlink(missing_ok=True)
    return found._replace(file=str(target))


def _copy(source: apsw.Connection, copy: apsw.Connection, progress: Progress | None) -> None:
    """Copy one state of the journal: within a read transaction, commits of the gateway do not change what is read."""
    source.execute("BEGIN")
    source.execute("SELECT count(*) FROM sqlite_schema").fetchall()
    with copy.backup("main", source, "main") as backup:
        while not backup.done:
            backup.step(PAGES)
            if progress is not None:
                progress(backup.page_count - backup.remaining, backup.page_count)
    source.execute("COMMIT")
    copy.execute("PRAGMA journal_mode = DELETE")  # so that the copy is one file, now and when it is opened


def check(file: Path) -> Backup:
    """Read a backup from end to end. `JournalError` where it is not a journal, is damaged, or is not one file alone."""
    if not file.is_file():
        raise JournalError(f"{file}: there is no such file" if not file.exists() else f"{file}: is not a file")
    log = file.with_name(f"{file.name}-wal")
    if log.exists() and log.stat().st_size:
        raise JournalError(
            f"{file}: is not a backup that `gateway backup` made: its newest changes are in {log.name} beside it"
        )
    if look_at(file) is not None:
        return _check_older(file)
    found = examine(file)
    if not found.ok:
        damage = [f"the event at position {seq}" for seq in found.events[:1]]
        damage += [f"the cursor of plugin {plugin}" for plugin in found.cursors[:1]]
        raise JournalError(f"{file}: is damaged ({', '.join([*damage, *found.pages[:1]])})")
    return Backup(found.sound, file.stat().st_size, str(file))


def _check_older(file: Path) -> Backup:
    """Check a backup of an older layout, which the next `gateway run` brings up to date."""
    with contextlib.closing(apsw.Connection(str(file), flags=apsw.SQLITE_OPEN_READONLY)) as connection:
        try:
            [(verdict,)] = connection.execute("PRAGMA integrity_check(1)")
            [(events,)] = connection.execute("SELECT count(*) FROM events")
        except apsw.Error as error:
            verdict, events = str(error), 0
    if verdict != "ok":
        raise JournalError(f"{file}: is damaged ({verdict})")
    return Backup(events, file.stat().st_size, str(file))


def restore(path: Path, file: Path) -> tuple[Backup, Path | None]:
    """Check a backup, move the journal's files aside, and put a copy of the backup in their place. Returns what was
    restored, and where the journal before it is. Take the lock first. `JournalError` where that fails; the journal is
    then as it was, or a second call completes what the first began."""
    found = check(file)
    if path.exists() and path.samefile(file):
        raise JournalError(f"{file}: is the journal itself")
    part = path.with_name(f"{path.name}.part")
    aside = path.with_name(f"{path.name}.replaced-{datetime.now(UTC):%Y%m%dT%H%M%SZ}")
    try:
        make_folder(path.parent)
        part.unlink(missing_ok=True)
        make_private(part)
        shutil.copyfile(file, part)
        sync(part)
        search = search_path(path)
        for ending in _FILES:
            search.with_name(search.name + ending).unlink(missing_ok=True)  # it is made again of the journal
            old = path.with_name(path.name + ending)
            if old.exists():
                old.rename(aside.with_name(aside.name + ending))
        sync(path.parent)
        part.rename(path)
        sync(path.parent)
    except OSError as error:
        raise JournalError(f"the journal {path} cannot be restored: {error.strerror}") from error
    finally:
        with contextlib.suppress(OSError):
            part.unlink(missing_ok=True)
    return found._replace(file=str(path)), aside if aside.exists() else None
