"""The search index: a second file beside the journal, made of the journal alone and made again when it is missing.

It holds for each event its terms: its hook, organisation, customer, conversation and address as hashes, and the words
of its message. It has a part for each 2^20 positions, which says how far it is, so that old parts go as a whole. What
it finds are candidates: the journal decides whether an event matches.
"""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from hashlib import blake2b
from pathlib import Path
from typing import Any, Final, NamedTuple

import apsw

from gateway.journal.contents import body_words, wanted_words
from gateway.journal.interface import Filter
from gateway.json_text import parse_object
from gateway.selector import address_key, body_address

PART: Final = 2**20
"""Positions of a part."""
VERSION: Final = 2
"""Of the terms and the tables; a file of another version is made again."""
_LAYOUT: Final = "CREATE TABLE parts (number INTEGER PRIMARY KEY, upto INTEGER NOT NULL, last_id TEXT NOT NULL) STRICT"
_LONGEST: Final = 64
"""Characters of a word that are indexed."""
_CUSTOMER, _CONVERSATION, _ADDRESS, _HOOK, _ORGANISATION = map(chr, range(0xE000, 0xE005))
"""What hashes begin with: characters that no word has."""
_ANY: Final = ""
"""In place of the hook of an event that came by a name that no hook had: it may get another hook later."""
BUSY_MS: Final = 5000
_APPLICATION: Final = 0x57534558
"""The application id in the header of the file: a file without it is not the gateway's, and stays."""


def search_path(journal: Path) -> Path:
    """Where the search index of a journal is."""
    return journal.with_name(f"{journal.stem}-search{journal.suffix}")


class IndexDamaged(Exception):
    """The file is not an index of this version, or is damaged: it is to be removed and made again."""


@contextlib.contextmanager
def _finding_damage() -> Iterator[None]:
    try:
        yield
    except (apsw.CorruptError, apsw.NotADBError) as error:
        raise IndexDamaged(str(error)) from error


class Part(NamedTuple):
    """A part of the index: it has the events of its positions up to `upto`. `last_id` is `hex(id)` of the event there,
    or empty where there is none."""

    number: int
    upto: int
    last_id: str

    @property
    def after(self) -> int:
        """The position before its first."""
        return bounds(self.number)[0]


def part_of(seq: int) -> int:
    """The number of the part that has a position."""
    return (seq - 1) // PART


def bounds(number: int) -> tuple[int, int]:
    """The position before a part's first, and its last."""
    return number * PART, (number + 1) * PART


def _hashed(kind: str, value: str) -> str:
    return kind + blake2b(value.encode(errors="replace"), digest_size=8).hexdigest()


@lru_cache(256)
def _kind_of(kind: str, value: str) -> str:
    return _hashed(kind, value)


def terms(row: Sequence[Any]) -> str:
    """The terms of a row of `EVENT`, separated by spaces."""
    _, _, _, organisation, hook, conversation_id, customer_uid, *_, raw, name = row
    found = [_kind_of(_ORGANISATION, organisation), _kind_of(_HOOK, hook if name is None else _ANY)]
    if customer_uid is not None:
        found.append(_hashed(_CUSTOMER, customer_uid))
    if conversation_id is not None:
        found.append(_hashed(_CONVERSATION, conversation_id))
    try:
        body = parse_object(raw)
    except ValueError:
        return " ".join(found)
    if (address := body_address(body)) is not None:
        found.append(_hashed(_ADDRESS, address))
    found += {word[:_LONGEST] for word in body_words(body)}
    return " ".join(found)


def query_of(which: Filter) -> str | None:
    """The query for the candidates of a filter; None where the index does not help."""
    wanted = []
    if which.organisation is not None:
        wanted.append(f'"{_kind_of(_ORGANISATION, which.organisation)}"')
    if which.hook is not None:
        wanted.append(f'("{_kind_of(_HOOK, which.hook)}" OR "{_kind_of(_HOOK, _ANY)}")')
    if which.customer is not None:
        wanted.append(f'"{_hashed(_CUSTOMER, which.customer)}"')
    if which.conversation is not None:
        wanted.append(f'"{_hashed(_CONVERSATION, which.conversation)}"')
    if which.address is not None:
        wanted.append(f'"{_hashed(_ADDRESS, address_key(which.address))}"')
    if which.text is not None:
        wanted += [f'"{word[:_LONGEST]}"{" *" if begins else ""}' for word, begins in wanted_words(which.text)]
    return " AND ".join(wanted) or None


