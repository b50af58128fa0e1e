"""A journal in a file as the source of a copy to another engine, and as the target of one: see `journal/copying.py`."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import apsw
import msgspec

from gateway.config.tables import Config
from gateway.decoding import Decoder
from gateway.events import UNKNOWN
from gateway.journal.copying import BOOLEAN, NOTES, TABLES, TEXT, CopiedTable, Row
from gateway.journal.interface import JournalError
from gateway.journal.lock import JournalLock
from gateway.journal.postgresql.columns import natural_key, storable
from gateway.journal.sqlite.checksum import EVENT, SEAL, checksum, register
from gateway.journal.sqlite.connection import make_folder, open_reader_connection, why
from gateway.journal.sqlite.layout import LAYOUT, make_private, sync, upgrade
from gateway.journal.sqlite.repair import examine

COMMAND: Final = "`gateway journal copy`"
_HASHED: Final = "hashed:"
"""What a natural key begins with of which only the hash is known: it is equal to no other."""
_MICROS: Final = {
    ("cursors", "removed_at"): "CAST(round(removed_at * 1000000) AS INTEGER)",
    ("marks", "at"): "CAST(round(at * 1000000) AS INTEGER)",
}
_NOTES: Final = " OR ".join(f"key GLOB '{name}*'" for name in NOTES)
_SOURCES: Final = {
    "notes": f"(SELECT key AS name, CAST(value AS TEXT) AS value FROM meta WHERE {_NOTES})",
    "head": "(SELECT max((SELECT coalesce(max(seq), 0) FROM events), (SELECT coalesce(max(max(seq, begins)), 0) FROM"
    " cursors), coalesce((SELECT value FROM meta WHERE key = 'erased up to'), 0)) AS seq)",
}
"""In place of a table of that name."""
_COPY: Final = "copy"
"""The note of an unfinished copy: its source, and the state of that."""


class _FileRows:
    """The rows of a journal's tables."""

    name: str
    _connection: apsw.Connection

    def rows(self, table: CopiedTable, after: Row | None = None) -> Iterator[Row]:
        keys = ", ".join(list(table.columns)[: table.keys])
        columns = ", ".join(_MICROS.get((table.name, name), name) for name in table.columns)
        condition = "" if after is None else f"WHERE ({keys}) > ({', '.join('?' * table.keys)})"
        source = _SOURCES.get(table.name, table.name)
        neutral = [_NEUTRAL.get((table.name, name)) or _OF_KIND.get(kind) for name, kind in table.columns.items()]
        try:
            for row in self._connection.execute(f"SELECT {columns} FROM {source} {condition} ORDER BY {keys}", after):
                yield tuple(
                    value if make is None or value is None else make(value)
                    for make, value in zip(neutral, row, strict=True)
                )
        except (apsw.Error, UnicodeDecodeError) as error:
            raise JournalError(f"the journal {self.name} cannot be read: {error}") from error


def _key(text: str) -> bytes:
    return bytes.fromhex(text.removeprefix(_HASHED)) if text.startswith(_HASHED) else natural_key(text)


_NEUTRAL: Final[dict[tuple[str, str], Callable[[Any], Any]]] = {("events", "natural_key"): _key}
_OF_KIND: Final[dict[str, Callable[[Any], Any]]] = {BOOLEAN: bool, TEXT: storable}


class FileSource(_FileRows):
    """A journal in a file to copy from; it is locked, and was looked through for damage."""

    def __init__(self, path: Path) -> None:
        self.name = str(path.absolute())
        with contextlib.ExitStack() as undo:
            if not path.exists():
                raise JournalError(f"there is no journal at {path}")
            self._lock = undo.enter_context(JournalLock(path, COMMAND))
            if not examine(path).ok:
                raise JournalError(f"the journal {path} is damaged; `gateway journal check` tells more, and repairs it")
            try:
                self._connection = open_reader_connection(path)
            except (apsw.Error, OSError) as error:
                raise JournalError(f"the journal {path} cannot be read: {why(error, path)}") from error
            undo.pop_all()

    def state(self) -> str:
        return f"{self._connection.pragma('application_id')}.{LAYOUT}"  # each opening for writing changes it

    def close(self) -> None:
        self._connection.close()
        self._lock.release()


