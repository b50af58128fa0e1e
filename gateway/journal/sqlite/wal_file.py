"""Reads a database file and its write-ahead log by hand, before SQLite applies one to the other.

SQLite takes any log beside a database for its own, and ends it at the first frame that is not sound. So a backup that
is put beside the log of the journal it replaced would become a mixture of both, and a bit that flipped in the middle
of a log would lose all commits behind it without a word.

So the header of the database has a generation, its `application_id`: it begins at random, and the first commit after a
checkpoint adds one. A log's first commit thus names the generation of the database that it continues, and while a log
is moved into its database, the database has a generation of the log.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Final, NamedTuple
from zlib import crc32

import apsw

from gateway.journal.interface import JournalDamaged, JournalError
from gateway.text import counted

HEADER: Final = 100
"""Bytes of the header of a database; they lie in the first sector of its first page."""
NUMBERED: Final = 6
"""The first layout whose databases have a generation."""
PAGE: Final = 4096
"""Bytes of a page, as the gateway makes databases."""
_PAGE_SIZES: Final = tuple(2**power for power in range(9, 16))
_MAGIC: Final = b"SQLite format 3\0"
_LOG_HEADER: Final = struct.Struct(">8I")
_FRAME: Final = struct.Struct(">6I")
_ORDERS: Final = {0x377F0682: "<", 0x377F0683: ">"}
"""The order of bytes in the words that checksums are made of, by the magic number of a log."""
_MASK: Final = 0xFFFFFFFF


class Header(NamedTuple):
    """What is read of a database's header. `schema` counts the changes of its tables, which copies made by SQLite
    continue by themselves."""

    raw: bytes
    page_size: int
    schema: int
    layout: int
    generation: int

    @property
    def is_sound(self) -> bool:
        """False for a header that was damaged, or torn by a loss of power: the log has it again."""
        return self.raw.startswith(_MAGIC)


class Frame(NamedTuple):
    """A page in the log. `pages` is the size of the database where the frame ends a commit, else 0; `sums` is the
    running checksum."""

    page: int
    pages: int
    salts: tuple[int, int]
    sums: tuple[int, int]
    start: bytes
    data: bytes


class Log:
    """The file of a write-ahead log. Its frames are numbered from 1."""

    def __init__(self, path: Path, page_size: int) -> None:
        """`page_size` is taken where the log's own header is damaged."""
        self._file = path.open("rb")
        head = self._file.read(_LOG_HEADER.size).ljust(_LOG_HEADER.size, b"\0")
        magic, _, size, _, salt_1, salt_2, *sums = _LOG_HEADER.unpack(head)
        self._order = _ORDERS.get(magic, "<")
        self.sums = (sums[0], sums[1])
        self.salts = (salt_1, salt_2)
        self.is_sound = magic in _ORDERS and self._add((0, 0), head[:24]) == self.sums
        self.page_size = size if self.is_sound else page_size

    def close(self) -> None:
        self._file.close()

    def frames(self, first: int = 1) -> Iterator[Frame]:
        """The frames from number `first` on, sound or not."""
        length = _FRAME.size + self.page_size
        self._file.seek(_LOG_HEADER.size + (first - 1) * length)
        while len(raw := self._file.read(length)) == length:
            page, pages, salt_1, salt_2, *sums = _FRAME.unpack_from(raw)
            yield Frame(page, pages, (salt_1, salt_2), (sums[0], sums[1]), raw[:8], raw[_FRAME.size :])

    def follows(self, frame: Frame, sums: tuple[int, int]) -> bool:
        """Whether a frame was written after one whose running checksum was `sums`."""
        return self._add(self._add(sums, frame.start), frame.data) == frame.sums

    def _add(self, sums: tuple[int, int], data: bytes) -> tuple[int, int]:
        words = iter(struct.unpack(f"{self._order}{len(data) // 4}I", data))
        first, second = sums
        for one, other in zip(words, words, strict=True):
            first = (first + one + second) & _MASK
            second = (second + other + first) & _MASK
        return first, second


