"""Checkpoints: the write-ahead log is moved into the database in pieces, and restarted before it grows long."""

from __future__ import annotations

from typing import Final

import apsw

PAGES: Final = 2000
"""Pages that the log grows by between two checkpoints."""
LONG: Final = 16_384
"""Pages (64 MiB) from which a checkpoint waits for readers: the log cannot restart while one reads."""
WAIT_MS: Final = 100
BUSY_MS: Final = 5000
"""How long a statement waits for another process that has the database locked."""


class WriteAheadLog:
    """The log of the one connection that writes and checkpoints."""

    def __init__(self, connection: apsw.Connection) -> None:
        self._connection = connection
        self._pages = 0
        self._moved = 0
        connection.set_wal_hook(self._committed)

    def keep_short(self, idle: bool) -> bool:
        """Checkpoint if due, when idle in any case; returns whether anything was moved."""
        step = 0 if idle else PAGES if self._pages < LONG else LONG // 4
        if self._pages - self._moved <= step:
            return False
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
        except apsw.BusyError:
            return  # a reader takes long: try again later
        finally:
            self._connection.set_busy_timeout(BUSY_MS)

    def _committed(self, connection: apsw.Connection, name: str, pages: int) -> int:
        if pages < self._pages:
            self._moved = 0
        self._pages = pages
        return apsw.SQLITE_OK