class SearchFile:
    """The index, opened to read or to write."""

    def __init__(self, connection: apsw.Connection) -> None:
        self.connection = connection

    @classmethod
    @_finding_damage()
    def to_write(cls, path: Path) -> SearchFile:
        """Open the file; makes it where it is missing, `IndexDamaged` where it is another file."""
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
        connection = apsw.Connection(str(path))
        try:
            connection.set_busy_timeout(BUSY_MS)
            empty = not connection.execute("SELECT 1 FROM sqlite_schema LIMIT 1").fetchone()
            if not empty and connection.pragma("user_version") != VERSION:  # before anything is changed
                raise IndexDamaged("it is of another version")
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = NORMAL")
            connection.execute("PRAGMA secure_delete = ON")
            if empty:
                with connection:
                    connection.execute(_LAYOUT)
                    connection.pragma("user_version", VERSION)
                    connection.pragma("application_id", _APPLICATION)
        except BaseException:
            connection.close()
            raise
        return cls(connection)

    @classmethod
    def to_read(cls, path: Path) -> SearchFile | None:
        """Open the file; None where it is missing or cannot be used."""
        with contextlib.suppress(apsw.Error, OSError):
            connection = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READWRITE)
            try:
                connection.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1)
                connection.set_busy_timeout(BUSY_MS)
                connection.execute("PRAGMA query_only = 1")
                if connection.pragma("user_version") == VERSION:
                    return cls(connection)
            except BaseException:
                connection.close()
                raise
            connection.close()
        return None

    def close(self) -> None:
        self.connection.close()

    @_finding_damage()
    def parts(self) -> list[Part]:
        """What is indexed, by position."""
        return [
            Part(*row) for row in self.connection.execute("SELECT number, upto, last_id FROM parts ORDER BY number")
        ]

    def candidates(
        self, part: Part, query: str, after: int, until: int, limit: int, newest: bool = False
    ) -> Sequence[int]:
        """At most `limit` positions of a part between two others (`until` included) that the query finds, in order;
        with `newest` the last ones, backwards."""
        table = f"part_{part.number}"
        found = self.connection.execute(
            f"SELECT rowid FROM {table} WHERE {table} MATCH ? AND rowid > ? AND rowid <= ?"
            f" ORDER BY rowid {'DESC' if newest else 'ASC'} LIMIT ?",
            (query, after, min(until, part.upto), limit),
        )
        return [seq for (seq,) in found]

    @_finding_damage()
    def add(self, part: Part, entries: Iterable[tuple[int, str]]) -> None:
        """Index the events of a part up to a new position: their positions and terms."""
        number = part.number
        with self.connection:
            self.connection.execute(
                f"CREATE VIRTUAL TABLE IF NOT EXISTS part_{number} USING"
                " fts5(terms, content='', columnsize=0, detail=none, tokenize='ascii')"
            )
            self.connection.executemany(f"INSERT INTO part_{number} (rowid, terms) VALUES (?, ?)", entries)
            self.connection.execute("INSERT OR REPLACE INTO parts VALUES (?, ?, ?)", part)

    @_finding_damage()
    def drop(self, number: int) -> None:
        """Forget a part; its pages are overwritten."""
        with self.connection:
            self.connection.execute(f"DROP TABLE IF EXISTS part_{number}")
            self.connection.execute("DELETE FROM parts WHERE number = ?", (number,))

    @_finding_damage()
    def empty_log(self) -> None:
        """Leave nothing in the write-ahead log; `BusyError` while a reader is at it."""
        self.connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_TRUNCATE)


def remove(path: Path) -> None:
    """Delete the file, so that it is made again; `FileExistsError` where it is not an index."""
    with contextlib.suppress(FileNotFoundError):
        with path.open("rb") as file:
            header = file.read(72)
        if header and header[68:] != _APPLICATION.to_bytes(4, "big"):
            raise FileExistsError(errno.EEXIST, "another file is in the place of the search index", str(path))
    for end in ("", "-wal", "-shm"):
        path.with_name(path.name + end).unlink(missing_ok=True)


def sound_parts(journal: apsw.Connection, parts: Iterable[Part], newest: int) -> Iterator[Part]:
    """Those parts that were made of this journal: of another one that stood here, the last event has another id."""
    for part in parts:
        ids = list(journal.execute("SELECT hex(id) FROM events WHERE seq = ?", (part.upto,)))
        if part.upto <= newest and ids in ([], [(part.last_id,)]):
            yield part
