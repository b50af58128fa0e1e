"""Fills the search index beside receiving, in a thread that works for a small part of the time: the newest events
first, then older ones that it does not have yet."""

from __future__ import annotations

import logging
import shutil
import threading
import time
from collections import deque
from collections.abc import Callable, Collection
from contextlib import closing
from pathlib import Path
from typing import Any, Final

import apsw

from gateway.journal.interface import JournalError
from gateway.journal.sqlite.checksum import sound_events
from gateway.journal.sqlite.connection import open_reader_connection
from gateway.journal.sqlite.search_file import (
    IndexDamaged,
    Part,
    SearchFile,
    bounds,
    part_of,
    remove,
    search_path,
    sound_parts,
    terms,
)
from gateway.text import describe

log = logging.getLogger("gateway.journal")

BATCH: Final = 500
BATCH_BYTES: Final = 2**20
"""Events of one transaction, and about the most bytes of their bodies."""
IDLE: Final = 0.25
"""Seconds between two looks for new events."""
REST_ALONE, REST, REST_BUSY = 0.5, 4.0, 40.0
"""Seconds of rest for each second of work: while no event comes, while some come, and from `BUSY` events a second on,
when receiving and delivery need the time. The index falls behind then, and catches up later."""
BUSY: Final = 1000.0
AGAIN: Final = 30.0
"""Seconds until the index is tried again after a failure."""
LOOK: Final = 60.0
"""Seconds between two looks at what retention has deleted."""


class _Forgetting:
    """Parts that are to be dropped because something in them was erased, and what hindered that."""

    def __init__(self, parts: Collection[int]) -> None:
        self.parts = parts
        self.hindrance: OSError | None = None
        self.done = threading.Event()


class Indexer:
    """Keeps the search index of a journal up to date. A failure leaves searches to read the journal itself."""

    def __init__(self, path: Path, newest: Callable[[], int], min_free: int, vfs: str | None = None) -> None:
        """`newest` gives the position of the newest event. Below `min_free` bytes of free space nothing is added."""
        self._path = path
        self._file = search_path(path)
        self._newest = newest
        self._min_free = min_free
        self._vfs = vfs
        self._stopping = threading.Event()
        self._wake = threading.Event()
        self._asked: deque[_Forgetting] = deque()
        self._thread = threading.Thread(target=self._run, name="journal-search", daemon=True)
        self._journal: apsw.Connection | None = None
        self._index: SearchFile | None = None
        self._parts: dict[int, Part] = {}
        self._oldest = 1
        self._next_look = 0.0
        self._seen, self._seen_at = 0, 0.0
        self._told = ""

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Index what little is left, and end the thread."""
        self._stopping.set()
        self._wake.set()
        self._thread.join()

    def forget(self, parts: Collection[int]) -> None:
        """Drop these parts, in which events were erased: they are made again. Waits for it; `JournalError` where that
        is not possible."""
        asked = _Forgetting(parts)
        self._asked.append(asked)
        self._wake.set()
        while not asked.done.wait(1.0):
            if not self._thread.is_alive():
                raise JournalError("the events are erased, but not in the search index: run the command again")
        if asked.hindrance is not None:
            raise JournalError(
                f"the events are erased in the journal, but not in the search index {self._file}"
                f" ({asked.hindrance.strerror}): run the command again when that file can be changed"
            )

    def _forget_asked(self) -> None:
        """Drop parts whose events were erased, or where that fails, the file as a whole."""
        while self._asked:
            asked = self._asked.popleft()
            try:
                if asked.parts and self._file.exists():
                    self._drop(asked.parts)
            except (apsw.Error, OSError, JournalError, IndexDamaged):
                self._close()
                try:
                    remove(self._file)
                except FileExistsError:  # another file, which has nothing of the journal
                    pass
                except OSError as hindrance:
                    asked.hindrance = hindrance
            asked.done.set()

    def _drop(self, parts: Collection[int]) -> None:
        if self._index is None:
            self._open(self._newest())
        if self._index is not None:
            for number in parts:
                self._index.drop(number)
                self._parts.pop(number, None)
            self._index.empty_log()

    def _run(self) -> None:
        pause = 0.0
        while not self._stopping.is_set():
            self._wake.wait(pause)
            self._wake.clear()
            self._forget_asked()
            if not self._stopping.is_set():
                pause = self._guarded_step()
        self._forget_asked()
        if self._behind() <= BATCH:
            self._guarded_step()
        self._close()

    def _behind(self) -> int:
        newest = self._newest()
        part = self._parts.get(part_of(newest))
        return newest - (part.upto if part is not None else 0)

    def _guarded_step(self) -> float:
        try:
            pause = self._step()
        except (apsw.Error, OSError, JournalError, IndexDamaged) as error:
            return self._failed(error)
        self._told = ""
        return pause

    def _failed(self, error: Exception) -> float:
        self._close()
        try:
            if isinstance(error, IndexDamaged):
                remove(self._file)
        except OSError as hindrance:
            error = hindrance
        reason = error.strerror if isinstance(error, OSError) else describe(error)
        if reason != self._told:
            log.warning(
                "journal: the search index %s cannot be filled: %s; searches read the journal itself, and it is tried"
                " again every %g s", self._file.name, reason, AGAIN,
            )  # fmt: skip
        self._told = reason or ""
        return AGAIN

    def _step(self) -> float:
        """Index at most a batch; returns the seconds until the next step."""
        began, newest = time.monotonic(), self._newest()
        if self._journal is None or self._index is None:
            self._open(newest)
        if began >= self._next_look:
            self._next_look = began + LOOK
            self._drop_old()
        number = self._next_part(newest)
        if number is None or shutil.disk_usage(self._path.parent).free < self._min_free:
            return IDLE
        self._add(number, min(newest, bounds(number)[1]))
        return (time.monotonic() - began) * self._rest(newest, began)

    def _rest(self, newest: int, now: float) -> float:
        """The seconds of rest for each second of work."""
        rate = (newest - self._seen) / max(now - self._seen_at, 0.001)
        self._seen, self._seen_at = newest, now
        return REST_ALONE if rate == 0 else REST if rate < BUSY else REST_BUSY

    def _next_part(self, newest: int) -> int | None:
        """The newest part that lacks events."""
        for number in range(part_of(newest), part_of(self._oldest) - 1, -1):
            part = self._parts.get(number)
            if newest and (part is None or part.upto < min(newest, bounds(number)[1])):
                return number
        return None

    def _open(self, newest: int) -> None:
        self._journal = open_reader_connection(self._path, self._vfs, own=True)
        self._index = SearchFile.to_write(self._file)
        parts = self._index.parts()
        sound = list(sound_parts(self._journal, parts, newest))
        for part in parts:
            if part not in sound:  # of another journal that stood here
                self._index.drop(part.number)
        self._parts = {part.number: part for part in sound}

    def _drop_old(self) -> None:
        """Drop the parts whose events retention has deleted."""
        if self._journal is None or self._index is None:
            return
        [(oldest,)] = self._journal.execute("SELECT min(seq) FROM events")
        self._oldest = oldest or self._newest() + 1
        for number in [number for number in self._parts if number < part_of(self._oldest)]:
            self._index.drop(number)
            del self._parts[number]

    def _add(self, number: int, until: int) -> None:
        if self._journal is None or self._index is None:
            return
        part = self._parts.get(number) or Part(number, bounds(number)[0], "")
        rest = "events WHERE seq > ? AND seq <= ? ORDER BY seq LIMIT ?"
        between = (part.upto, until, BATCH)
        found = list(self._journal.execute(f"SELECT seq, hex(id) FROM {rest}", between))
        last, last_id = found[-1] if found and (len(found) == BATCH or found[-1][0] == until) else (until, "")
        read: list[tuple[Any, ...]] = []
        size = 0
        with closing(sound_events(self._journal, rest, between, lambda seq: None)) as sound:
            for row in sound:  # in one go: the write-ahead log cannot restart while a reader is at it
                read.append(row)
                size += len(row[12])
                if size >= BATCH_BYTES:
                    last, last_id = row[0], row[1].encode().hex().upper()
                    break
        part = Part(number, last, last_id)
        self._index.add(part, [(row[0], terms(row)) for row in read])
        self._parts[number] = part

    def _close(self) -> None:
        for opened in (self._index, self._journal):
            if opened is not None:
                opened.close()
        self._index = self._journal = None
