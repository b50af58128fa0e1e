"""Copies a journal from one engine to another: row by row, in an order that lets a copy that was broken off go on, and
then reads both again and compares them.

An unfinished copy is not a journal: no gateway starts on it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final, NamedTuple, Protocol

import msgspec

from gateway.journal.interface import JournalError

Row = tuple[Any, ...]
"""The values of a table's columns: numbers, texts, bytes, booleans and None. Times in columns of `MICROS` are in
microseconds since 1970."""
CopyProgress = Callable[[int, int], None]
ROWS: Final = 5000
BYTES: Final = 16 * 2**20
"""What one commit has, at most: rows, and bytes of their texts."""
INTEGER, REAL, TEXT, BYTES_, BOOLEAN, MICROS = "integer", "real", "text", "bytes", "boolean", "micros"


class CopiedTable(NamedTuple):
    """A table that every engine has in some form. Its rows are ordered by the first `keys` of its columns; texts are
    compared by their bytes in UTF-8."""

    name: str
    keys: int
    columns: dict[str, str]


TABLES: Final = (
    CopiedTable("events", 1, {
        "seq": INTEGER, "id": TEXT, "received_at": MICROS, "organisation": TEXT, "hook": TEXT, "conversation_id": TEXT,
        "customer_uid": TEXT, "readable": BOOLEAN, "conflict": BOOLEAN, "created": INTEGER, "digest": BYTES_,
        "natural_key": BYTES_, "name": TEXT, "raw": BYTES_,
    }),
    CopiedTable("cursors", 1, {
        "plugin": TEXT, "begins": INTEGER, "seq": INTEGER, "removed_at": MICROS, "epoch": INTEGER, "clean": BOOLEAN,
    }),
    CopiedTable("takes", 2, {"plugin": TEXT, "position": INTEGER, "hooks": TEXT}),
    CopiedTable("parked", 2, {
        "seq": INTEGER, "plugin": TEXT, "state": TEXT, "attempts": INTEGER, "next_at": REAL, "error": TEXT,
        "since": REAL, "conversation": TEXT, "replayed": BOOLEAN, "asked": BOOLEAN,
    }),
    CopiedTable("suspects", 2, {"seq": INTEGER, "plugin": TEXT, "crashes": INTEGER, "running": BOOLEAN}),
    CopiedTable("attempts", 3, {
        "seq": INTEGER, "plugin": TEXT, "at": MICROS, "number": INTEGER, "ms": REAL, "error": TEXT,
    }),
    CopiedTable("marks", 2, {"seq": INTEGER, "plugin": TEXT, "at": MICROS}),
    CopiedTable("operations", 1, {
        "number": INTEGER, "kind": TEXT, "filter": TEXT, "in_order": BOOLEAN, "state": TEXT, "begun_at": REAL,
        "ended_at": REAL, "at_plugin": TEXT, "at_seq": INTEGER, "matched": INTEGER, "done": INTEGER,
        "value_records": INTEGER, "told": TEXT, "error": TEXT,
    }),
    CopiedTable("replays", 1, {
        "number": INTEGER, "plugin": TEXT, "filter": TEXT, "position": INTEGER, "until": INTEGER, "matched": INTEGER,
        "done": INTEGER, "finished_at": REAL,
    }),
    CopiedTable("retried", 2, {"seq": INTEGER, "plugin": TEXT, "operation": INTEGER, "attempts": INTEGER}),
    CopiedTable("value_records", 1, {
        "number": INTEGER, "at": MICROS, "organisation": TEXT, "customer_uid": TEXT, "address": TEXT, "fields": TEXT,
        "status": INTEGER,
    }),
    CopiedTable("notes", 1, {"name": TEXT, "value": TEXT}),
    CopiedTable("head", 1, {"seq": INTEGER}),
)  # fmt: skip
"""Everything that a journal holds, but for what is made of it again: checksums, search keys and leases. `head` has one
row, the newest position that was given out."""
NOTES: Final = ("note ", "erasure ")
"""What the names of notes begin with; others are an engine's own."""


