"""Removes from the journal's files what is left of erased rows: copies in the gaps of pages, and in the log. It goes
over all pages in steps on the journal's thread; between two steps, new events are committed as ever."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import apsw

from gateway.journal.interface import JournalError
from gateway.journal.sqlite.connection import WriteAheadLog
from gateway.journal.sqlite.page_gaps import MOST_PAGES, gap_wiper
from gateway.journal.sqlite.wal_file import PageNumbers, log_of

PAGES: Final = 2048
"""Pages (8 MiB) of one step: new events wait meanwhile, for about 10 ms."""
SECONDS: Final = 60.0
"""How long a step is waited for, which a reader of the journal may hinder."""
STILL_READ: Final = (
    "the events are erased, but copies may be left in the journal's files, because another process has been reading the"
    f" journal for {SECONDS:g} s: end it, and run the command again"
)
_NO_ROOM: Final = "the events are erased, but the disk has no room to remove copies of them in the files"
_TOO_LARGE: Final = (
    "the events are erased, but copies of them may be left in unused parts of pages: the journal has more than 128 GiB."
    " To remove these, too, stop the gateway and run VACUUM on the journal"
)


class Wiping:
    """Brings from the loop to the journal's thread that copies of what was erased are to be removed from the files."""

    def __init__(self, connection: apsw.Connection, wal: WriteAheadLog, path: Path) -> None:
        self._connection = connection
        self._wal = wal
        self._path = path
        self._loop = asyncio.get_running_loop()
        self._asked: list[asyncio.Future[None]] = []
        self._served: list[asyncio.Future[None]] = []
        self._log = PageNumbers(log_of(path))
        self._written = set[int]()
        self._next = 1
        self.steps = 0
        """How many steps were done so far."""

    def ask(self) -> asyncio.Future[None]:
        """Done once it is done. Call it on the loop, and wake the thread then."""
        wiped: asyncio.Future[None] = self._loop.create_future()
        self._asked.append(wiped)
        return wiped

    def work(self) -> bool:
        """Do a step where wiping was asked for; returns whether the next one is due at once. Where a reader is at the
        log, it is tried again later. Call it on the thread, outside of a transaction."""
        if not self._served:
            if not self._asked:
                return False
            self._served, self._asked, self._next = self._asked, [], 1
            self._written = set()
            self._log.new()
        error: JournalError | None = None
        try:
            done = self._step()
        except apsw.BusyError:
            return False
        except apsw.FullError:
            done, error = True, JournalError(_NO_ROOM)
        except JournalError as reason:
            done, error = True, reason
        self.steps += 1
        if done:
            served, self._served = self._served, []
            self._loop.call_soon_threadsafe(_answer, served, error)
        return not done

    def _step(self) -> bool:
        """Returns whether nothing is left to do."""
        self._written |= self._log.new()
        self._wal.move()
        with gap_wiper(self._connection, self._path) as gaps:
            if (pages := gaps.pages()) > MOST_PAGES:
                raise JournalError(_TOO_LARGE)
            more = self._next <= pages
            # rows may have moved from pages that are still to come to these
            changed = {gaps.wipe(page, 1) for page in sorted(self._written) if page < self._next}
            self._written = set()
            if more:
                changed.add(gaps.wipe(self._next, min(PAGES, pages + 1 - self._next)))
                self._next += PAGES
            if True in changed:
                self._connection.release_memory()  # its cache has these pages as they were
            if more:
                return False
            gaps.sync()
        self._wal.empty()
        return True


def _answer(waiting: Sequence[asyncio.Future[None]], error: JournalError | None) -> None:
    for future in waiting:
        if not future.done():
            future.set_result(None) if error is None else future.set_exception(error)
