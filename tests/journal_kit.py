"""A journal in a folder of its own, events for it, and an SQLite file system that counts and fails on demand."""

from __future__ import annotations

import asyncio
import itertools
import threading
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import apsw
from running import read_config

from gateway import simulate
from gateway.config.tables import Config
from gateway.journal.interface import Filter, Parked, Receipt, Settlement, Standing, Track
from gateway.journal.sqlite.connection import open_reader_connection
from gateway.journal.sqlite.journal import SqliteJournal
from gateway.journal.sqlite.reader import SqliteSearch

ACME = "acme"
WAIT = 10.0
_numbers = itertools.count()


class Clock:
    """Seconds since 1970, moved by hand."""

    def __init__(self, now: float = 1_700_000_000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now

    def advance(self, seconds: float) -> None:
        self.now += seconds


def config_of(directory: Path, **journal: str) -> Config:
    """A config with `journal` as its [journal] table."""
    table = "".join(f'{key} = "{value}"\n' for key, value in journal.items())
    return read_config(directory, f"[journal]\n{table}")


@asynccontextmanager
async def opened(
    config: Config, *, clock: Callable[[], float] | None = None, vfs: str | None = None
) -> AsyncIterator[SqliteJournal]:
    """A started journal, closed at the end."""
    journal = SqliteJournal(config, vfs=vfs) if clock is None else SqliteJournal(config, clock=clock, vfs=vfs)
    await journal.start()
    try:
        yield journal
    finally:
        await journal.close()


def message(**fields: str) -> bytes:
    """A body like no other, of the hook `inbound-message`."""
    return simulate.encode(simulate.body("inbound-message") | fields)


def payment(**fields: str) -> bytes:
    """A body without `dateCreated`."""
    body = simulate.body("payment") | fields
    del body["dateCreated"]
    return simulate.encode(body)


def put(
    journal: SqliteJournal, raw: bytes, organisation: str = ACME, hook: str | None = None
) -> asyncio.Future[Receipt]:
    """Decode a body and append it, as the receiver does."""
    return journal.append(organisation, journal.decoder.decode(organisation, raw, hook), raw)


async def fill(journal: SqliteJournal, count: int, **fields: str) -> list[str]:
    """Append `count` new events; their ids."""
    return [receipt.id for receipt in await asyncio.gather(*(put(journal, message(**fields)) for _ in range(count)))]


async def put_together(
    journal: SqliteJournal, bodies: list[bytes], then: Callable[[], None] = lambda: None
) -> list[Receipt | BaseException]:
    """Put events into the journal in one group, behind an operation during which `then` runs."""
    reached, release = threading.Event(), threading.Event()

    def occupy(connection: apsw.Connection) -> None:
        reached.set()
        release.wait(WAIT)

    occupied = asyncio.create_task(journal.operate(occupy))
    assert await asyncio.to_thread(reached.wait, WAIT)
    futures = [put(journal, raw) for raw in bodies]
    then()
    release.set()
    await occupied
    return await asyncio.gather(*futures, return_exceptions=True)


async def take(journal: SqliteJournal, plugin: str, from_start: bool = True) -> Standing:
    """Become the owner of a plugin's cursor."""
    standing = await journal.take_cursor(Track(plugin), from_start)
    assert isinstance(standing, Standing)
    return standing


async def move_cursor(
    journal: SqliteJournal, plugin: str, cursor: int | None = None, park: Sequence[Parked] = (), epoch: int = 1
) -> None:
    """Settle as the owner of a cursor; the first owner's epoch is 1."""
    await journal.settle(Settlement(track=Track(plugin), epoch=epoch, cursor=cursor, park=list(park)))


@contextmanager
def reading(config: Config) -> Iterator[SqliteSearch]:
    reader = SqliteSearch(open_reader_connection(config.journal.path))
    try:
        yield reader
    finally:
        reader.close()


def ids_in(config: Config, which: Filter | None = None) -> list[str]:
    """What stands in the journal, in order, as a second connection sees it."""
    with reading(config) as reader:
        return [row.id for row in reader.events(which or Filter())]


async def until(condition: Callable[[], bool]) -> None:
    """Wait for what the journal's thread does by itself."""
    async with asyncio.timeout(WAIT):
        while not condition():
            await asyncio.sleep(0.005)


class Held:
    """An operation that is kept waiting."""

    def __init__(self, operation: str, part: str) -> None:
        self.operation = operation
        self.part = part
        self.reached = threading.Event()
        self.release = threading.Event()


class FaultyFiles(apsw.VFS):
    """SQLite's own file system, which counts syncs by file and fails where it is told to: `failing` maps
    `(operation, end of the file's name)` to what to raise, once `spared` more operations have gone well."""

    def __init__(self) -> None:
        self.name = f"faulty-{next(_numbers)}"
        self.syncs: dict[str, int] = {}
        self.failing: dict[tuple[str, str], Exception] = {}
        self.spared = 0
        self._held: Held | None = None
        super().__init__(self.name, base="")

    def xOpen(self, name: Any, flags: list[int]) -> apsw.VFSFile:
        return _FaultyFile(self, name, flags)

    @contextmanager
    def held(self, operation: str, part: str) -> Iterator[Held]:
        """The next such operation waits until it is released."""
        held = self._held = Held(operation, part)
        try:
            yield held
        finally:
            self._held = None
            held.release.set()

    def reach(self, operation: str, file: str) -> None:
        if self._held is not None and operation == self._held.operation and file.endswith(self._held.part):
            held, self._held = self._held, None
            held.reached.set()
            held.release.wait(WAIT)
            return
        for (failing, part), error in list(self.failing.items()):  # another thread may clear it
            if failing == operation and file.endswith(part):
                if self.spared:
                    self.spared -= 1
                else:
                    raise error


class _FaultyFile(apsw.VFSFile):
    def __init__(self, files: FaultyFiles, name: Any, flags: list[int]) -> None:
        path = name.filename() if isinstance(name, apsw.URIFilename) else name
        self._files = files
        self._name = Path(path or "").name
        self._offset = 0
        super().__init__("", name, flags)

    def xWrite(self, data: bytes, offset: int) -> None:
        self._files.reach("write", self._name)
        super().xWrite(data, offset)
        self._offset = offset

    def xSync(self, flags: int) -> None:
        # a log that restarts is synced once for its header alone: that is not a commit
        self._files.reach("sync" if self._offset else "sync header", self._name)
        self._files.syncs[self._name] = self._files.syncs.get(self._name, 0) + 1
        super().xSync(flags)


def full() -> Exception:
    """What SQLite gives where the disk has no room."""
    return apsw.FullError("database or disk is full")


def broken(kind: int = apsw.SQLITE_IOERR_FSYNC) -> Exception:
    """What SQLite gives where the disk fails."""
    error: Any = apsw.IOError("disk I/O error")  # whose codes apsw reads when a file system raises it
    error.result, error.extendedresult = apsw.SQLITE_IOERR, kind
    assert isinstance(error, Exception)
    return error