class FileTarget(_FileRows):
    """A file that does not exist yet. Until the copy is complete, it has a name that no gateway opens."""

    def __init__(self, path: Path, config: Config) -> None:
        self.name = str(path.absolute())
        self._path = path
        self._part = path.with_name(f"{path.name}.copy")
        self._decoder = Decoder(config)
        self._lock = JournalLock(path, COMMAND).take()
        self._open = False

    def begun(self) -> tuple[str, str] | None:
        if self._path.exists() or self._path.is_symlink():
            raise JournalError(f"{self._path} exists; name another file, or move that one away")
        if not self._part.exists() or not self._part.stat().st_size:
            return None
        try:
            self._connect()
            [(note,)] = self._connection.execute("SELECT value FROM meta WHERE key = ?", (_COPY,))
            return msgspec.json.decode(note, type=tuple[str, str])
        except (apsw.Error, ValueError) as error:
            raise JournalError(f"{self._part} is not an unfinished copy; move it away, then begin again") from error

    def begin(self, source: str, state: str) -> None:
        self._disconnect()
        for ending in ("-journal", ""):
            self._part.with_name(self._part.name + ending).unlink(missing_ok=True)
        try:
            make_folder(self._part.parent)
            make_private(self._part)
            self._connect()
            upgrade(self._connection, self._part, copy=False)
            note = msgspec.json.encode((source, state)).decode()
            self._connection.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (_COPY, note))
        except (apsw.Error, OSError) as error:
            raise JournalError(f"the copy {self._part} cannot be made: {why(error, self._part)}") from error

    def last(self, table: CopiedTable) -> Row | None:
        if table.name == "head":
            return None
        keys = list(table.columns)[: table.keys]
        order = ", ".join(f"{key} DESC" for key in keys)
        source = _SOURCES.get(table.name, table.name)
        found = list(self._connection.execute(f"SELECT {', '.join(keys)} FROM {source} ORDER BY {order} LIMIT 1"))
        return found[0] if found else None

    def put(self, table: CopiedTable, rows: list[Row]) -> None:
        try:
            with self._connection:
                self._insert(table, rows)
        except apsw.Error as error:
            raise JournalError(f"the copy {self._part} cannot be written: {error}") from error

    def _insert(self, table: CopiedTable, rows: list[Row]) -> None:
        if table.name == "head":
            self._connection.execute("INSERT OR REPLACE INTO meta VALUES ('erased up to', ?)", rows[0])
        elif table.name == "notes":
            self._connection.executemany("INSERT OR REPLACE INTO meta VALUES (?, ?)", rows)
        elif table.name == "events":
            marks = ",".join("?" * (len(table.columns) + 1))
            self._connection.executemany(
                f"INSERT INTO events ({EVENT}, checksum) VALUES ({marks})", map(self._event, rows)
            )
        else:
            names = list(table.columns)
            self._connection.executemany(
                f"INSERT INTO {table.name} ({', '.join(names)}) VALUES ({','.join('?' * len(names))})",
                (tuple(_in_seconds(table, row)) for row in rows),
            )

    def _event(self, row: Row) -> Row:
        *first, readable, conflict, created, digest, key, name, raw = row
        values = (*first, int(readable), int(conflict), created, digest, self._text_of(row, key), raw, name)
        return (*values, checksum(values))

    def _text_of(self, row: Row, key: bytes | None) -> str | None:
        """The natural key whose short form is known."""
        if key is None:
            return None
        text = key.decode(errors="replace")
        if natural_key(text) != key:
            _, _, _, organisation, hook, *_, raw = row
            found = self._decoder.decode_kept(organisation, raw, hook, None if hook != UNKNOWN else row[12]).natural_key
            text = f"{organisation}/{hook}/{found}"
        return text if natural_key(text) == key else f"{_HASHED}{key.hex()}"

    def finish(self) -> None:
        try:
            with self._connection:
                for table in TABLES:
                    if table.name in SEAL:
                        self._connection.execute(SEAL[table.name])
                self._connection.execute("DELETE FROM meta WHERE key = ?", (_COPY,))
            self._disconnect()
            sync(self._part)
            self._part.rename(self._path)
            sync(self._path.absolute().parent)
        except (apsw.Error, OSError) as error:
            raise JournalError(f"the copy {self._part} cannot become {self._path}: {error}") from error

    def _connect(self) -> None:
        self._connection = apsw.Connection(str(self._part))
        self._open = True
        register(self._connection)
        self._connection.execute("PRAGMA journal_mode = DELETE")
        self._connection.execute("PRAGMA synchronous = FULL")

    def _disconnect(self) -> None:
        if self._open:
            self._connection.close()
            self._open = False

    def close(self) -> None:
        self._disconnect()
        self._lock.release()

    def state(self) -> str:
        return ""


def _from_micros(table: CopiedTable, name: str) -> bool:
    """Whether the file has a time in seconds."""
    return (table.name, name) in _MICROS


def _in_seconds(table: CopiedTable, row: Row) -> Iterator[Any]:
    for name, value in zip(table.columns, row, strict=True):
        yield value / 1e6 if _from_micros(table, name) and value is not None else value