class PageNumbers:
    """Which pages are written to a log, as it grows and begins anew."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._start = b""
        self._frames = 0

    def new(self) -> set[int]:
        """The numbers of the pages that were written since the last call."""
        found = set[int]()
        with suppress(FileNotFoundError), self._path.open("rb") as file:
            start = file.read(_LOG_HEADER.size)
            if start != self._start:
                self._start, self._frames = start, 0
            if len(start) < _LOG_HEADER.size:
                return found
            length = _FRAME.size + _LOG_HEADER.unpack(start)[2]
            while True:
                file.seek(_LOG_HEADER.size + self._frames * length)
                head = file.read(_FRAME.size)
                if len(head) < _FRAME.size or head[8:16] != start[16:24]:  # the frame of an older log in this file
                    return found
                found.add(_FRAME.unpack(head)[0])
                self._frames += 1
        return found


def header_of(raw: bytes) -> Header:
    """The header at the start of a database or of its first page in a log."""
    raw = raw[:HEADER].ljust(HEADER, b"\0")
    (page_size,) = struct.unpack_from(">H", raw, 16)
    schema, layout, generation = (struct.unpack_from(">I", raw, place)[0] for place in (40, 60, 68))
    return Header(raw, page_size if page_size in _PAGE_SIZES else PAGE, schema, layout, generation)


def _read(path: Path, offset: int, length: int) -> bytes:
    # Through SQLite: where a process closes a file by itself, the locks of its connections on the file are gone.
    if not path.is_file():
        return b""
    with suppress(apsw.CantOpenError):
        file = apsw.VFSFile("", str(path.absolute()), [apsw.SQLITE_OPEN_MAIN_DB | apsw.SQLITE_OPEN_READONLY, 0])
        try:
            return bytes(file.xRead(min(length, max(0, file.xFileSize() - offset)), offset))
        finally:
            file.xClose()
    return b""


def log_of(path: Path) -> Path:
    """The write-ahead log of a database."""
    return path.with_name(f"{path.name}-wal")


def require_own_log(path: Path) -> None:
    """`JournalError` where the log beside a database is not its own, `JournalDamaged` where commits in the log would be
    lost because of damage before them. Changes nothing. A log that a loss of power cut short or tore passes."""
    main = header_of(_read(path, 0, HEADER))
    try:
        log = Log(log_of(path), main.page_size)
    except FileNotFoundError:
        return
    with closing(log):
        if log.is_sound:
            _require_sound(path, log, main)
        else:
            _require_moved(path, log)


def _require_sound(path: Path, log: Log, main: Header) -> None:
    """The frames before the first one that is not sound are what SQLite applies."""
    sums, number, commits = log.sums, 0, 0
    headers: list[Header] = []
    pending: list[Header] = []
    for frame in log.frames():
        if frame.salts != log.salts or not log.follows(frame, sums):
            break
        number, sums = number + 1, frame.sums
        if frame.page == 1:
            pending.append(header_of(frame.data))
        if frame.pages:
            commits += 1
            headers += pending if headers else pending[-1:]
            pending = []
    if headers and not _continues(headers, main):
        raise JournalError(_foreign(path, commits, main))
    _require_end(path, log, number + 1)


def _continues(headers: list[Header], main: Header) -> bool:
    """Whether a log whose commits have these headers continues a database. The first is that of the first commit."""
    first, *_ = headers
    if first.layout < NUMBERED or first.generation == 0:  # of an older version, or of a database that is being made
        if main.layout < NUMBERED:
            return True
    elif not any(main.raw):
        return False
    generations = {
        number.to_bytes(4, "big") for number in (max(0, first.generation - 1), *(h.generation for h in headers))
    }
    torn = {one[:place] + other[place:] for one in generations for other in generations for place in range(5)}
    its_own = main.generation.to_bytes(4, "big") in torn and main.schema in {header.schema for header in headers}
    return its_own or not main.is_sound


def _foreign(path: Path, commits: int, main: Header) -> str:
    log = log_of(path).name
    if not any(main.raw):
        return (
            f"{path} is missing or empty, but {log} beside it holds {counted(commits, 'commit')} of a journal. Nothing "
            f"was changed. Put the journal back that {log} belongs to, or move {log} to another folder and start anew"
        )
    return (
        f"{log} does not belong to {path}: its {counted(commits, 'commit')} continue another journal, or another state "
        f"of this one. Nothing was changed. If {path.name} is a backup to go on with, move {log} to another folder and "
        f"start again; else put the {path.name} back that {log} belongs to"
    )


def _require_end(path: Path, log: Log, number: int) -> None:
    """Frame `number` is the first that is not sound. What a loss of power left of an unfinished commit may be behind
    it, in whatever pieces, but a frame that follows a commit was written after that commit was synced."""
    before: Frame | None = None
    for frame in log.frames(number):
        if before and before.pages and frame.salts == log.salts and log.follows(frame, before.sums):
            raise JournalDamaged(_lost(path, f"frame {number} of {log_of(path).name}"))
        before = frame


def _require_moved(path: Path, log: Log) -> None:
    """The log's header is damaged. When a log restarts, a loss of power may do that, but then the database has all."""
    synced: dict[int, int] = {}
    commit: dict[int, int] = {}
    before: Frame | None = None
    pages = 0
    for frame in log.frames():
        if before and frame.salts == before.salts and log.follows(frame, before.sums):
            if before.pages:
                synced |= commit
                commit = {}
            commit[frame.page] = crc32(frame.data)
            pages = frame.pages or pages
        elif commit:
            break
        before = frame
    size = log.page_size
    for page, expected in synced.items():
        if page <= pages and crc32(_read(path, (page - 1) * size, size)) not in (expected, commit.get(page)):
            raise JournalDamaged(_lost(path, f"the header of {log_of(path).name}"))


def _lost(path: Path, place: str) -> str:
    return (
        f"the journal {path} is damaged: {place} is not what was written, and commits behind it would be lost. Nothing "
        "was changed. Restore a backup, or run `gateway journal check --repair`, which goes on without those commits"
    )
