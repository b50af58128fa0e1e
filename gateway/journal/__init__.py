"""The journal: a log of events, and a cursor on it for each plugin. `interface` states what an engine does; the engine
is imported only when one of these functions is called."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import ExitStack, closing
from pathlib import Path
from typing import TYPE_CHECKING

from gateway.journal.failures import JournalError

if TYPE_CHECKING:
    from gateway.config.tables import Config
    from gateway.journal.copying import Copied
    from gateway.journal.interface import Journal
    from gateway.journal.lock import JournalLock
    from gateway.journal.nodes import Node
    from gateway.journal.postgresql.adopting import Clusters
    from gateway.journal.postgresql.console import Console
    from gateway.journal.search import Backup, DatabaseFindings, Findings, Search, UnknownName


def open_journal(
    config: Config, *, clock: Callable[[], float] = time.time, copy_before_upgrade: bool = True
) -> Journal:
    """The journal that `config` names, not started. `clock` gives seconds since 1970. `start()` brings a journal of an
    older layout to the current one, after a checked copy of it unless `copy_before_upgrade` is false."""
    if config.journal.url is not None:
        from gateway.journal.postgresql.journal import PostgresqlJournal

        return PostgresqlJournal(config, clock=clock)
    from gateway.journal.sqlite.journal import SqliteJournal

    return SqliteJournal(config, clock=clock, copy_before_upgrade=copy_before_upgrade)


def open_console(config: Config) -> Console:
    """For commands that change a journal in a database, beside gateways or without one; `async with` opens it."""
    from gateway.journal.postgresql.console import Console

    return Console(config)


def open_reader(config: Config) -> Search:
    """Search the journal, beside a running gateway or without one. `JournalError` where it cannot be read."""
    if config.journal.url is not None:
        from gateway.journal.postgresql import reader

        return reader.open_search(config)
    from gateway.journal.sqlite.reader import open_search

    return open_search(config)


def kept_as_unknown(config: Config, *, running: bool) -> list[UnknownName]:
    """What the journal keeps as unknown, without changing anything; `running` is whether a gateway has it open, whose
    newest commits are then seen, too. `JournalError` where it cannot be read."""
    if config.journal.url is not None:
        from gateway.journal.postgresql import reader

        return reader.unknown_names(config)
    from gateway.journal.sqlite.reader import unknown_names

    return unknown_names(config.journal.path, running) if config.journal.path.exists() else []


def journal_clusters(config: Config) -> Clusters:
    """The database clusters that a journal in a database was made in, and is in now. `JournalError`."""
    import asyncio

    from gateway.journal.postgresql.adopting import look

    return asyncio.run(look(config))


def adopt_journal(config: Config, seen: Clusters) -> None:
    """Have a journal belong to the database cluster that it is in, which `journal_clusters` told. `JournalError`."""
    import asyncio

    from gateway.journal.postgresql.adopting import adopt

    asyncio.run(adopt(config, seen))


def _require_file(config: Config, instead: str) -> None:
    """`JournalError` where the journal is not a file; `instead` says what does the same for a database."""
    if config.journal.url is not None:
        raise JournalError(f"the journal is in the database of journal.url: {instead}")


def journal_space(config: Config) -> tuple[int, int | None]:
    """The size of the journal's files or tables, and the free space on their disk, in bytes; that of a database is not
    known. `JournalError` where the database does not answer."""
    if config.journal.url is not None:
        from gateway.journal.postgresql.reader import size

        return size(config), None
    from gateway.journal.sqlite.space import space

    return space(config.journal.path)


def examine_journal(config: Config) -> Findings:
    """Read the whole journal and look for damage. `JournalError` where it cannot be opened."""
    _require_file(
        config, "PostgreSQL looks for damage itself, with `pg_amcheck` and, on a stopped server, `pg_checksums`"
    )
    from gateway.journal.sqlite.repair import examine

    return examine(config.journal.path)


def repair_journal(config: Config, found: Findings) -> Path:
    """Take out what is damaged; returns the copy that was made before. Take the lock first. `JournalError`."""
    from gateway.journal.sqlite.repair import repair

    return repair(config.journal.path, found)


def back_up_journal(config: Config, file: Path, progress: Callable[[int, int], None] | None = None) -> Backup:
    """Copy the journal to a file that does not exist yet, beside a running gateway or without one, and check the copy.
    `progress` gets parts of the work (done, total). `JournalError`."""
    _require_file(config, "copy it with `pg_dump`, or with the backups of the database itself")
    from gateway.journal.sqlite.backup import back_up

    return back_up(config.journal.path, file, progress)


def check_backup(file: Path) -> Backup:
    """Read a backup from end to end. `JournalError` where it cannot be restored."""
    from gateway.journal.sqlite.backup import check

    return check(file)


def restore_journal(config: Config, file: Path) -> tuple[Backup, Path | None]:
    """Put a backup in the journal's place. Returns what was restored, and where the journal before it is now. Take the
    lock first. `JournalError`."""
    _require_file(config, "restore the database from its own backup, then run `gateway journal adopt`")
    from gateway.journal.sqlite.backup import restore

    return restore(config.journal.path, file)


def upgrade_journal(config: Config) -> tuple[int, int]:
    """Bring the journal in a database to the layout of this version; what it was before (0: there was none), and what
    it is. `JournalError`."""
    if config.journal.url is None:
        raise JournalError("the journal is in a file, which `gateway run` brings up to date")
    from gateway.journal.postgresql.upgrading import upgrade_now

    return upgrade_now(config)


def copy_journal(config: Config, to: Config | Path, progress: Callable[[int, int], None] | None = None) -> Copied:
    """Copy the journal, which no gateway may use meanwhile, to a database (the journal of another config) or to a file;
    see `gateway.journal.copying`. `JournalError`."""
    from gateway.journal.copying import copy

    in_database, to_database = config.journal.url is not None, not isinstance(to, Path)
    if in_database and to_database:
        raise JournalError("the journal is in a database already; copy that one with pg_dump")
    if not in_database and not to_database:
        raise JournalError("the journal is in a file already; copy that one with `gateway backup`")
    from gateway.journal.postgresql.copying import DatabaseSource, DatabaseTarget
    from gateway.journal.sqlite.copying import FileSource, FileTarget

    with ExitStack() as opened:
        source = opened.enter_context(
            closing(DatabaseSource(config) if in_database else FileSource(config.journal.path))
        )
        target = opened.enter_context(closing(FileTarget(to, config) if isinstance(to, Path) else DatabaseTarget(to)))
        return copy(source, target, progress)


def journal_lock(config: Config, name: str = "", process: int | None = None) -> JournalLock:
    """The lock that says which process writes to the journal. `name` is what this process is: the gateway, or a command
    such as "`gateway dead retry`". `process` is the process id to stop in order to get the journal; by default this
    process."""
    from gateway.journal.lock import GATEWAY, JournalLock

    return JournalLock(config.journal.path, name or GATEWAY, process)


def check_journal(config: Config) -> str | None:
    """Look at the journal without changing it. `JournalError` where no gateway could work on it; otherwise what an
    operator should know before the next start, or None."""
    from gateway.journal.sqlite.layout import look_at

    return look_at(config.journal.path)


def journal_nodes(config: Config) -> list[Node]:
    """The gateways that run on a journal in a database, with what each owns. `JournalError`."""
    from gateway.journal.postgresql.peers import list_nodes

    return list_nodes(config)


def check_database(config: Config) -> DatabaseFindings:
    """Look at the database in `journal.url` without changing it."""
    from gateway.journal.postgresql.checking import check

    return check(config)