class Copied(msgspec.Struct):
    """What a copy has: the number of rows by table, and whether an earlier call had begun it."""

    source: str
    target: str
    events: int
    rows: dict[str, int]
    digest: str
    resumed: bool


class CopySource(Protocol):
    """A journal to copy from, that nothing writes to meanwhile."""

    name: str
    """What it is called in sentences: a path, or a database without its password."""

    def state(self) -> str:
        """A text that differs from an earlier one where the journal was changed since."""

    def rows(self, table: CopiedTable, after: Row | None = None) -> Iterator[Row]:
        """The rows in order, after the one with this key."""

    def close(self) -> None:
        """Let go of it."""


class CopyTarget(CopySource, Protocol):
    """Where a copy is made. `JournalError` where there is already something else."""

    def begun(self) -> tuple[str, str] | None:
        """The name and the state of the source of the unfinished copy that is there, or None for an empty place.
        `JournalError` where there is a journal."""

    def begin(self, source: str, state: str) -> None:
        """Begin a copy, in place of an unfinished one."""

    def last(self, table: CopiedTable) -> Row | None:
        """The key of the last row that is kept, or None."""

    def put(self, table: CopiedTable, rows: list[Row]) -> None:
        """Keep rows, which come in order. Durable on return, all or none."""

    def finish(self) -> None:
        """Make the copy a journal."""


def copy(source: CopySource, target: CopyTarget, progress: CopyProgress | None = None) -> Copied:
    """Copy, or go on where an earlier call was broken off; then compare. `progress` gets events (done, total), each
    counted twice: copied, and compared. `JournalError`."""
    state, begun = source.state(), target.begun()
    if begun is not None and begun[0] != source.name:
        raise JournalError(
            f"{target.name} has an unfinished copy of {begun[0]}; complete that one, remove it, or name another place"
        )
    resumed = begun == (source.name, state)
    if not resumed:
        target.begin(source.name, state)
    total = _newest(source)
    for table in TABLES:
        for rows in _batches(source.rows(table, target.last(table))):
            target.put(table, rows)
            if progress is not None and table is TABLES[0]:
                progress(rows[-1][0], 2 * total)
    counts, digest = _compare(source, target, progress, total)
    if source.state() != state:
        raise JournalError(f"{source.name} was written to meanwhile; stop its gateways, then begin again")
    target.finish()
    return Copied(source.name, target.name, counts["events"], counts, digest, resumed)


def _newest(source: CopySource) -> int:
    return int(next(source.rows(TABLES[-1]))[0])


def _compare(
    source: CopySource, target: CopyTarget, progress: CopyProgress | None, total: int
) -> tuple[dict[str, int], str]:
    """Read both again; the numbers of rows, and the digest over all. `JournalError` where they differ."""
    counts: dict[str, int] = {}
    whole = hashlib.blake2b(digest_size=16)
    for table in TABLES:
        here = _digest(source.rows(table), progress if table is TABLES[0] else None, total)
        there = _digest(target.rows(table), None, total)
        if here != there:
            target.begin(source.name, "")  # what is there is not to be gone on with
            raise JournalError(
                f"the copy differs from {source.name}: {table.name} has {there[0]} rows there and {here[0]} here"
                f"{', with other values' if here[0] == there[0] else ''}. Nothing was moved; begin again"
            )
        counts[table.name] = here[0]
        whole.update(here[1])
    return counts, whole.hexdigest()


def _digest(rows: Iterator[Row], progress: CopyProgress | None, total: int) -> tuple[int, bytes]:
    found, count = hashlib.blake2b(digest_size=16), 0
    encode = msgspec.msgpack.Encoder().encode
    for count, row in enumerate(rows, 1):
        found.update(encode(row))
        if progress is not None and count % ROWS == 0:
            progress(total + row[0], 2 * total)
    return count, found.digest()


def _batches(rows: Iterable[Row]) -> Iterator[list[Row]]:
    batch: list[Row] = []
    size = 0
    for row in rows:
        batch.append(row)
        size += sum(len(value) for value in row if isinstance(value, str | bytes))
        if len(batch) == ROWS or size >= BYTES:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch
