"""A disk that remembers what was written to it and what was synced, and what it may hold after a loss of power.

What a file's last completed sync covers is there. Of what came after it each sector (512 bytes) may be there or not,
whatever was written earlier or later: lost, reordered, torn between two versions, or damaged where it was written.
The shared memory index is left out: SQLite builds it again.
"""

from __future__ import annotations

import random
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

import apsw

SECTOR: Final = 512
LOGS: Final = apsw.SQLITE_OPEN_WAL | apsw.SQLITE_OPEN_MAIN_JOURNAL
OPEN, WRITE, TRUNCATE, SYNC, DELETE = range(5)


class Operation(NamedTuple):
    """What was done to a file; `covers` is how many operations had been done when a sync began. `folder` is whether
    the folder is synced with it: by a new log's first sync, and by a deletion where SQLite asks for it."""

    kind: int
    file: str
    offset: int = 0
    data: bytes = b""
    covers: int = 0
    folder: bool = False


class RecordedDisk(apsw.VFS):
    """SQLite's own file system, with a record of what it did. `record` may be read at any time."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.record: list[Operation] = []
        self._lock = threading.Lock()
        super().__init__(name, base="")

    def add(self, operation: Operation) -> None:
        with self._lock:
            self.record.append(operation)

    def xOpen(self, name: Any, flags: list[int]) -> apsw.VFSFile:
        return _RecordedFile(self, name, flags)

    def xDelete(self, path: str, sync: bool) -> None:
        super().xDelete(path, sync)
        self.add(Operation(DELETE, Path(path).name, covers=len(self.record) + 1, folder=bool(sync)))


class _RecordedFile(apsw.VFSFile):
    def __init__(self, disk: RecordedDisk, name: Any, flags: list[int]) -> None:
        path = name.filename() if isinstance(name, apsw.URIFilename) else name
        self._disk = disk
        self._name = Path(path or "temporary").name
        super().__init__("", name, flags)
        self._folder_unsynced = bool(flags[0] & LOGS) and bool(flags[0] & apsw.SQLITE_OPEN_CREATE)
        disk.add(Operation(OPEN, self._name))

    def xWrite(self, data: bytes, offset: int) -> None:
        super().xWrite(data, offset)
        self._disk.add(Operation(WRITE, self._name, offset, bytes(data)))

    def xTruncate(self, size: int) -> None:
        super().xTruncate(size)
        self._disk.add(Operation(TRUNCATE, self._name, size))

    def xSync(self, flags: int) -> None:
        covers = len(self._disk.record)
        super().xSync(flags)
        self._disk.add(Operation(SYNC, self._name, covers=covers, folder=self._folder_unsynced))
        self._folder_unsynced = False


class Fates:
    """How likely a sector that was not synced is there, is lost, or is damaged; drawn again for every image, so that
    some images have lost nearly all of it and others nearly nothing."""

    def __init__(self, chance: random.Random) -> None:
        self._chance = chance
        self._kept = chance.choice((0.02, 0.2, 0.5, 0.8, 0.98))
        self._torn = chance.choice((0.0, 0.0, 0.05, 0.3))

    def of(self, before: bytes, after: bytes) -> bytes:
        """What is on the disk where `after` was written over `before`."""
        chance = self._chance
        if chance.random() < self._torn:
            place = chance.randrange(len(after) + 1)
            return chance.choice(
                (after[:place] + before[place:], before[:place] + after[place:], chance.randbytes(len(after)))
            )
        return after if chance.random() < self._kept else before

    def happened(self) -> bool:
        """Whether a change of a file's size, or of a folder, is on the disk."""
        return self._chance.random() < self._kept


class _File:
    def __init__(self) -> None:
        self.exists = False
        self.data = bytearray()

    def write(self, offset: int, data: bytes) -> None:
        if len(self.data) < offset + len(data):
            self.data.extend(bytes(offset + len(data) - len(self.data)))
        self.data[offset : offset + len(data)] = data

    def truncate(self, size: int) -> None:
        if size < len(self.data):
            del self.data[size:]
        else:
            self.data.extend(bytes(size - len(self.data)))


class Images:
    """Crash images out of a record. Asked for in the order of their moments, each costs only what is new."""

    def __init__(self, record: Sequence[Operation]) -> None:
        self._record = record
        self._files: dict[str, _File] = {}
        self._loose: dict[str, list[tuple[int, Operation]]] = {}
        self._done = 0

    def at(self, moment: int, chance: random.Random) -> dict[str, bytes]:
        """What each file may hold if the power fails after the first `moment` operations."""
        while self._done < moment:
            self._advance(self._done, self._record[self._done])
            self._done += 1
        fates = Fates(chance)
        image = {}
        for name in self._files.keys() | self._loose.keys():
            file = _File()
            file.exists, file.data = self._durable(name).exists, bytearray(self._durable(name).data)
            for _, operation in self._loose.get(name, ()):
                _perhaps(file, operation, fates)
            if file.exists:
                image[name] = bytes(file.data)
        return image

    def _durable(self, name: str) -> _File:
        return self._files.get(name) or _File()

    def _advance(self, number: int, operation: Operation) -> None:
        loose = self._loose.setdefault(operation.file, [])
        if operation.kind == SYNC:
            file = self._files.setdefault(operation.file, _File())
            while loose and loose[0][0] < operation.covers:
                _surely(file, loose.pop(0)[1])
        else:
            loose.append((number, operation))
        if operation.folder:
            for name in self._loose:
                self._sync_name(name, operation.covers)

    def _sync_name(self, name: str, covers: int) -> None:
        """The folder was synced: what files there are is known, though not what is in them."""
        file, loose = self._files.setdefault(name, _File()), self._loose[name]
        for place, (number, operation) in reversed(list(enumerate(loose))):
            if operation.kind == DELETE and number < covers:
                _surely(file, operation)
                del loose[: place + 1]
                break
        if any(operation.kind == OPEN and number < covers for number, operation in loose):
            file.exists = True


def _surely(file: _File, operation: Operation) -> None:
    if operation.kind == DELETE:
        file.exists, file.data = False, bytearray()
        return
    file.exists = True
    if operation.kind == WRITE:
        file.write(operation.offset, operation.data)
    elif operation.kind == TRUNCATE:
        file.truncate(operation.offset)


def _perhaps(file: _File, operation: Operation, fates: Fates) -> None:
    if operation.kind == WRITE:
        for offset, after in _sectors(operation):
            before = bytes(file.data[offset : offset + len(after)]).ljust(len(after), b"\0")
            now = fates.of(before, after)
            if now != before:
                file.exists = True
                file.write(offset, now)
    elif fates.happened():
        _surely(file, operation)


def _sectors(write: Operation) -> Iterator[tuple[int, bytes]]:
    start, end = write.offset, write.offset + len(write.data)
    while start < end:
        stop = min(end, (start // SECTOR + 1) * SECTOR)
        yield start, write.data[start - write.offset : stop - write.offset]
        start = stop
